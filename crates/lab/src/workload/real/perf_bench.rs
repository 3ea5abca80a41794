//! `perf-bench`: `perf bench sched pipe` and `messaging`.

use super::rounds::{InRounds, Rounds};
use super::tool::{self, Tool};
use super::{Beside, given_or};
use crate::error::Result;
use crate::strict;
use crate::workload::kind::{Kind, bad};
use serde::{Deserialize, Serialize};

pub const KIND: Kind = Kind {
    name: "perf-bench",
    about: "perf bench sched pipe or messaging: time of a round",
    measures: "`pipe`: the time in which two processes pass a byte there and back `loops` times: nothing but wake-ups and \
        switches, one at a time. `messaging`: hackbench as perf has it, over sockets, with groups that grow with the CPUs. \
        Median over the rounds that fit into the measured time.",
    keys: strict::known_keys::<Params>,
    build: |table, place| {
        let p: Params = strict::read(table, place)?;
        if p.loops == 0 {
            return Err(bad(place, "`loops` must be positive"));
        }
        Ok(Box::new(InRounds(PerfBench(p))))
    },
};

const PERF: Tool = Tool::new("perf", "linux-perf");

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Test {
    Pipe,
    Messaging,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Params {
    test: Test,
    /// Of messaging; 0: one for every two CPUs.
    groups: usize,
    /// Round trips of pipe; messaging has a hundredth.
    loops: usize,
    beside: Beside,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            test: Test::Pipe,
            groups: 0,
            loops: 10_000,
            beside: Beside::None,
        }
    }
}

struct PerfBench(Params);

/// The seconds of a round: all that `-f simple` has perf print.
fn parse(text: &str) -> Option<f64> {
    text.lines().rev().find_map(|l| l.trim().parse().ok())
}

impl Rounds for PerfBench {
    const NAME: &str = KIND.name;
    const TOOL: Tool = PERF;

    fn beside(&self) -> Beside {
        self.0.beside
    }

    fn round(&self, cpus: usize) -> Result<f64> {
        let p = &self.0;
        let mut command = PERF.command(KIND.name)?;
        command.args(["bench", "-f", "simple", "sched"]);
        match p.test {
            Test::Pipe => command.args(["pipe", "-l", &p.loops.to_string()]),
            Test::Messaging => command
                .args(["messaging", "-l", &p.loops.div_ceil(100).to_string(), "-g"])
                .arg(given_or(p.groups, cpus.div_ceil(2)).to_string()),
        };
        let text = tool::run(&mut command, KIND.name)?.stdout;
        parse(&text).ok_or_else(|| tool::not_understood(KIND.name, &text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_only_number_is_read() {
        assert_eq!(parse("0.145\n"), Some(0.145));
        assert_eq!(
            parse("# Running 'sched/messaging' benchmark:\n0.145\n"),
            Some(0.145)
        );
        assert_eq!(parse("perf: no such benchmark\n"), None);
    }
}
