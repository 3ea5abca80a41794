//! What holds for all contexts and models, made by hand or not.

use proptest::prelude::*;
use zerocopy::FromBytes;

use super::*;
use crate::kernel::bpf::{FEATURE_SLOTS, MODEL_TERMS};
use crate::kernel::native;

/// A struct of random bytes.
fn random<T: FromBytes>(bytes: &[u8]) -> T {
    T::read_from_prefix(bytes)
        .expect("as many bytes as it has")
        .0
}

proptest! {
    #[test]
    fn names_are_printable_whatever_they_are(comm: String, cgroup: String, waker: String) {
        let mut o = observed();
        (o.task.comm, o.task.cgroup, o.waker_comm) = (comm, Some(cgroup), Some(waker));
        let shown = text(&o.explain());
        let printable = |c: char| c == '\n' || scx_ml_text::is_printable(c);
        prop_assert!(shown.chars().all(printable), "{}", shown.escape_debug());
    }

    #[test]
    fn the_sum_is_what_the_kernel_predicts(
        intercept in -50.0..50.0f64,
        terms in proptest::collection::btree_map(0..FEATURE_SLOTS, -2.0..2.0f64, 0..=MODEL_TERMS),
        x in proptest::collection::vec(-40 * 256i16..=40 * 256, FEATURE_SLOTS),
    ) {
        let mut o = observed();
        let linear = &mut o.banks[0].linear[usize::from(INTERACTIVE)];
        linear.intercept_q24 = (intercept * f64::from(1 << 24)) as i64;
        linear.nr_terms = terms.len() as u32;
        for (i, (&index, &coef)) in terms.iter().enumerate() {
            (linear.feature[i], linear.coef_q16[i]) = (index as u8, q16(coef));
        }
        o.ctx.feature_q8.copy_from_slice(&x);
        o.ctx.pred_q16 = native::linear_predict_q16(linear, &o.ctx.feature_q8);
        let p = prediction(&o);
        prop_assert!(p.agrees, "{p:?}");
        let sizes: Vec<f64> = p.terms.iter().map(|t| t.contribution.abs()).collect();
        prop_assert!(sizes.is_sorted_by(|a, b| a >= b), "{sizes:?}");
    }

    #[test]
    fn random_bytes_are_explained_without_a_panic(
        bytes in proptest::collection::vec(any::<u8>(), size_of::<task_ctx>() + 1),
        models in proptest::collection::vec(any::<u8>(), size_of::<[model; 2]>()),
        small: u8,
    ) {
        let mut o = observed();
        let ctx: task_ctx = random(&bytes);
        let mut banks: [model; 2] = random(&models);
        // Once with a model for it, once with whatever there is.
        for generation in [ctx.model_generation, 0, banks[1].generation] {
            banks[0].generation = generation;
            (o.ctx, o.banks, o.published) = (ctx, banks, generation);
            (o.watch, o.kernel_ns) = (Some(random(&bytes)), Some(ctx.block_io_ns));
            for mode in [Mode::Learn, Mode::Base] {
                (o.mode, o.ctx.class) = (mode, ctx.class & small);
                (o.ctx.slice_source, o.ctx.lane) = (ctx.slice_source & small, ctx.lane & small);
                let explanation = o.explain();
                let shown = text(&explanation);
                prop_assert!(!shown.contains("NaN") && !shown.contains("inf"), "{shown}");
                let json = serde_json::to_string(&explanation).expect("JSON");
                let back: Explanation = serde_json::from_str(&json).expect("an explanation");
                prop_assert_eq!(text(&back), shown);
            }
        }
    }
}
