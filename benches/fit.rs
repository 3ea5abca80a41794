//! What learning costs: a row into the sums, a fit from them, a second of load at the highest rate of samples that is
//! expected, and memory. `cargo bench -p scx_ml`; the targets are in docs/offline.md.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use scx_ml::kernel::bpf::NR_CLASSES;
use scx_ml::kernel::bpf::intf::scx_ml_feature_FEATURE_KIND_BURST as KIND_BURST;
use scx_ml::kernel::bpf::intf::{burst_sample, sample_flags_SAMPLE_PREDICTED};
use scx_ml::kernel::clock::thread_cpu_ns;
use scx_ml::kernel::native;
use scx_ml::kernel::sample::Sample;
use scx_ml::learn::class::{ClassLearner, Memory};
use scx_ml::learn::fit::fit;
use scx_ml::learn::learner::{Learner, LearnerConfig, LearnerStatus};
use scx_ml::learn::row::Row;
use scx_ml::learn::stream::Stream;
use scx_ml::model::Model;
use scx_ml::model::sink::{ModelSink, NotSet};

/// Bursts per second of the load, each of them sent as a sample.
const RATE: u64 = 10_000;

/// Seconds of load that are replayed for one measurement.
const SECONDS: u64 = 10;

/// Pseudo-random numbers in [0, 1) (SplitMix64): the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// About normal, standard deviation 1 (sum of twelve, Irwin-Hall).
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.next()).sum::<f64>() - 6.0
    }
}

/// Records like real ones: classes of different size, a burst that its history tells in part, flags, columns that
/// never change (system calls without --syscalls), the rest noise around the burst's own size.
fn samples(n: usize) -> Vec<Sample> {
    let mut random = Random(1);
    let flags = ["io_wait", "waker_none", "waker_kin", "sync_wake"];
    (0..n)
        .map(|i| {
            let class = [2, 2, 2, 3, 2, 1, 0, 3, 2, 1][(random.next() * 10.0) as usize];
            let level = 14.0 + 3.0 * class as f64 + 2.0 * random.normal();
            let mut record = burst_sample {
                end_ns: i as u64 * 1_000_000_000 / RATE,
                repeat: 1,
                class: class as u32,
                ..Default::default()
            };
            for (j, feature) in native::FEATURES.iter().enumerate() {
                let value = if feature.name.starts_with("sys_") {
                    0.0
                } else if feature.name == "kthread" {
                    f64::from(u8::from(class == 0))
                } else if flags.contains(&feature.name) {
                    f64::from(u8::from(random.next() < 0.2))
                } else {
                    level * (0.3 + 0.7 / (1.0 + j as f64)) + random.normal()
                };
                record.feature_q8[j] = (256.0 * value) as i16;
            }
            record.feature_q8[KIND_BURST as usize] =
                (256.0 * (level + 1.2 * random.normal())) as i16;
            let log_burst = (level + 0.7 * random.normal()).clamp(8.0, 32.0);
            record.burst_ns = log_burst.exp2() as u64;
            record.pred_q16 = (65536.0 * (level + 0.8 * random.normal())) as i32;
            Sample(record)
        })
        .collect()
}

/// A sink that counts.
#[derive(Default)]
struct Counter(AtomicU64);

impl ModelSink for Counter {
    fn publish(&self, _: &Model, _: u64) -> anyhow::Result<u64> {
        Ok(self.0.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn set_first_quantum(&self, _: Option<u64>) -> anyhow::Result<()> {
        Ok(())
    }

    fn set_thinning(&self, _: [u32; NR_CLASSES]) -> anyhow::Result<()> {
        Ok(())
    }

    fn withdraw(&self) -> anyhow::Result<()> {
        Ok(())
    }

    fn set_profiles(&self, _: &[(u32, Option<i32>)]) -> Result<(), NotSet> {
        Ok(())
    }
}

/// Rows into the sums of their class, all that comes with it, and a fit from them.
fn stream(c: &mut Criterion) {
    let samples = samples(RATE as usize);
    let rows: Vec<Row> = samples.iter().map(Row::from).collect();
    c.bench_function("learn from 1,000 rows", |b| {
        let mut learner = ClassLearner::new(Memory::of_rows(10_000));
        for row in &rows {
            learner.add(row);
        }
        b.iter(|| {
            for row in black_box(&rows[..1_000]) {
                learner.add(row);
            }
        });
    });
    let mut stream = Stream::default();
    rows.iter().for_each(|row| stream.add(row, row.weight));
    let moments = stream.moments();
    let model = fit(moments).expect("it can be fitted");
    println!("the fit uses {} features", model.used().count());
    c.bench_function("fit", |b| b.iter(|| fit(black_box(moments))));
}

/// CPU time that the learner takes for a second of load.
fn learning(c: &mut Criterion) {
    let mut samples = samples((RATE * SECONDS) as usize);
    let before = peak_memory();
    learn(&mut samples);
    println!(
        "memory: {:.1} MB more with a learner",
        mb(peak_memory() - before)
    );
    c.bench_function("learn for a second of 10,000 bursts", |b| {
        b.iter_custom(|seconds| {
            let rounds = seconds.div_ceil(SECONDS);
            let used: u64 = (0..rounds).map(|_| learn(&mut samples)).sum();
            // Of each round, a second's share.
            Duration::from_nanos(used * seconds / (rounds * SECONDS))
        });
    });
}

/// Replay [`SECONDS`] of load in batches of ten milliseconds; CPU time used.
fn learn(samples: &mut [Sample]) -> u64 {
    let status = Arc::new(Mutex::new(LearnerStatus::default()));
    let mut learner = Learner::new(LearnerConfig::default(), status.clone());
    let sink = Counter::default();
    let mut used = 0;
    for batch in samples.chunks_mut(RATE as usize / 100) {
        let generation = sink.0.load(Ordering::Relaxed);
        for sample in &mut *batch {
            sample.0.flags = if generation > 0 {
                sample_flags_SAMPLE_PREDICTED
            } else {
                0
            };
            sample.0.model_generation = generation;
        }
        let now_ns = batch[batch.len() - 1].0.end_ns;
        let started = thread_cpu_ns();
        learner.add(batch);
        learner.step(now_ns, &sink);
        used += thread_cpu_ns() - started;
    }
    let fits = status.lock().expect("not poisoned").fits;
    assert!(fits >= SECONDS, "{fits} fits");
    used
}

/// Peak resident memory of this process so far, bytes. (getrusage() would count what cargo used before it ran us.)
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a process has a status");
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kib = line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
    kib.expect("it tells the peak of resident memory") * 1024
}

fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = stream, learning
}
criterion_main!(benches);
