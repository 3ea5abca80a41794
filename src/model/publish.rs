//! Publication: a model into the kernel's maps, whole or not at all.

use std::sync::Mutex;

use anyhow::{Context, Result};
use libbpf_rs::{MapCore, MapFlags, MapHandle};
use log::debug;
use rustix::process::{Signal, getpid, kill_process};
use zerocopy::IntoBytes;

use crate::kernel::bpf::NR_CLASSES;
use crate::kernel::bpf::intf::{
    self, learned, model_ctl, scx_ml_consts_NR_MODEL_SLOTS as NR_MODEL_SLOTS,
};
use crate::kernel::fault::{Fault, is_asked_for};
use crate::model::Model;
use crate::model::sink::{ModelSink, NotSet};
use crate::model::wanted::Wanted;

/// The maps of a loaded scheduler.
pub struct ModelMaps {
    pub models: MapHandle,
    pub ctl: MapHandle,
    pub profiles: MapHandle,
    pub learned: MapHandle,
}

/// Writes models into the maps of whichever scheduler instance is attached. Outlives them: when the scheduler is
/// restarted, [`MapSink::connect`] hands the published model on.
#[derive(Default)]
pub struct MapSink {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    maps: Option<ModelMaps>,
    /// Of the last model, published or withdrawn. Generations never repeat, but for one that was never active.
    generation: u64,
    /// What is published: the model as the kernel reads it.
    current: Option<intf::model>,
    profiles: Wanted,
    learned: learned,
}

impl MapSink {
    /// A scheduler was loaded: publish what is current into its maps, and everything later.
    ///
    /// # Errors
    /// When its maps do not take it. A profile that is not taken is no reason: the next [`ModelSink::set_profiles`] tries it
    /// again, and says so if it must.
    pub fn connect(&self, maps: ModelMaps) -> Result<()> {
        let mut state = self.lock();
        state.profiles.forgotten();
        let tell = |key, value| set_profile(&maps, key, value);
        if let Err(e) = state.profiles.set(&[], tell) {
            debug!("{e}");
        }
        state.maps = Some(maps);
        state.set_learned()?;
        match state.current {
            Some(model) => state.write(model).map(drop),
            None => Ok(()),
        }
    }

    /// The scheduler is gone; models are kept for the next.
    pub fn disconnect(&self) {
        self.lock().maps = None;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // A panic while the lock was held leaves at worst a slot whose generation is 0: no model.
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl ModelSink for MapSink {
    fn publish(&self, model: &Model, expires_ns: u64) -> Result<u64> {
        let mut quantised = model.quantise()?;
        quantised.expires_ns = expires_ns;
        self.lock().write(quantised)
    }

    fn withdraw(&self) -> Result<()> {
        let mut state = self.lock();
        state.current = None;
        state.set_active(0)
    }

    fn set_first_quantum(&self, quantum_ns: Option<u64>) -> Result<()> {
        let mut state = self.lock();
        state.learned.first_quantum_ns = quantum_ns.unwrap_or(0);
        state.set_learned()
    }

    fn set_thinning(&self, shifts: [u32; NR_CLASSES]) -> Result<()> {
        let mut state = self.lock();
        state.learned.thin_shift = shifts;
        state.set_learned()
    }

    fn set_profiles(&self, changes: &[(u32, Option<i32>)]) -> Result<(), NotSet> {
        let mut state = self.lock();
        let State { maps, profiles, .. } = &mut *state;
        profiles.set(changes, |key, value| match maps {
            Some(maps) => set_profile(maps, key, value),
            None => Ok(()),
        })
    }
}

/// End here and now, where a test wants to see what is left then.
fn die_if_asked() {
    if is_asked_for(Fault::PublishKilled) {
        // It does not return.
        let _ = kill_process(getpid(), Signal::KILL);
    }
}

impl State {
    /// Fill the slot that is not in use, then make it the one that is. After a failure it is still not in use: the next
    /// model goes there, and the one that is active stays whole.
    fn write(&mut self, mut model: intf::model) -> Result<u64> {
        let generation = self.generation + 1;
        let slot = (generation % u64::from(NR_MODEL_SLOTS)) as u32;
        model.generation = 0;
        self.set_slot(slot, &model)?;
        model.generation = generation;
        self.set_slot(slot, &model)?;
        die_if_asked();
        self.set_active(generation)?;
        self.generation = generation;
        self.current = Some(model);
        Ok(generation)
    }

    fn set_slot(&self, slot: u32, model: &intf::model) -> Result<()> {
        let Some(maps) = &self.maps else {
            return Ok(());
        };
        maps.models
            .update(&slot.to_ne_bytes(), model.as_bytes(), MapFlags::ANY)
            .with_context(|| format!("cannot write a model into slot {slot} of the kernel's map"))
    }

    fn set_learned(&self) -> Result<()> {
        let Some(maps) = &self.maps else {
            return Ok(());
        };
        maps.learned
            .update(&0u32.to_ne_bytes(), self.learned.as_bytes(), MapFlags::ANY)
            .context("cannot tell the kernel what the load asks for")
    }

    fn set_active(&self, generation: u64) -> Result<()> {
        let Some(maps) = &self.maps else {
            return Ok(());
        };
        let ctl = model_ctl { generation };
        maps.ctl
            .update(&0u32.to_ne_bytes(), ctl.as_bytes(), MapFlags::ANY)
            .with_context(|| format!("cannot make model generation {generation} the active one"))
    }
}

fn set_profile(maps: &ModelMaps, key: u32, value: Option<i32>) -> Result<()> {
    let key = key.to_ne_bytes();
    match value {
        Some(value) => maps
            .profiles
            .update(&key, &value.to_ne_bytes(), MapFlags::ANY)
            .context("cannot write a profile into the kernel's map"),
        // One that the map never had is as good as removed.
        None => match maps.profiles.delete(&key) {
            Err(e) if e.kind() != libbpf_rs::ErrorKind::NotFound => {
                Err(e).context("cannot remove a profile from the kernel's map")
            }
            _ => Ok(()),
        },
    }
}
