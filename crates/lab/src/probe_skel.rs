//! The probe's generated skeleton.
#![allow(clippy::all, clippy::unwrap_used)]

include!(concat!(env!("OUT_DIR"), "/probe_skel.rs"));
