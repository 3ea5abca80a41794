//! Any workload in company: hogs that compute all the time.

use super::{Load, Next, Order, named};
use crate::machine::{ENDLESS_NS, Machine, TaskId, TaskSpec, Waker};
use crate::record::Recorder;

/// A workload and so many hogs. Its tasks come first.
pub struct Beside {
    load: Box<dyn Load>,
    first_hog: TaskId,
    hogs: u32,
}

impl Beside {
    pub fn new(load: Box<dyn Load>, hogs: u32) -> Self {
        Self {
            first_hog: load.tasks().len() as TaskId,
            load,
            hogs,
        }
    }
}

impl Load for Beside {
    fn tasks(&self) -> Vec<TaskSpec> {
        let mut tasks = self.load.tasks();
        tasks.extend((0..self.hogs).map(|_| named("hog")));
        tasks
    }

    fn timers(&self) -> usize {
        self.load.timers()
    }

    fn classes(&self) -> &'static [&'static str] {
        self.load.classes()
    }

    fn begin(&mut self, orders: &mut Vec<Order>) {
        let hogs = self.first_hog..self.first_hog + self.hogs;
        orders.extend(hogs.map(|hog| Order::wake_by(hog, ENDLESS_NS, Waker::Nobody)));
        self.load.begin(orders);
    }

    fn timer(&mut self, now_ns: u64, timer: u32, orders: &mut Vec<Order>) {
        self.load.timer(now_ns, timer, orders);
    }

    fn done(
        &mut self,
        m: &Machine,
        task: TaskId,
        orders: &mut Vec<Order>,
        recorder: &mut Recorder,
    ) -> Next {
        if task >= self.first_hog {
            return Next::Work(ENDLESS_NS);
        }
        self.load.done(m, task, orders, recorder)
    }

    fn resumes(&mut self, m: &Machine, task: TaskId) -> Option<u64> {
        self.load.resumes(m, task)
    }

    fn is_over(&self) -> bool {
        self.load.is_over()
    }

    fn metrics(&self, m: &Machine, recorder: &Recorder) -> Vec<(String, f64)> {
        self.load.metrics(m, recorder)
    }

    /// Hogs do not end: the time that is simulated does.
    fn drains(&self) -> bool {
        false
    }
}
