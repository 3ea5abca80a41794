//! The process database: what tasks of a name do at each stage of their life.
//!
//! Problem: a task that has just been forked has no history, and short-lived programs (compilers, shells) never get one.
//! How: the mean log2 burst per name and stage (the first burst, the second, … the later ones), and per name, stage and
//! name of the waker. Those with enough observations go into a map of the kernel, where a wake-up looks them up; they
//! are two features of the model, so each class of tasks learns how far to trust them.
//! Possible limitation: a name is not a program. Whoever renames threads, or runs all work under one name (`java`,
//! `python3`), gets profiles that say little; the model then gives them little weight.

mod file;
mod keeper;

use std::collections::{HashMap, HashSet};

use scx_ml_text::{Show, name_of};
use serde::{Deserialize, Serialize};

use crate::kernel::bpf::intf::{
    class_bounds_YOUNG_BURSTS as YOUNG_BURSTS, scx_ml_consts_PROFILES_MAX as PROFILES_MAX,
};
use crate::kernel::native;
use crate::kernel::sample::Sample;
use crate::model::LOG2_MAX;

pub use file::ProfilesError;
pub use keeper::{Keeper, KeeperConfig};

/// Profiles that are kept at most: as many as the kernel's map holds.
pub const CAPACITY: usize = PROFILES_MAX as usize;

/// Of those, profiles that have not been observed often enough to be used: a flood of new names drives out no others.
const UNPROVEN_MAX: usize = CAPACITY / 4;

/// Fewest observations before a profile is used.
const MIN_OBSERVATIONS: f64 = 5.0;

/// Largest standard error of its mean with which a profile is used, octaves.
const MAX_STANDARD_ERROR: f64 = 0.5;

/// A profile forgets: its mean is over about this many of the newest observations.
const MEMORY: f64 = 256.0;

/// A profile that was not observed for this long is dropped, seconds.
const MAX_AGE_S: u64 = 14 * 86_400;

/// The kernel is told when a mean has moved by this much, Q8 octaves.
const TELL_Q8: i32 = 8;

/// What is known about a name at a stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// Name of the task at its wake-up, at most 15 bytes, as it is shown.
    pub name: String,
    /// The same of the waker; None: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waker: Option<String>,
    /// Bursts before this one; [`YOUNG_BURSTS`] stands for that many and more.
    pub stage: u32,
    /// Observations, however many bursts each stands for.
    pub observations: f64,
    /// Mean log2(burst in ns), the newest count most.
    pub mean: f64,
    /// Variance about it, octaves².
    pub variance: f64,
    /// Seconds since 1970.
    pub last_seen_s: u64,
}

impl Profile {
    fn observe(&mut self, log_burst: f64, now_s: u64) {
        self.observations += 1.0;
        let newest = 1.0 / self.observations.min(MEMORY);
        let off = log_burst - self.mean;
        self.mean += newest * off;
        self.variance = (1.0 - newest) * (self.variance + newest * off * off);
        self.last_seen_s = now_s;
    }

    /// Whether it was observed often enough to be used.
    fn is_proven(&self) -> bool {
        self.observations >= MIN_OBSERVATIONS
    }

    /// Standard error of the mean, octaves.
    pub fn standard_error(&self) -> f64 {
        (self.variance / self.observations.clamp(1.0, MEMORY)).sqrt()
    }

    /// What the kernel is to know: the mean in Q8, once there is enough to tell.
    fn usable_q8(&self) -> Option<i32> {
        let enough = self.is_proven() && self.standard_error() <= MAX_STANDARD_ERROR;
        enough.then(|| (self.mean * 256.0).round() as i32)
    }

    fn key(&self) -> u32 {
        let waker = self.waker.as_deref().map_or(0, key_of_shown);
        native::profile_key(key_of_shown(&self.name), waker, self.stage)
    }

    fn check(&self) -> Result<(), String> {
        let name_ok = |n: &str| name_of(n).is_some_and(|n| (1..=15).contains(&n.len()));
        let sound = name_ok(&self.name)
            && self.waker.as_deref().is_none_or(name_ok)
            && self.stage <= YOUNG_BURSTS
            && self.observations.is_finite()
            && self.observations >= 1.0
            && (0.0..=LOG2_MAX).contains(&self.mean)
            && self.variance.is_finite()
            && self.variance >= 0.0;
        if sound {
            return Ok(());
        }
        Err(format!(
            "the profile of '{}' is impossible",
            self.name.shown()
        ))
    }
}

/// [`native::name_key_of`] of the name that is shown so.
fn key_of_shown(shown: &str) -> u32 {
    native::name_key_of(name_of(shown).unwrap_or_default())
}

/// Profiles by their key in the kernel's map.
#[derive(Debug, Default)]
pub struct Profiles {
    profiles: HashMap<u32, Profile>,
    /// What the kernel has been told.
    told: HashMap<u32, i32>,
    /// Names by [`native::name_key_of`]: a record has its waker's key only.
    names: HashMap<u32, String>,
    /// Profiles that are not proven.
    unproven: usize,
}

impl Profiles {
    /// Take a burst in. `now_s`: seconds since 1970; a clock that steps back ages nothing.
    pub fn observe(&mut self, sample: &Sample, now_s: u64) {
        let record = &sample.0;
        // A task may have an empty name, which says nothing.
        if record.name_key == 0 || record.comm[0] == 0 {
            return;
        }
        self.names
            .entry(record.name_key)
            .or_insert_with(|| sample.comm());
        self.add(sample, 0, now_s);
        if self.names.contains_key(&record.waker_name_key) {
            self.add(sample, record.waker_name_key, now_s);
        }
        if self.unproven > UNPROVEN_MAX {
            self.evict(UNPROVEN_MAX / 4);
        } else if self.profiles.len() > CAPACITY {
            self.evict(CAPACITY / 8);
        }
    }

    /// Take a burst into the profile of its name and of this waker; 0: of any. Their names must be known.
    fn add(&mut self, sample: &Sample, waker_key: u32, now_s: u64) {
        let name_key = sample.0.name_key;
        let stage = sample.0.bursts_before.min(YOUNG_BURSTS);
        let names = &self.names;
        let profile = self
            .profiles
            .entry(native::profile_key(name_key, waker_key, stage))
            .or_insert_with(|| Profile {
                name: names.get(&name_key).cloned().unwrap_or_default(),
                waker: names.get(&waker_key).cloned(),
                stage,
                observations: 0.0,
                mean: 0.0,
                variance: 0.0,
                last_seen_s: 0,
            });
        let was_unproven = profile.observations > 0.0 && !profile.is_proven();
        profile.observe(sample.log_burst(), now_s);
        self.unproven += usize::from(!profile.is_proven());
        self.unproven -= usize::from(was_unproven);
    }

    /// Make room: so many go, first those that are not proven; of them those that were not seen for the longest time, among
    /// equals those seen least.
    fn evict(&mut self, count: usize) {
        let mut order: Vec<(bool, u64, u64, u32)> = self
            .profiles
            .iter()
            .map(|(&key, p)| (p.is_proven(), p.last_seen_s, p.observations as u64, key))
            .collect();
        order.sort_unstable();
        for (.., key) in order.iter().take(count) {
            self.profiles.remove(key);
        }
        self.forget_names();
    }

    /// Names that no profile mentions. To be called after any were removed.
    fn forget_names(&mut self) {
        self.unproven = self.profiles.values().filter(|p| !p.is_proven()).count();
        let mentioned: HashSet<&str> = self
            .profiles
            .values()
            .flat_map(|p| std::iter::once(p.name.as_str()).chain(p.waker.as_deref()))
            .collect();
        self.names
            .retain(|_, name| mentioned.contains(name.as_str()));
    }

    /// Drop what was not observed for long.
    pub fn age(&mut self, now_s: u64) {
        self.profiles
            .retain(|_, p| now_s.saturating_sub(p.last_seen_s) <= MAX_AGE_S);
        self.forget_names();
    }

    /// What the kernel is to be told: key, and the mean log2 burst in Q8 or None to forget it. Counts as told.
    pub fn changes(&mut self) -> Vec<(u32, Option<i32>)> {
        let mut changes = vec![];
        for (&key, profile) in &self.profiles {
            let told = self.told.get(&key).copied();
            match (profile.usable_q8(), told) {
                (Some(now), Some(before)) if (now - before).abs() < TELL_Q8 => {}
                (None, None) => {}
                (now, _) => changes.push((key, now)),
            }
        }
        let gone = self
            .told
            .keys()
            .filter(|key| !self.profiles.contains_key(key));
        changes.extend(gone.map(|&key| (key, None)));
        // What is forgotten goes first: the kernel's map may be full.
        changes.sort_unstable_by_key(|(_, value)| value.is_some());
        for (key, value) in &changes {
            match value {
                Some(value) => self.told.insert(*key, *value),
                None => self.told.remove(key),
            };
        }
        changes
    }

    /// Number of profiles, and how many of them the kernel uses.
    pub fn counts(&self) -> (usize, usize) {
        (self.profiles.len(), self.told.len())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::kernel::bpf::intf::burst_sample;

    pub fn sample(name: &str, waker: &str, seen: u32, log_burst: u32) -> Sample {
        let mut record = burst_sample {
            burst_ns: 1 << log_burst,
            name_key: native::name_key_of(name),
            waker_name_key: if waker.is_empty() {
                0
            } else {
                native::name_key_of(waker)
            },
            bursts_before: seen,
            ..Default::default()
        };
        for (to, from) in record.comm.iter_mut().zip(name.bytes()) {
            *to = from as _;
        }
        Sample(record)
    }

    fn key(name: &str, waker: &str, seen: u32) -> u32 {
        let waker = if waker.is_empty() {
            0
        } else {
            native::name_key_of(waker)
        };
        native::profile_key(native::name_key_of(name), waker, seen)
    }

    pub fn observe(profiles: &mut Profiles, times: usize, sample: Sample) {
        (0..times).for_each(|_| profiles.observe(&sample, 1_000));
    }

    #[test]
    fn a_profile_is_told_once_there_is_enough_to_tell() {
        let mut profiles = Profiles::default();
        observe(&mut profiles, 4, sample("cc1", "", 0, 24));
        assert_eq!(profiles.changes(), []);
        observe(&mut profiles, 1, sample("cc1", "", 0, 24));
        assert_eq!(profiles.changes(), [(key("cc1", "", 0), Some(24 * 256))]);
        observe(&mut profiles, 50, sample("cc1", "", 0, 24));
        assert_eq!(profiles.changes(), [], "nothing has moved");
    }

    #[test]
    fn what_varies_too_much_is_not_told_until_its_mean_is_certain() {
        let mut profiles = Profiles::default();
        for i in 0..6 {
            observe(&mut profiles, 1, sample("sh", "", 0, 14 + 2 * i));
        }
        assert_eq!(profiles.changes(), []);
        for i in 0..600 {
            observe(&mut profiles, 1, sample("sh", "", 0, 14 + 2 * (i % 6)));
        }
        assert_eq!(profiles.changes().len(), 1);
    }

    #[test]
    fn stages_and_wakers_are_told_apart() {
        let mut profiles = Profiles::default();
        observe(&mut profiles, 1, sample("make", "", 7, 15));
        for (seen, log) in [(0, 12), (1, 22), (9, 16), (900, 16)] {
            observe(&mut profiles, 6, sample("cc1", "make", seen, log));
        }
        let told: HashMap<_, _> = profiles.changes().into_iter().collect();
        assert_eq!(told[&key("cc1", "", 0)], Some(12 * 256));
        assert_eq!(told[&key("cc1", "make", 1)], Some(22 * 256));
        assert_eq!(told[&key("cc1", "make", 5)], Some(16 * 256));
        assert_eq!(told.len(), 6);
    }

    #[test]
    fn the_database_is_bounded_and_what_goes_is_taken_from_the_kernel() {
        let mut profiles = Profiles::default();
        let old = sample("old", "", 0, 20);
        (0..6).for_each(|_| profiles.observe(&old, 1));
        assert_eq!(profiles.changes().len(), 1);
        for i in 0..2 * CAPACITY {
            observe(&mut profiles, 5, sample(&format!("t{i}"), "", 0, 20));
        }
        assert!(profiles.counts().0 <= CAPACITY);
        assert!(profiles.names.len() <= CAPACITY);
        assert!(profiles.unproven <= 1, "{}", profiles.unproven);
        assert!(profiles.changes().contains(&(key("old", "", 0), None)));
    }

    #[test]
    fn a_flood_of_new_names_is_bounded_and_drives_out_nothing_that_is_known() {
        let mut profiles = Profiles::default();
        for i in 0..1_000 {
            observe(&mut profiles, 6, sample(&format!("known{i}"), "", 0, 20));
        }
        assert_eq!(profiles.changes().len(), 1_000);
        for i in 0..20 * CAPACITY {
            profiles.observe(&sample(&format!("new{i}"), "known1", 0, 20), 2_000);
        }
        assert!(profiles.unproven <= UNPROVEN_MAX, "{}", profiles.unproven);
        assert!(profiles.names.len() <= 1_000 + UNPROVEN_MAX);
        // The waker's own profile is not among them: it was not observed.
        assert_eq!(profiles.changes(), []);
    }

    #[test]
    fn a_name_is_keyed_as_the_kernel_keys_it() {
        // 16 bytes of comm as two little-endian words.
        let lo = u64::from_le_bytes(*b"kworker/");
        let hi = u64::from_le_bytes(*b"0:1\0\0\0\0\0");
        assert_eq!(native::name_key_of("kworker/0:1"), native::name_key(lo, hi));
        assert_ne!(native::name_key_of("a"), native::name_key_of("b"));
        assert_eq!(
            native::name_key_of("123456789012345"),
            native::name_key_of("1234567890123456")
        );
    }
}
