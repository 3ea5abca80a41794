//! The profiles that the kernel is to have, and which of them it may not: an update of a hash map can fail for a moment.

use std::collections::{HashMap, HashSet};

use anyhow::Result;

use crate::model::sink::NotSet;

/// See the module.
#[derive(Default)]
pub struct Wanted {
    /// Those that were set and not removed.
    profiles: HashMap<u32, i32>,
    /// Keys that are to be set or removed yet.
    unset: HashSet<u32>,
}

impl Wanted {
    /// The kernel has none of them any more: all are to be set anew.
    pub fn forgotten(&mut self) {
        self.unset = self.profiles.keys().copied().collect();
    }

    /// Take `changes` in, and `tell` the kernel those, and what it was not told before for `tell` had failed. What is removed
    /// goes first: the kernel's map may be full.
    ///
    /// # Errors
    /// When some of them could not be told; each was tried.
    pub fn set(
        &mut self,
        changes: &[(u32, Option<i32>)],
        mut tell: impl FnMut(u32, Option<i32>) -> Result<()>,
    ) -> Result<(), NotSet> {
        for &(key, value) in changes {
            match value {
                Some(value) => self.profiles.insert(key, value),
                None => self.profiles.remove(&key),
            };
            self.unset.insert(key);
        }
        let mut to_tell: Vec<(u32, Option<i32>)> = self
            .unset
            .iter()
            .map(|key| (*key, self.profiles.get(key).copied()))
            .collect();
        to_tell.sort_unstable_by_key(|(_, value)| value.is_some());

        let mut first = None;
        for (key, value) in to_tell {
            match tell(key, value) {
                Ok(()) => {
                    self.unset.remove(&key);
                }
                Err(e) => first = first.or(Some(e)),
            }
        }
        let Some(first) = first else { return Ok(()) };
        Err(NotSet {
            missing: self
                .unset
                .iter()
                .filter(|key| self.profiles.contains_key(key))
                .count(),
            first,
            others: self.unset.len() - 1,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    /// A map of the kernel that refuses some keys.
    #[derive(Default)]
    struct Map {
        has: HashMap<u32, i32>,
        refuses: Vec<u32>,
        calls: Vec<(u32, Option<i32>)>,
    }

    impl Map {
        fn tell(&mut self, key: u32, value: Option<i32>) -> Result<()> {
            self.calls.push((key, value));
            if self.refuses.contains(&key) {
                return Err(anyhow!("no memory for {key}"));
            }
            match value {
                Some(value) => self.has.insert(key, value),
                None => self.has.remove(&key),
            };
            Ok(())
        }

        fn set(&mut self, wanted: &mut Wanted, changes: &[(u32, Option<i32>)]) -> Option<NotSet> {
            self.calls.clear();
            wanted
                .set(changes, |key, value| self.tell(key, value))
                .err()
        }

        fn sorted(&self) -> Vec<(u32, i32)> {
            let mut all: Vec<_> = self.has.iter().map(|(&k, &v)| (k, v)).collect();
            all.sort();
            all
        }
    }

    #[test]
    fn what_fails_keeps_nothing_else_back_and_is_told_by_the_next_call() {
        let (mut wanted, mut map) = (Wanted::default(), Map::default());
        map.refuses = vec![2];
        let changes = [(1, Some(10)), (2, Some(20)), (3, Some(30))];
        let not_set = map.set(&mut wanted, &changes).expect("one is refused");
        assert_eq!((not_set.missing, not_set.others), (1, 0));
        assert_eq!(map.sorted(), [(1, 10), (3, 30)]);

        // As it is wanted by then; the others are not told again.
        assert!(map.set(&mut wanted, &[(2, Some(21))]).is_some());
        map.refuses.clear();
        assert!(map.set(&mut wanted, &[]).is_none());
        assert_eq!(map.calls, [(2, Some(21))]);
        assert_eq!(map.sorted(), [(1, 10), (2, 21), (3, 30)]);
        assert!(map.set(&mut wanted, &[]).is_none() && map.calls.is_empty());
    }

    #[test]
    fn what_could_not_be_removed_is_removed_later_and_first() {
        let (mut wanted, mut map) = (Wanted::default(), Map::default());
        assert!(map.set(&mut wanted, &[(1, Some(10))]).is_none());
        map.refuses = vec![1];
        let not_set = map.set(&mut wanted, &[(1, None)]).expect("refused");
        assert_eq!((not_set.missing, not_set.others), (0, 0));
        map.refuses.clear();
        assert!(map.set(&mut wanted, &[(2, Some(20))]).is_none());
        assert_eq!(map.calls, [(1, None), (2, Some(20))]);
        assert_eq!(map.sorted(), [(2, 20)]);
    }

    #[test]
    fn another_kernel_map_gets_all_that_is_wanted() {
        let (mut wanted, mut map) = (Wanted::default(), Map::default());
        let changes = [(1, Some(10)), (2, Some(20)), (1, None)];
        assert!(map.set(&mut wanted, &changes).is_none());
        wanted.forgotten();
        let mut restarted = Map {
            refuses: vec![2],
            ..Default::default()
        };
        assert!(restarted.set(&mut wanted, &[]).is_some());
        restarted.refuses.clear();
        assert!(restarted.set(&mut wanted, &[]).is_none());
        assert_eq!(restarted.sorted(), [(2, 20)]);
    }
}
