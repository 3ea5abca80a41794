//! What runs on the machine, as an experiment is told.

use super::Load;
use super::beside::Beside;
use super::closed::{Closed, ClosedParams};
use super::hogs::Hogs;
use super::open_loop::{OpenLoop, OpenLoopParams};
use super::pipes::{Pipes, PipesParams};
use super::replay::{Pace, Recorded, Replay, ReplayError};
use super::rpc::{Rpc, RpcParams};
use super::schbench::{Schbench, SchbenchParams};
use super::yields::{Yields, YieldsParams};

/// What runs on the machine. Seeds in it are replaced by the run's.
#[derive(Debug, Clone)]
pub enum WorkloadSpec {
    /// The end of arrivals is the run's, too.
    OpenLoop(OpenLoopParams),
    Closed(ClosedParams),
    Schbench(SchbenchParams),
    Rpc(RpcParams),
    Pipes(PipesParams),
    Yields(YieldsParams),
    Hogs {
        tasks: u32,
        nice: Vec<i32>,
    },
    Replay {
        bursts: Vec<Recorded>,
        pace: Pace,
    },
}

impl WorkloadSpec {
    /// The load itself, of a run that ends then, beside so many endless tasks.
    ///
    /// # Errors
    /// If a recording cannot be replayed.
    pub fn load(&self, seed: u64, end_ns: u64, hogs: u32) -> Result<Box<dyn Load>, ReplayError> {
        let load: Box<dyn Load> = match self {
            WorkloadSpec::OpenLoop(p) => Box::new(OpenLoop::new(OpenLoopParams {
                seed,
                arrivals_ns: end_ns,
                ..*p
            })),
            WorkloadSpec::Closed(p) => Box::new(Closed::new(ClosedParams { seed, ..*p })),
            WorkloadSpec::Schbench(p) => Box::new(Schbench::new(SchbenchParams { seed, ..*p })),
            WorkloadSpec::Rpc(p) => Box::new(Rpc::new(RpcParams { seed, ..*p })),
            WorkloadSpec::Pipes(p) => Box::new(Pipes::new(*p)),
            WorkloadSpec::Yields(p) => Box::new(Yields::new(YieldsParams { seed, ..*p })),
            WorkloadSpec::Hogs { tasks, nice } => Box::new(Hogs::new(*tasks, nice)),
            WorkloadSpec::Replay { bursts, pace } => Box::new(Replay::new(bursts.clone(), *pace)?),
        };
        Ok(match hogs {
            0 => load,
            _ => Box::new(Beside::new(load, hogs)),
        })
    }
}
