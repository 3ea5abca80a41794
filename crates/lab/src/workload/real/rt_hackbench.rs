//! `rt-hackbench`: the hackbench of rt-tests.

use super::rounds::{InRounds, Rounds};
use super::tool::{self, Tool};
use super::{Beside, given_or};
use crate::error::Result;
use crate::strict;
use crate::workload::hackbench::{Channel, Tasks};
use crate::workload::kind::{Kind, bad};
use serde::{Deserialize, Serialize};

pub const KIND: Kind = Kind {
    name: "rt-hackbench",
    about: "hackbench of rt-tests, over pipes or sockets, with threads or processes: time of a round",
    measures: "The time hackbench prints for `loops` messages of 100 bytes from each of 20 senders to each of 20 receivers in \
        every group, median over the rounds that fit into the measured time. Starting the tasks is not in it. Groups grow \
        with the CPUs unless a number is given, so that a machine of any size is as full. `hackbench` is the lab's own and \
        needs no package.",
    keys: strict::known_keys::<Params>,
    build: |table, place| {
        let p: Params = strict::read(table, place)?;
        if p.loops == 0 {
            return Err(bad(place, "`loops` must be positive"));
        }
        Ok(Box::new(InRounds(RtHackbench(p))))
    },
};

const HACKBENCH: Tool = Tool::new("hackbench", "rt-tests");

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Params {
    /// 0: one for every two CPUs.
    groups: usize,
    loops: usize,
    channel: Channel,
    tasks: Tasks,
    beside: Beside,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            groups: 0,
            loops: 100,
            channel: Channel::Pipe,
            tasks: Tasks::Threads,
            beside: Beside::None,
        }
    }
}

struct RtHackbench(Params);

/// The seconds of a round in what hackbench prints.
fn parse(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|l| l.strip_prefix("Time:"))?;
    line.trim().parse().ok()
}

impl Rounds for RtHackbench {
    const NAME: &str = KIND.name;
    const TOOL: Tool = HACKBENCH;

    fn beside(&self) -> Beside {
        self.0.beside
    }

    fn round(&self, cpus: usize) -> Result<f64> {
        let p = &self.0;
        let groups = given_or(p.groups, cpus.div_ceil(2));
        let mut command = HACKBENCH.command(KIND.name)?;
        command.args(["-g", &groups.to_string(), "-l", &p.loops.to_string()]);
        if p.channel == Channel::Pipe {
            command.arg("-p");
        }
        command.arg(match p.tasks {
            Tasks::Threads => "-T",
            Tasks::Processes => "-P",
        });
        let text = tool::run(&mut command, KIND.name)?.stdout;
        parse(&text).ok_or_else(|| tool::not_understood(KIND.name, &text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_time_is_read() {
        let text = "Running in threaded mode with 2 groups using 40 file descriptors each (== 80 tasks)\n\
             Each sender will pass 200 messages of 100 bytes\nTime: 0.136\n";
        assert_eq!(parse(text), Some(0.136));
        assert_eq!(parse("fork(): Resource temporarily unavailable\n"), None);
    }
}
