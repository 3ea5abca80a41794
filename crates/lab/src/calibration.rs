//! Work counted in iterations.
//!
//! A burst of "1 ms" must be the same amount of work whoever schedules it; measured in wall time it would shrink just
//! when the scheduler is bad. So the machine is calibrated once per boot, on an idle machine under the kernel's own
//! scheduler, and from then on a burst is a number of iterations.

use crate::error::{LabError, Result};
use crate::{kernel, sys};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// How fast this machine does the unit of work.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    pub iterations_per_us: f64,
}

impl Calibration {
    /// Iterations that take `us` microseconds on an otherwise idle CPU.
    pub fn iterations(&self, us: f64) -> u64 {
        (us * self.iterations_per_us).round().max(1.0) as u64
    }

    /// The time `iterations` take on an otherwise idle CPU, in ns.
    pub fn nanoseconds(&self, iterations: u64) -> u64 {
        (iterations as f64 / self.iterations_per_us * 1000.0) as u64
    }
}

/// The unit of work: a chain of dependent multiplications that neither memory nor a clever compiler shortens.
#[inline(never)]
pub fn burn(iterations: u64) -> u64 {
    let mut x = iterations | 1;
    for _ in 0..iterations {
        x = std::hint::black_box(
            x.wrapping_mul(0x5851_F42D_4C95_7F2D)
                .wrapping_add(0x1405_7B7E_F767_814F),
        );
    }
    x
}

/// Measure now: the fastest of several rounds, since whatever interferes can only slow one down.
pub fn measure() -> Calibration {
    let timed = |n: u64| {
        let start = sys::thread_cpu_ns();
        std::hint::black_box(burn(n));
        (sys::thread_cpu_ns() - start).max(1)
    };
    // Find a count that takes about 5 ms, so that the clock's own cost vanishes.
    let mut n = 10_000u64;
    while timed(n) < 2_000_000 && n < 1 << 40 {
        n *= 2;
    }
    let fastest = (0..25).map(|_| timed(n)).min().unwrap_or(1);
    Calibration {
        iterations_per_us: n as f64 * 1000.0 / fastest as f64,
    }
}

fn cache_file(boot_id: &str) -> PathBuf {
    let dir = if Path::new("/run").is_dir() {
        "/run"
    } else {
        "/tmp"
    };
    // The work loop may compile differently in another build, so the cache is for this build only.
    Path::new(dir).join(format!(
        "scx_lab-calibration-{}-{boot_id}.json",
        env!("CARGO_PKG_VERSION")
    ))
}

/// This boot's calibration: the cached one, or measured now and cached.
///
/// # Errors
/// If it has to be measured while a sched_ext scheduler is loaded: the caller should do it before starting one.
pub fn for_this_boot() -> Result<Calibration> {
    let boot_id = kernel::boot_id();
    let path = cache_file(&boot_id);
    if let Some(found) = std::fs::read_to_string(&path)
        .ok()
        .and_then(|t| serde_json::from_str::<Calibration>(&t).ok())
        && found.iterations_per_us > 0.0
    {
        return Ok(found);
    }
    if kernel::SchedExt::system().is_enabled() {
        return Err(LabError::Fatal(
            "this boot is not calibrated yet, and that has to happen under the kernel's own scheduler; \
             stop the loaded sched_ext scheduler and run `scx_lab list` once"
                .to_string(),
        ));
    }
    let measured = measure();
    // A cache that cannot be written costs a second next time, no more.
    if let Ok(text) = serde_json::to_string(&measured) {
        let _ = std::fs::write(&path, text);
    }
    Ok(measured)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twice_the_iterations_take_about_twice_the_time() {
        let c = measure();
        assert!(c.iterations_per_us > 1.0, "{c:?}");
        let time = |n| {
            (0..9)
                .map(|_| {
                    let t = sys::thread_cpu_ns();
                    std::hint::black_box(burn(n));
                    sys::thread_cpu_ns() - t
                })
                .min()
                .unwrap_or(0) as f64
        };
        let n = c.iterations(2000.0);
        let ratio = time(2 * n) / time(n);
        assert!((1.6..2.5).contains(&ratio), "{ratio}");
    }

    #[test]
    fn conversion_goes_both_ways() {
        let c = Calibration {
            iterations_per_us: 250.0,
        };
        assert_eq!(c.iterations(1000.0), 250_000);
        assert_eq!(c.nanoseconds(250_000), 1_000_000);
        assert_eq!(c.iterations(0.0), 1);
    }
}
