//! Publication: a model into the kernel's maps, whole or not at all.

use std::collections::HashMap;
use std::sync::Mutex;

use anyhow::{Context, Result};
use libbpf_rs::{MapCore, MapFlags, MapHandle};
use rustix::process::{Signal, getpid, kill_process};

use crate::kernel::bpf::bytes_of;
use crate::kernel::bpf::intf::{
    self, learned, model_ctl, scx_ml_consts_NR_MODEL_SLOTS as NR_MODEL_SLOTS,
};
use crate::kernel::fault::{Fault, is_asked_for};
use crate::model::Model;
use crate::model::sink::ModelSink;

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
    /// Of the last model, published or withdrawn. Generations never repeat.
    generation: u64,
    /// What is published: the model as the kernel reads it.
    current: Option<intf::model>,
    /// The profiles that were set and not removed.
    profiles: HashMap<u32, i32>,
    /// 0: none was set.
    first_quantum_ns: u64,
}

impl MapSink {
    /// A scheduler was loaded: publish what is current into its maps, and everything later.
    pub fn connect(&self, maps: ModelMaps) -> Result<()> {
        let mut state = self.lock();
        state.maps = Some(maps);
        for (&key, &value) in &state.profiles {
            state.set_profile(key, Some(value))?;
        }
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
        state.first_quantum_ns = quantum_ns.unwrap_or(0);
        state.set_learned()
    }

    fn set_profiles(&self, changes: &[(u32, Option<i32>)]) -> Result<()> {
        let mut state = self.lock();
        for &(key, value) in changes {
            match value {
                Some(value) => state.profiles.insert(key, value),
                None => state.profiles.remove(&key),
            };
            state.set_profile(key, value)?;
        }
        Ok(())
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
    /// Fill the slot that is not in use, then make it the one that is.
    fn write(&mut self, mut model: intf::model) -> Result<u64> {
        self.generation += 1;
        model.generation = 0;
        self.set_slot(&model)?;
        model.generation = self.generation;
        self.set_slot(&model)?;
        die_if_asked();
        self.set_active(self.generation)?;
        self.current = Some(model);
        Ok(self.generation)
    }

    fn set_slot(&self, model: &intf::model) -> Result<()> {
        let Some(maps) = &self.maps else {
            return Ok(());
        };
        let slot = (self.generation % u64::from(NR_MODEL_SLOTS)) as u32;
        // SAFETY: struct model has no padding, its size is asserted in intf.h.
        let value = unsafe { bytes_of(model) };
        maps.models
            .update(&slot.to_ne_bytes(), value, MapFlags::ANY)
            .with_context(|| format!("cannot write a model into slot {slot} of the kernel's map"))
    }

    fn set_learned(&self) -> Result<()> {
        let Some(maps) = &self.maps else {
            return Ok(());
        };
        let learned = learned {
            first_quantum_ns: self.first_quantum_ns,
        };
        // SAFETY: one integer.
        let value = unsafe { bytes_of(&learned) };
        maps.learned
            .update(&0u32.to_ne_bytes(), value, MapFlags::ANY)
            .context("cannot tell the kernel the first quantum")
    }

    fn set_profile(&self, key: u32, value: Option<i32>) -> Result<()> {
        let Some(maps) = &self.maps else {
            return Ok(());
        };
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

    fn set_active(&self, generation: u64) -> Result<()> {
        let Some(maps) = &self.maps else {
            return Ok(());
        };
        let ctl = model_ctl { generation };
        // SAFETY: one integer.
        let value = unsafe { bytes_of(&ctl) };
        maps.ctl
            .update(&0u32.to_ne_bytes(), value, MapFlags::ANY)
            .with_context(|| format!("cannot make model generation {generation} the active one"))
    }
}
