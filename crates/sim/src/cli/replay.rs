//! What the command line offers of recordings: `--replay`. In a build without the cargo feature `recording`, `no_replay.rs`
//! stands here.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use scx_ml::recording::Recording;

use crate::experiment::WorkloadSpec;
use crate::workload::replay::{Pace, Recorded};

/// What other builds offer: no more.
pub const LEFT_OUT: &[&str] = &[];

/// Below the help: how to replay.
pub const REPLAY_EXAMPLE: &str = "\n  scx_sim --replay rec --cpus 4                            what `scx_ml --record rec` saw, scheduled anew";

/// What is replayed.
#[derive(Debug, Clone, Args)]
pub struct ReplayArgs {
    /// Replay a recording instead: a folder that `scx_ml --record` wrote.
    #[arg(long, value_name = "DIR", conflicts_with = "workload")]
    pub replay: Option<PathBuf>,

    /// When the recorded bursts arrive.
    #[arg(long, value_enum, default_value_t = Pace::Open, requires = "replay")]
    pub pace: Pace,
}

impl ReplayArgs {
    /// Whether anything is.
    pub fn is_asked_for(&self) -> bool {
        self.replay.is_some()
    }

    /// The recorded bursts, if they are asked for.
    ///
    /// # Errors
    /// If the recording cannot be read.
    pub fn workload(&self) -> Result<Option<WorkloadSpec>> {
        let Some(dir) = &self.replay else {
            return Ok(None);
        };
        let recording = Recording::read(dir)?;
        Ok(Some(WorkloadSpec::Replay {
            bursts: recording.samples.iter().map(Recorded::from).collect(),
            pace: self.pace,
        }))
    }
}

#[cfg(test)]
mod tests {
    use crate::cli::{SimArgs, run};
    use clap::Parser;
    use scx_ml::kernel::bpf::intf::burst_sample;
    use scx_ml::kernel::sample::Sample;
    use scx_ml::recording::Meta;
    use scx_ml::recording::write::{file_name, write_file};

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        sim: SimArgs,
    }

    /// A recording as `scx_ml --record` writes it.
    #[test]
    fn a_recording_is_replayed_from_its_folder() {
        let dir = tempfile::tempdir().expect("a folder");
        let samples: Vec<Sample> = (0..500u64)
            .map(|i| {
                let wake_ns = 1_000_000_000 + 2_000_000 * i;
                let long = i % 20 == 0;
                let mut record = burst_sample {
                    wake_ns,
                    end_ns: wake_ns + 40_000_000,
                    burst_ns: if long { 20_000_000 } else { 500_000 },
                    pid: 100 + if long { 0 } else { i as u32 % 20 },
                    weight: 100,
                    repeat: 2,
                    ..Default::default()
                };
                for (to, from) in record.comm.iter_mut().zip(b"worker") {
                    *to = *from as _;
                }
                Sample(record)
            })
            .collect();
        let longs = samples.iter().filter(|s| s.0.burst_ns >= 4_000_000);
        let longs = longs.count();
        let meta = Meta::here("0.0.0 test", "learn", 1000, false);
        let file = dir.path().join(file_name::<Sample>(0));
        write_file(&file, &meta, &samples).expect("written");

        for pace in ["open", "closed"] {
            let folder = dir.path().to_str().expect("a path");
            let args = ["--replay", folder, "--pace", pace, "--json"];
            let command = Command::parse_from(["sim"].iter().chain(&args));
            let mut out = vec![];
            run(&command.sim, &mut out, &mut std::io::sink()).expect("a report");
            let json: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
            for policy in json["policies"].as_array().expect("policies") {
                let metrics = policy["metrics"].as_array().expect("metrics");
                let count = |name: &str| {
                    let metric = metrics.iter().find(|m| m["name"] == name);
                    metric.and_then(|m| m["mean"].as_f64()).expect("a count") as usize
                };
                assert_eq!(
                    (count("short_count"), count("long_count")),
                    (samples.len() - longs, longs),
                    "{} {pace}",
                    policy["policy"]
                );
            }
        }
    }
}
