//! What the last prediction, or the base policy, came to: slice, lane and deadline, and why.

use super::reason::Observed;
use super::{Queueing, Slice};
use crate::kernel::bpf::intf::{
    policy_lane_LANE_FAIR as LANE_FAIR, policy_lane_LANE_FRESH as LANE_FRESH,
    policy_lane_LANE_NONE as LANE_NONE, slice_source_SLICE_AVERAGE as SLICE_AVERAGE,
    slice_source_SLICE_BASE as SLICE_BASE, slice_source_SLICE_CUT as SLICE_CUT,
    slice_source_SLICE_NONE as SLICE_NONE, slice_source_SLICE_OUTLIVED as SLICE_OUTLIVED,
    slice_source_SLICE_PREDICTED as SLICE_PREDICTED, slice_source_SLICE_RAISED as SLICE_RAISED,
    spared_SPARED_NO_GAIN as SPARED_NO_GAIN, spared_SPARED_SHORT as SPARED_SHORT,
    steering_STEERING_AVERAGE as STEERING_AVERAGE,
};
use crate::kernel::native::{self, SLICE_SOURCES};
use crate::learn::residuals::HIGH_QUANTILE;
use crate::watch::units::{duration, signed_duration};

fn percent(share: f64) -> String {
    format!("{:.0} %", 100.0 * share)
}

impl Observed {
    fn steering(&self) -> u32 {
        self.ctx.steering.into()
    }

    /// Whether the kind's average steers, for want of a model to trust.
    fn steered_by_average(&self) -> bool {
        self.steering() == STEERING_AVERAGE
    }

    /// The burst that steers, as its deadlines take it.
    fn steering_burst(&self) -> &'static str {
        if self.steered_by_average() {
            "the kind's average rounded to a power of two"
        } else {
            "the predicted burst rounded to a power of two"
        }
    }

    /// The high quantile that steers, with its name.
    fn steering_quantile(&self) -> String {
        let log2 = i64::from(self.ctx.steer_q16) + i64::from(self.ctx.steer_margin_q16);
        let time = duration(native::exp2_q16(log2));
        if self.steered_by_average() {
            format!("the kind's average and twice its error, {time}")
        } else {
            format!(
                "the prediction's {} quantile, {time}",
                percent(HIGH_QUANTILE)
            )
        }
    }

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
        let quantile = self.steering_quantile();
        match source {
            SLICE_PREDICTED => format!("what was left of {quantile}"),
            SLICE_AVERAGE if u32::from(self.ctx.spared) == SPARED_SHORT => {
                format!("so surely short that no model decides: what was left of {quantile}")
            }
            SLICE_AVERAGE if u32::from(self.ctx.spared) == SPARED_NO_GAIN => {
                format!("with this task no model gains anything: what was left of {quantile}")
            }
            SLICE_AVERAGE => format!("no model to trust: what was left of {quantile}"),
            SLICE_RAISED if u32::from(self.ctx.lane) == LANE_FRESH => {
                format!("{quantile}, left less: raised to the first quantum")
            }
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
        if lane == LANE_FRESH && granted == native::policy_base_slice_ns(pp, LANE_FRESH, 0) {
            return "the first quantum".into();
        }
        let longest = native::policy_base_slice_ns(pp, LANE_FAIR, 0);
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
        let own = if self.ctx.quantum_ns == self.params.first_quantum_ns {
            ""
        } else {
            ", its own: it is sure to end in that"
        };
        format!(
            "within its first quantum, {}{own}",
            duration(self.ctx.quantum_ns)
        )
    }

    fn fresh_deadline(&self) -> String {
        match self.ctx.deadline_after_ns {
            0 => "with its wake-up: first come, first served".into(),
            delay => format!(
                "{} after its wake-up: {}",
                signed_duration(delay),
                self.steering_burst()
            ),
        }
    }

    fn why_fair(&self) -> String {
        if self.own_thread {
            "the scheduler's own work can wait".into()
        } else if !self.granted_in_this_burst() {
            "in an earlier burst".into()
        } else if self.used_ns() >= self.ctx.quantum_ns {
            format!("past its first quantum, {}", duration(self.ctx.quantum_ns))
        } else {
            "it has had its share of the CPU".into()
        }
    }

    /// See policy_fair_key().
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
        let outlived = u32::from(ctx.slice_source) == SLICE_OUTLIVED;
        let sure = ctx.sure != 0 && !outlived;
        let request = native::policy_request_ns(pp, sure, ctx.steer_q16);
        let virtual_request = native::policy_virtual_ns(request, ctx.inv_weight_q16);
        // Whatever the bytes: a sum that wraps is as good as any.
        let own = signed_duration(after.wrapping_sub(virtual_request as i64));
        let virtual_request = duration(virtual_request);
        if !sure {
            return format!(
                "{deadline}: {own} of its own, {virtual_request} for its request, the first quantum"
            );
        }
        let request = match request == pp.lag_ns {
            true => "no more than the lag bound",
            false => self.steering_burst(),
        };
        format!(
            "{deadline}: {own} of its own when it woke, {virtual_request} for its request, {request}"
        )
    }
}
