//! User space's end of the kernel half: what it sends and how that is read, its mathematics compiled for the host, and the
//! machine that it runs on.
//!
//! ```text
//! bpf         generated: the skeleton of src/bpf/main.bpf.c, the types of src/bpf/intf.h
//! native      model.h, policy.h, steer.h, decide.h and frequency.h for the host, and the tables of record.h and intf.h
//! ringbuf     drains the records to whoever wants them; sample is one of them, features what a model may use of it
//! logging     the log, in which nothing is that a terminal obeys
//! mode        what predictions are used for
//! syscalls    classes of system calls;  topology  caches and CPUs
//! news        what happens again and again: said once a minute, with its count
//! preflight   whether this kernel can do it;  privileges  gives up what scheduling does not need
//! host, clock the machine and its time
//! exit        how the kernel ended it
//! fault       failures on purpose, and what a panic says
//! trouble     failures that scheduling goes on after: counted, said once, tried again
//! ```

pub mod bpf;
pub mod clock;
pub mod exit;
pub mod fault;
pub mod features;
pub mod host;
pub mod logging;
pub mod mode;
pub mod native;
pub mod news;
pub mod preflight;
pub mod privileges;
pub mod ringbuf;
pub mod sample;
pub mod syscalls;
pub mod topology;
pub mod trouble;
