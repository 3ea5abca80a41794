//! What-if rules: parts of the policy that can be switched off, to see what each is worth, and changes that are tried here
//! before they are written in C. The default is the kernel's text, untouched.

use clap::ValueEnum;

/// A rule's switch, as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    On,
    Off,
}

/// By what the fair lane is ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FairOrder {
    /// As policy_fair_key() has it: with a sure prediction, the deadline that the burst began with.
    Kept,
    /// The same request, but the deadline moves away as the task runs.
    Moving,
}

/// See the fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Rules {
    /// A burst that is surely predicted to end a little after the first quantum is let finish. Off: one first quantum
    /// for all.
    pub own_quantum: bool,
    pub fair_order: FairOrder,
    /// A predictor that has lately been wrong about a task is not sure about it. Off: its quantiles alone tell.
    pub task_trust: bool,
    /// The first quantum of what is not predicted is the one that the load asks for. Off: always the same.
    pub learned_quantum: bool,
    /// Each LLC counts the wake-ups in its fresh lanes, and a search for one goes over the CPUs of an LLC whose count is
    /// not 0 only. Off: over all CPUs of the machine. It finds the same, but at an LLC's last CPUs, whose next ones by id
    /// are another's; what changes is how many queues are looked into.
    pub llc_counts: bool,
    /// What has lately woken others makes room at a tick only, but for whom an interrupt woke. Off: like everybody.
    pub producers: bool,
    /// A CPU looks after those whose CPUs do not come to take them, and LLCs even out what waits there. Off: neither.
    pub relief: bool,
    /// How far a key may be from the virtual clock follows the clock's measured speed. Off: what it would be if all had
    /// weight 100.
    pub measured_reach: bool,
    /// Who is over its share, or past its first quantum, goes on in turn with others. Off: by deadlines.
    pub pace: bool,
    /// Tried here first: whoever is cut for the first time in a burst waits for one more quantum where it stood, by the time of its
    /// wake-up. Off: in the fair lane.
    pub second_turn: bool,
    /// A burst is cut only by what is expected to be much shorter than the rest of it, and goes on before those who are not:
    /// `policy_waits_for()`. Off: by the first quantum alone.
    pub much_shorter: bool,
    /// Where the first of a fresh lane waits for a burst's end, those behind it who would not go before both. Off: they wait behind it.
    pub overtake: bool,
    /// What outlives its expectation is expected to take what such bursts of its task came to before. Off: nothing is known of it.
    pub stretch: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            own_quantum: true,
            fair_order: FairOrder::Kept,
            task_trust: true,
            learned_quantum: true,
            llc_counts: true,
            producers: true,
            relief: true,
            measured_reach: true,
            pace: true,
            second_turn: false,
            much_shorter: true,
            overtake: true,
            stretch: true,
        }
    }
}
