//! What the last prediction, or the base policy, came to: slice, lane and deadline, and why.

use super::reason::Observed;
use super::units::{duration, signed_duration};
use super::{Queueing, Slice};
use crate::bpf::intf::{
    policy_lane_LANE_FAIR as LANE_FAIR, policy_lane_LANE_FRESH as LANE_FRESH,
    policy_lane_LANE_NONE as LANE_NONE, slice_source_SLICE_BASE as SLICE_BASE,
    slice_source_SLICE_CUT as SLICE_CUT, slice_source_SLICE_NONE as SLICE_NONE,
    slice_source_SLICE_OUTLIVED as SLICE_OUTLIVED, slice_source_SLICE_PREDICTED as SLICE_PREDICTED,
    slice_source_SLICE_RAISED as SLICE_RAISED,
};
use crate::gate::{HIGH_QUANTILE, LOW_QUANTILE};
use crate::native::{self, SLICE_SOURCES};

fn percent(share: f64) -> String {
    format!("{:.0} %", 100.0 * share)
}

impl Observed {
    /// Whether the last slice and the last queueing are of the burst that the prediction is of.
    fn granted_in_this_burst(&self) -> bool {
        self.ctx.slice_ns != 0
    }

    pub(super) fn slice(&self) -> Option<Slice> {
        let source = u32::from(self.ctx.slice_source);
        if source == SLICE_NONE {
            return None;
        }
        let desc = SLICE_SOURCES.get(source as usize);
        Some(Slice {
            granted_ns: self.ctx.granted_ns,
            first_ns: self.ctx.slice_ns,
            source: desc.map_or_else(|| format!("source {source}"), |d| d.name.into()),
            why: if self.granted_in_this_burst() {
                self.why_slice(source)
            } else {
                let what = desc.map_or("unknown", |d| d.description);
                format!("{what} (in an earlier burst; this one had no slice yet)")
            },
        })
    }

    fn why_slice(&self, source: u32) -> String {
        let (min, max) = (
            duration(self.params.slice_min_ns),
            duration(self.params.slice_max_ns),
        );
        let quantile = format!(
            "the prediction's {} quantile, {}",
            percent(HIGH_QUANTILE),
            duration(self.quantile_ns())
        );
        match source {
            SLICE_PREDICTED => format!("what was left of {quantile}"),
            SLICE_RAISED => format!("{quantile}, left less: raised to the shortest slice, {min}"),
            SLICE_CUT => format!("{quantile}, left more: cut to the longest slice, {max}"),
            SLICE_OUTLIVED => format!(
                "the burst had outlived {quantile}: the base policy's slice, {}",
                self.why_base_slice()
            ),
            SLICE_BASE => {
                let why = match self.ctx.model_generation {
                    0 => "there was no prediction",
                    _ => "the prediction was not used",
                };
                format!("{why}: the base policy's slice, {}", self.why_base_slice())
            }
            other => format!("source {other}, which this version does not know"),
        }
    }

    /// Which base slice, from its length.
    fn why_base_slice(&self) -> String {
        let pp = &self.params;
        let granted = self.ctx.granted_ns;
        let lane = u32::from(self.ctx.lane);
        if lane == LANE_FRESH && granted == native::base_slice_ns(pp, LANE_FRESH, 0) {
            return "the first quantum".into();
        }
        let longest = native::base_slice_ns(pp, LANE_FAIR, 0);
        if granted == longest {
            return "the longest: nobody waited".into();
        }
        let sharers = (longest as f64 / granted.max(1) as f64).round();
        format!("the longest, {}, shared by {sharers}", duration(longest))
    }

    pub(super) fn queueing(&self) -> Option<Queueing> {
        if self.never_woken() || u32::from(self.ctx.slice_source) == SLICE_NONE {
            return None;
        }
        let lane = u32::from(self.ctx.lane);
        let (name, why, deadline) = match lane {
            LANE_NONE => ("none".into(), "an idle CPU was there".into(), None),
            LANE_FRESH => (
                "fresh".into(),
                self.why_fresh(),
                Some(self.fresh_deadline()),
            ),
            LANE_FAIR => ("fair".into(), self.why_fair(), Some(self.fair_deadline())),
            other => (
                format!("lane {other}"),
                "unknown to this version".into(),
                None,
            ),
        };
        Some(Queueing {
            lane: name,
            why,
            deadline_after_ns: self.ctx.deadline_after_ns,
            deadline,
        })
    }

    fn why_fresh(&self) -> String {
        let quantum = duration(self.params.first_quantum_ns);
        format!("within its first quantum, {quantum}")
    }

    fn fresh_deadline(&self) -> String {
        match self.ctx.deadline_after_ns {
            0 => "with its wake-up: first come, first served".into(),
            delay => format!(
                "{} after its wake-up: the predicted burst rounded to a power of two",
                signed_duration(delay)
            ),
        }
    }

    fn why_fair(&self) -> String {
        let quantum = duration(self.params.first_quantum_ns);
        if !self.granted_in_this_burst() {
            "in an earlier burst".into()
        } else if self.ctx.sure_long != 0 {
            format!(
                "surely long, its {} quantile is several first quanta of {quantum}",
                percent(LOW_QUANTILE)
            )
        } else if self.used_ns() >= self.params.first_quantum_ns {
            format!("past its first quantum, {quantum}")
        } else {
            "it has had its share of the CPU".into()
        }
    }

    fn fair_deadline(&self) -> String {
        let (ctx, pp) = (&self.ctx, &self.params);
        let after = ctx.deadline_after_ns;
        let side = if after < 0 { "behind" } else { "beyond" };
        let deadline = format!(
            "{} {side} the virtual clock",
            duration(after.unsigned_abs())
        );
        if !self.granted_in_this_burst() {
            return deadline;
        }
        let request = native::request_ns(pp, ctx.steering != 0, ctx.pred_q16);
        let virtual_request = native::virtual_ns(request, ctx.inv_weight_q16);
        // Whatever the bytes: a sum that wraps is as good as any.
        let own = after.wrapping_sub(virtual_request as i64);
        let what = match ctx.steering {
            0 => "the first quantum",
            _ if request == pp.lag_ns => "no more than the lag bound",
            _ => "the predicted burst rounded to a power of two",
        };
        format!(
            "{deadline}: {} of its own, {} for its request, {what}",
            signed_duration(own),
            duration(virtual_request)
        )
    }
}
