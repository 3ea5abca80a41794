//! Tests of the scheduler on a real kernel with sched_ext, as root. `vng/test` runs them in a VM; nothing here mocks
//! the kernel. They change the machine's scheduling, so they run one at a time (`--test-threads=1`).

mod bad_days;
mod duties;
mod explain;
mod fairness;
mod floods;
mod forged;
mod frequency;
mod groups;
mod harness;
mod isolation;
mod learning;
mod life;
mod load;
mod machine;
mod model_file;
mod privileges;
mod profiles;
mod recording;
mod refusal;
mod shapes;
mod storms;
mod torture;
mod watchdog;
mod watching;
