//! The probe's generated skeleton.

include!(concat!(env!("OUT_DIR"), "/probe_skel.rs"));
