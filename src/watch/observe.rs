//! Reads what the kernel keeps of a task, from the maps of the loaded scheduler, for whoever asks on the stats socket.
//!
//! The thread that serves the socket does it; the scheduler's own threads have no part in it. A request is a few system calls,
//! whatever is asked, and only reads.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use libbpf_rs::{MapCore, MapFlags, MapHandle};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::thread::gettid;
use scx_ml_text::Show;
use zerocopy::FromBytes;

use crate::kernel::bpf::intf::{
    cpu_ctx, group_ctx, learned, llc_ctx, model, model_ctl, policy_params, scx_ml_mode_MODE_LEARN,
    task_ctx, watch,
};
use crate::kernel::bpf::skel::BpfSkel;
use crate::kernel::bpf::{NR_CLASSES, NR_MODEL_SLOTS};
use crate::kernel::clock::monotonic_ns;
use crate::kernel::mode::Mode;
use crate::watch::explain::reason::Observed;
use crate::watch::explain::threads::Proc;
use crate::watch::explain::{Answer, Refusal, TARGET};
use crate::watch::queues::{QUEUES_TARGET, Queues};
use crate::watch::server::protocol::Targets;
use crate::watch::top::answer::{
    MODELS_TARGET, Models, TASKS_MAX, TASKS_TARGET, TaskLine, Tasks, parse_pids,
};

/// Looks at something that the kernel changes before it is taken as it is.
const LOOKS_MAX: usize = 4;

/// The maps of a loaded scheduler, and how it was set up.
pub struct Observer {
    task_ctxs: MapHandle,
    models: MapHandle,
    model_ctl: MapHandle,
    watches: MapHandle,
    learned: MapHandle,
    cpu_ctxs: MapHandle,
    llc_ctxs: MapHandle,
    group_ctxs: MapHandle,
    params: policy_params,
    mode: Mode,
    partial: bool,
}

impl Observer {
    /// Of a scheduler in this mode; `partial`: it schedules SCHED_EXT tasks only.
    ///
    /// # Errors
    /// When there are no more file descriptors for the maps.
    pub fn new(skel: &BpfSkel, mode: Mode, partial: bool) -> Result<Self> {
        let rodata = skel
            .maps
            .rodata_data
            .as_ref()
            .ok_or_else(|| anyhow!("the BPF object has no read-only data"))?;
        let params = &rodata.params;
        Ok(Self {
            task_ctxs: MapHandle::try_from(&skel.maps.task_ctxs)?,
            models: MapHandle::try_from(&skel.maps.models)?,
            model_ctl: MapHandle::try_from(&skel.maps.model_ctl)?,
            watches: MapHandle::try_from(&skel.maps.watches)?,
            learned: MapHandle::try_from(&skel.maps.data_learned)?,
            cpu_ctxs: MapHandle::try_from(&skel.maps.cpu_ctxs)?,
            llc_ctxs: MapHandle::try_from(&skel.maps.llc_ctxs)?,
            group_ctxs: MapHandle::try_from(&skel.maps.group_ctxs)?,
            params: policy_params {
                slice_min_ns: params.slice_min_ns,
                slice_max_ns: params.slice_max_ns,
                first_quantum_ns: params.first_quantum_ns,
                lag_ns: params.lag_ns,
                fair_interval_ns: params.fair_interval_ns,
                preempt_after_ns: params.preempt_after_ns,
            },
            mode,
            partial,
        })
    }

    /// Answer on the stats socket, beside whoever does.
    pub fn serve(self, targets: Targets) -> Targets {
        let observer = Arc::new(self);
        let explain = observer.clone();
        let models = observer.clone();
        let queues = observer.clone();
        targets
            .with_shared(TARGET, move |args| {
                Ok(serde_json::to_value(explain.answer(args))?)
            })
            .with_shared(MODELS_TARGET, move |_| {
                Ok(serde_json::to_value(models.models()?)?)
            })
            .with_shared(QUEUES_TARGET, move |_| {
                Ok(serde_json::to_value(queues.queues()?)?)
            })
            .with_shared(TASKS_TARGET, move |args| {
                Ok(serde_json::to_value(observer.tasks(args)?)?)
            })
    }

    /// The published models and the watches over them.
    fn models(&self) -> Result<Models> {
        let published = read_value::<model_ctl>(&self.model_ctl, 0)?.generation;
        let banks = self.banks()?;
        let watches = (0..NR_CLASSES as u32)
            .map(|class| read_value::<watch>(&self.watches, class))
            .collect::<Result<Vec<_>>>()?;
        let published = banks
            .iter()
            .find(|bank| published != 0 && bank.generation == published);
        Ok(Models::new(published, &watches, monotonic_ns()))
    }

    /// What the kernel keeps of the threads that are asked about.
    fn tasks(&self, args: &BTreeMap<String, String>) -> Result<Tasks> {
        let pids = args.get("pids").map_or("", String::as_str);
        let Some(pids) = parse_pids(pids) else {
            return Ok(Tasks::Refused(format!(
                "pids is '{pids}'; give up to {TASKS_MAX} thread ids, with commas between them"
            )));
        };
        let mut lines = vec![];
        for pid in pids {
            if let Some((ctx, _)) = self.task_ctx(pid)? {
                lines.push(TaskLine::new(pid, &ctx, self.mode));
            }
        }
        Ok(Tasks::Known(lines))
    }

    /// The machine as the kernel part knows it, and what it counts as waiting.
    fn queues(&self) -> Result<Queues> {
        let cpus = read_array::<cpu_ctx>(&self.cpu_ctxs)?;
        let llcs = read_array::<llc_ctx>(&self.llc_ctxs)?;
        let mut groups = vec![];
        for key in self.group_ctxs.keys() {
            let value = self
                .group_ctxs
                .lookup(&key, MapFlags::ANY)
                .context("cannot read the map group_ctxs")?;
            let group = value.and_then(|bytes| group_ctx::read_from_bytes(&bytes).ok());
            // A group that has gone meanwhile is none.
            if let (Ok(id), Some(group)) = (key.try_into(), group) {
                groups.push((u64::from_ne_bytes(id), group));
            }
        }
        Ok(Queues::new(&cpus, &llcs, &groups))
    }

    fn answer(&self, args: &BTreeMap<String, String>) -> Answer {
        let pid = args.get("pid").map_or("", String::as_str);
        let answer = match pid.parse() {
            Ok(pid) => self.observe(pid),
            Err(_) => Err(Refusal::NotAnId(pid.to_string())),
        };
        match answer {
            Ok(observed) => Answer::Explanation(Box::new(observed.explain())),
            Err(refusal) => Answer::Refusal(refusal),
        }
    }

    fn observe(&self, pid: u32) -> Result<Observed, Refusal> {
        let failed = |e: anyhow::Error| Refusal::Failed {
            pid,
            reason: format!("{e:#}"),
        };
        let proc = Proc::mounted();
        let task = proc
            .identity(pid)
            .map_err(|e| failed(e.into()))?
            .ok_or(Refusal::NoTask { pid })?;
        let (comm, policy) = (task.comm.clone(), task.policy.clone());
        if task.is_higher_class() {
            return Err(Refusal::HigherClass { pid, comm, policy });
        }
        if self.partial && policy != "SCHED_EXT" {
            return Err(Refusal::Partial { pid, comm, policy });
        }

        let (ctx, steady) = self
            .task_ctx(pid)
            .map_err(failed)?
            .ok_or(Refusal::NoContext { pid, comm })?;
        // After the context: the model that predicted stays in its slot until two more are published.
        let published = read_value::<model_ctl>(&self.model_ctl, 0).map_err(failed)?;
        Ok(Observed {
            mode: self.mode,
            params: self.params().map_err(failed)?,
            own_thread: task.tgid == std::process::id(),
            task,
            steady,
            waker_comm: proc.comm(ctx.waker_pid).map(|c| c.shown().to_string()),
            banks: self.banks().map_err(failed)?,
            published: published.generation,
            watch: self.watch(ctx.class.into()).map_err(failed)?,
            monotonic_ns: monotonic_ns(),
            kernel_ns: self.kernel_ns(),
            ctx,
        })
    }

    /// The policy's parameters as they are now: with the first quantum that was learned.
    fn params(&self) -> Result<policy_params, anyhow::Error> {
        let learned = read_value::<learned>(&self.learned, 0)?;
        Ok(policy_params {
            first_quantum_ns: if self.mode.kernel_mode() == scx_ml_mode_MODE_LEARN
                && learned.first_quantum_ns > 0
            {
                learned.first_quantum_ns
            } else {
                self.params.first_quantum_ns
            },
            ..self.params
        })
    }

    /// What the kernel keeps of a thread, and whether it did not change it meanwhile. None: nothing.
    fn task_ctx(&self, pid: u32) -> Result<Option<(task_ctx, bool)>> {
        let Some(fd) = open_thread(pid)? else {
            return Ok(None);
        };
        let key = fd.as_raw_fd().to_ne_bytes();
        let (bytes, steady) = read_steady(|| {
            self.task_ctxs
                .lookup(&key, MapFlags::ANY)
                .context("cannot read the map of tasks")
        })?;
        let ctx = bytes.and_then(|bytes| task_ctx::read_from_bytes(&bytes).ok());
        Ok(ctx.map(|ctx| (ctx, steady)))
    }

    fn banks(&self) -> Result<[model; NR_MODEL_SLOTS]> {
        let mut banks = [model::default(); NR_MODEL_SLOTS];
        for (slot, bank) in banks.iter_mut().enumerate() {
            *bank = read_value(&self.models, slot as u32)?;
        }
        Ok(banks)
    }

    fn watch(&self, class: usize) -> Result<Option<watch>> {
        if class >= NR_CLASSES {
            return Ok(None);
        }
        read_value(&self.watches, class as u32).map(Some)
    }

    /// The clock of the kernel's contexts, scx_bpf_now(), cannot be read from here, and CLOCK_MONOTONIC drifts from it.
    /// But this thread woke for the request a moment ago, and the kernel has noted when. None where it is not under
    /// sched_ext itself.
    fn kernel_ns(&self) -> Option<u64> {
        let own = gettid().as_raw_pid();
        let (ctx, _) = self.task_ctx(own.try_into().ok()?).ok()??;
        Some(ctx.wake_ns).filter(|&ns| ns != 0)
    }
}

/// All elements of an array map.
fn read_array<T: FromBytes>(map: &MapHandle) -> Result<Vec<T>> {
    (0..map.max_entries())
        .map(|key| read_value(map, key))
        .collect()
}

/// An element of an array map.
fn read_value<T: FromBytes>(map: &MapHandle, key: u32) -> Result<T> {
    let (bytes, _) = read_steady(|| {
        map.lookup(&key.to_ne_bytes(), MapFlags::ANY)
            .with_context(|| format!("cannot read the map {}", map.name().to_string_lossy()))
    })?;
    bytes
        .and_then(|bytes| T::read_from_bytes(&bytes).ok())
        .ok_or_else(|| {
            anyhow!(
                "the map {} has no element {key} of the expected size",
                map.name().to_string_lossy()
            )
        })
}

/// The kernel copies without a lock: look until two looks are the same. Whether two were.
fn read_steady<T: PartialEq>(mut look: impl FnMut() -> Result<T>) -> Result<(T, bool)> {
    let mut last = look()?;
    for _ in 1..LOOKS_MAX {
        let again = look()?;
        if again == last {
            return Ok((last, true));
        }
        last = again;
    }
    Ok((last, false))
}

/// A file descriptor that stands for a thread, whether it leads its process or not. None: there is no such thread.
fn open_thread(pid: u32) -> Result<Option<OwnedFd>> {
    let Some(id) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return Ok(None);
    };
    // Rustix has no name for it.
    let thread = PidfdFlags::from_bits_retain(libc::PIDFD_THREAD);
    match pidfd_open(id, thread) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::SRCH) => Ok(None),
        Err(e) => Err(e).with_context(|| format!("cannot open thread {pid} (pidfd_open)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_does_not_lead_its_process_can_be_opened() {
        let open = std::thread::spawn(|| {
            let own = gettid().as_raw_pid();
            open_thread(own as u32).map(|fd| fd.is_some())
        });
        assert!(
            open.join()
                .expect("no panic")
                .expect("a kernel from 6.9 on")
        );
        assert!(open_thread(0).expect("no such thread").is_none());
        assert!(
            open_thread(i32::MAX as u32)
                .expect("no such thread")
                .is_none()
        );
    }

    #[test]
    fn looks_end_when_two_are_the_same_and_after_four_anyway() {
        let mut values = [1, 2, 2, 3].into_iter();
        let found = read_steady(|| values.next().context("looked too often")).expect("read");
        assert_eq!(found, (2, true));
        let mut count = 0;
        let found = read_steady(|| {
            count += 1;
            Ok(count)
        });
        assert_eq!(found.expect("read"), (4, false));
    }
}
