//! `memcached`, asked by threads of the lab.

use super::memcached_client::{Client, Traffic};
use super::served::{self, Served};
use super::server::{self, Server};
use super::tool::Tool;
use super::{Beside, Company, Roles, given_or};
use crate::error::{LabError, Result};
use crate::metric::{MetricDef, Outcome, SavedHistogram};
use crate::workload::kind::{Context, Kind, Phase, Workload, bad, join, spawn};
use crate::workload::recorder::Recorder;
use crate::{strict, sys};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use std::path::Path;

pub const KIND: Kind = Kind {
    name: "memcached",
    about: "memcached answers clients that get and set: requests and their latency",
    measures: "Each of `clients` threads has a connection and sends the next request when it has the answer to the last one: \
        a closed loop. Debian has no load generator for memcached that reports percentiles, so the clients are the lab's, \
        and speak memcached's text protocol. Latency runs from before a request is written to after its answer is read, so \
        that it contains the wake-up of the client, too.",
    keys: strict::known_keys::<Params>,
    build: |table, place| {
        let p: Params = strict::read(table, place)?;
        if p.keys == 0 || !(0.0..=1.0).contains(&p.sets) {
            return Err(bad(
                place,
                "`keys` must be positive, and `sets` a share from 0 to 1",
            ));
        }
        Ok(Box::new(Memcached(p)))
    },
};

const MEMCACHED: Tool = Tool::new("memcached", "memcached");

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Params {
    /// Threads that ask; 0: two per CPU.
    clients: usize,
    /// Threads that answer; 0: one per CPU.
    threads: usize,
    keys: usize,
    /// Bytes of each value.
    bytes: usize,
    /// Share of the requests that store.
    sets: f64,
    beside: Beside,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            clients: 0,
            threads: 0,
            keys: 1000,
            bytes: 100,
            sets: 0.1,
            beside: Beside::None,
        }
    }
}

struct Memcached(Params);

impl Memcached {
    fn serve(&self, dir: &Path, port: u16, cpus: usize) -> Result<Server> {
        let mut command = MEMCACHED.server(KIND.name)?;
        let threads = given_or(self.0.threads, cpus).to_string();
        command
            .args(["-l", "127.0.0.1", "-p", &port.to_string(), "-U", "0"])
            .args(["-t", &threads, "-m", "64"]);
        if sys::is_root() {
            // It does not run as root unless it is told to.
            command.args(["-u", "root"]);
        }
        Server::start(command, KIND.name, dir, Signal::TERM, || {
            server::answers(port)
        })
    }

    /// What one client saw.
    fn client(&self, port: u16, seed: u64, phase: &Phase) -> std::io::Result<Recorder> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut client = Client::connect(server::local(port), self.traffic())?;
        let mut latencies = Recorder::new();
        while !phase.stopped() {
            let measuring = phase.measuring();
            client.ask(&mut rng, measuring.then_some(&mut latencies))?;
        }
        Ok(latencies)
    }

    fn traffic(&self) -> Traffic {
        Traffic {
            keys: self.0.keys,
            bytes: self.0.bytes,
            sets: self.0.sets,
        }
    }
}

impl Workload for Memcached {
    fn metrics(&self) -> Vec<MetricDef> {
        served::of_a_server()
    }

    fn check(&self) -> Result<()> {
        MEMCACHED.check(KIND.name)?;
        self.0.beside.check(KIND.name)
    }

    fn run(&self, ctx: &Context) -> Result<Outcome> {
        let failed = |e| LabError::workload(KIND.name, format!("a client failed: {e}"));
        let dir = server::folder()?;
        let port = server::free_port()?;
        let memcached = self.serve(dir.path(), port, ctx.cpus)?;
        Client::connect(server::local(port), self.traffic())
            .and_then(|mut c| c.fill())
            .map_err(failed)?;
        let mut company = Company::start(self.0.beside, ctx.cpus, KIND.name)?;
        let clients = given_or(self.0.clients, 2 * ctx.cpus);
        let phase = Phase::default();
        let roles = Roles::new(Some(&memcached), &company);
        let (seconds, parts, roles) = std::thread::scope(|scope| -> Result<_> {
            let mut handles = Vec::new();
            for i in 0..clients {
                let (phase, seed) = (&phase, ctx.seed.wrapping_add(i as u64));
                handles.push(spawn(scope, "mc-client", move || {
                    self.client(port, seed, phase)
                })?);
            }
            let (seconds, roles) = roles.conduct(ctx, &mut company, &phase)?;
            let mut parts = Vec::new();
            for handle in handles {
                parts.push(join(handle, KIND.name)?.map_err(failed)?);
            }
            Ok((seconds, parts, roles))
        })?;
        let latencies = Recorder::join(parts);
        let served = Served::from_histogram(latencies.len() as f64 / seconds, &latencies);
        let mut outcome = served.outcome(roles, vec![format!("{clients} clients")]);
        outcome.histograms = vec![SavedHistogram::from_hdr("latency", "ns", &latencies)];
        Ok(outcome)
    }
}
