//! Faults on demand.

use crate::contract::Op;
use crate::error::IoErrorKind;

/// A kind of operation, counted on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OpKind {
    /// Reads.
    Read,
    /// Writes, durable or not.
    Write,
    /// Flushes.
    Flush,
    /// Discards.
    Discard,
    /// Growing the (simulated) file.
    Grow,
    /// Asking for the size again.
    Refresh,
}

impl OpKind {
    pub(crate) fn of(op: &Op) -> Self {
        match op {
            Op::Read { .. } => Self::Read,
            Op::Write { .. } => Self::Write,
            Op::Flush => Self::Flush,
            Op::Discard { .. } => Self::Discard,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Flush => "flush",
            Self::Discard => "discard",
            Self::Grow => "grow",
            Self::Refresh => "refresh",
        }
    }
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// An error of this kind. A failed write may have been done in part; what a
    /// failed flush should have saved may be lost even if the next one succeeds.
    Fail(IoErrorKind),
    /// The first transfer ends after this many bytes. The driver does the rest:
    /// nobody above sees it, except in the statistics.
    Short(u64),
    /// EAGAIN this many times, which the driver also hides.
    Again(u32),
    /// Reported as done and not done: a lost write, or a flush that lies.
    Lost,
    /// Done at this byte instead: a write that lands elsewhere, or a read of
    /// something else.
    Misdirected(u64),
    /// A read that returns what was there at the last flush.
    Stale,
    /// The thread that carries it out panics there, as by a bug of its own.
    Panic,
    /// Does not end before [`SimDisk::release_stalls`](super::SimDisk::release_stalls).
    Stall,
}

/// A fault at a certain call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which kind of call.
    pub op: OpKind,
    /// Which call of that kind, the first being 0. Calls are numbered as they
    /// are submitted, over all handles of the disk; see
    /// [`SimStats`](super::SimStats) for the next number.
    pub at: u64,
    /// How many calls in a row.
    pub times: u64,
    /// What goes wrong.
    pub what: FaultKind,
}

impl Fault {
    /// At one call.
    pub const fn once(op: OpKind, at: u64, what: FaultKind) -> Self {
        Self {
            op,
            at,
            times: 1,
            what,
        }
    }

    /// At one call and all after it.
    pub const fn for_good(op: OpKind, at: u64, what: FaultKind) -> Self {
        Self {
            op,
            at,
            times: u64::MAX,
            what,
        }
    }

    pub(crate) fn hits(&self, op: OpKind, index: u64) -> bool {
        self.op == op && index >= self.at && index - self.at < self.times
    }
}
