//! What /proc says: of the machine and of the scheduler's process.

use std::path::Path;

/// Machine-wide counters of /proc/stat. Times in clock ticks over all CPUs.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Machine {
    pub context_switches: u64,
    pub busy: u64,
    pub idle: u64,
    /// Time the hypervisor gave to others.
    pub steal: u64,
}

/// Read /proc/stat's text.
pub fn parse_stat(text: &str) -> Machine {
    let mut m = Machine::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("ctxt") => {
                m.context_switches = words.next().and_then(|v| v.parse().ok()).unwrap_or(0)
            }
            Some("cpu") => {
                let v: Vec<u64> = words.map_while(|w| w.parse().ok()).collect();
                let at = |i: usize| v.get(i).copied().unwrap_or(0);
                // user nice system idle iowait irq softirq steal
                m.busy = at(0) + at(1) + at(2) + at(5) + at(6);
                m.idle = at(3) + at(4);
                m.steal = at(7);
            }
            _ => {}
        }
    }
    m
}

/// The machine now.
pub fn machine() -> Machine {
    std::fs::read_to_string("/proc/stat")
        .map(|t| parse_stat(&t))
        .unwrap_or_default()
}

/// CPU time (user and system, in clock ticks) from /proc/PID/stat's text. The name in it may hold spaces and brackets.
pub fn parse_pid_stat(text: &str) -> Option<u64> {
    let after_name = &text[text.rfind(')')? + 1..];
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    // utime and stime are fields 14 and 15 of the line, 12 and 13 after pid and name.
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

/// Resident memory in KiB from /proc/PID/status's text.
pub fn parse_rss(text: &str) -> Option<u64> {
    text.lines()
        .find_map(|l| l.strip_prefix("VmRSS:"))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

/// CPU time in ticks and resident KiB of a process; `None` once it is gone.
pub fn process(pid: u32) -> Option<(u64, u64)> {
    let dir = Path::new("/proc").join(pid.to_string());
    let ticks = parse_pid_stat(&std::fs::read_to_string(dir.join("stat")).ok()?)?;
    let rss = parse_rss(&std::fs::read_to_string(dir.join("status")).ok()?)?;
    Some((ticks, rss))
}

/// Clock ticks per second.
pub fn ticks_per_second() -> f64 {
    rustix::param::clock_ticks_per_second() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_stat_is_read() {
        let m = parse_stat(
            "cpu  100 5 50 1000 20 1 2 7 0 0\ncpu0 1 2 3\nintr 1 2 3\nctxt 12345\nbtime 1\n",
        );
        assert_eq!(
            m,
            Machine {
                context_switches: 12345,
                busy: 158,
                idle: 1020,
                steal: 7
            }
        );
    }

    #[test]
    fn a_process_name_may_hold_anything() {
        let line = "42 (a) b (c) S 1 42 42 0 -1 4194304 100 0 0 0 30 12 0 0 20 0 1 0 100 1000 10";
        assert_eq!(parse_pid_stat(line), Some(42));
        assert_eq!(parse_rss("Name:\tx\nVmRSS:\t  5120 kB\n"), Some(5120));
        assert_eq!(parse_pid_stat("garbage"), None);
    }

    #[test]
    fn this_process_can_be_read() {
        let (_, rss) = process(std::process::id()).expect("own process");
        assert!(rss > 100);
    }
}
