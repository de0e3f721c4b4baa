//! What is measured, and its sums; `record` says how they come about.

use std::time::Duration;

use hdrhistogram::{Counter, Histogram};

use super::record::{Short, accumulate};
use crate::failure::Failure;

/// The longest latency that is told apart; longer ones count as this.
pub(crate) const LONGEST: Duration = Duration::from_secs(60);

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Load,
    Read,
    Update,
    Insert,
    Scan,
    Reverse,
    Delete,
    Rmw,
    ReadBack,
}

impl Op {
    /// How many there are.
    pub(crate) const COUNT: usize = 9;

    /// All, in the order of reports.
    pub(crate) const ALL: [Self; Self::COUNT] = [
        Self::Load,
        Self::Read,
        Self::Update,
        Self::Insert,
        Self::Scan,
        Self::Reverse,
        Self::Delete,
        Self::Rmw,
        Self::ReadBack,
    ];

    /// Its name in reports and file names.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Read => "read",
            Self::Update => "update",
            Self::Insert => "insert",
            Self::Scan => "scan",
            Self::Reverse => "reverse",
            Self::Delete => "delete",
            Self::Rmw => "rmw",
            Self::ReadBack => "readback",
        }
    }
}

/// An empty histogram: 3 significant digits from 1 ns to [`LONGEST`].
pub(crate) fn histogram<C: Counter>() -> Result<Histogram<C>, Failure> {
    Histogram::new_with_bounds(1, LONGEST.as_nanos() as u64, 3)
        .map_err(|e| Failure::refused(format!("cannot make a histogram: {e}")))
}

/// What was seen of one operation.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// From the intended start in an open loop, else from the real one.
    pub(crate) latency: Histogram<u64>,
    /// From the real start; only in an open loop.
    pub(crate) service: Option<Histogram<u64>>,
    pub(crate) done: Done,
}

impl Seen {
    fn new(open_loop: bool) -> Result<Self, Failure> {
        Ok(Self {
            latency: histogram()?,
            service: if open_loop { Some(histogram()?) } else { None },
            done: Done::default(),
        })
    }

    /// Adds what was seen in a short time.
    fn add(&mut self, short: &Short) -> Result<(), Failure> {
        accumulate(&mut self.latency, &short.latency)?;
        if let (Some(mine), Some(theirs)) = (&mut self.service, &short.service) {
            accumulate(mine, theirs)?;
        }
        self.done.add(short.done);
        Ok(())
    }

    /// Adds what was seen in another phase.
    fn merge(&mut self, other: &Self) -> Result<(), Failure> {
        let failed = |e| Failure::refused(format!("cannot merge histograms: {e:?}"));
        self.latency.add(&other.latency).map_err(failed)?;
        match (&mut self.service, &other.service) {
            (Some(a), Some(b)) => a.add(b).map_err(failed)?,
            (None, Some(b)) => self.service = Some(b.clone()),
            _ => {}
        }
        self.done.add(other.done);
        Ok(())
    }
}

/// A phase's measurements, or several phases' merged.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    seen: [Option<Box<Seen>>; Op::COUNT],
    /// Operations of an open loop that were due and not begun when time was up.
    pub(crate) not_started: u64,
    /// Processor time of the threads in the loop.
    pub(crate) processor: Duration,
}

impl Measured {
    /// Adds what was seen of an operation in a short time.
    pub(crate) fn add(&mut self, op: Op, short: &Short) -> Result<(), Failure> {
        let open_loop = short.service.is_some();
        let seen = match &mut self.seen[op as usize] {
            Some(seen) => seen,
            none => none.insert(Box::new(Seen::new(open_loop)?)),
        };
        seen.add(short)
    }

    /// Adds what was measured in another phase.
    pub(crate) fn merge(&mut self, other: &Self) -> Result<(), Failure> {
        for (mine, theirs) in self.seen.iter_mut().zip(&other.seen) {
            match (mine, theirs) {
                (Some(mine), Some(theirs)) => mine.merge(theirs)?,
                (mine @ None, Some(theirs)) => *mine = Some(theirs.clone()),
                (_, None) => {}
            }
        }
        self.not_started += other.not_started;
        self.processor += other.processor;
        Ok(())
    }

    /// How many operations there were.
    pub(crate) fn count(&self) -> u64 {
        self.each().map(|(_, seen)| seen.latency.len()).sum()
    }

    /// What was seen of each operation that occurred.
    pub(crate) fn each(&self) -> impl Iterator<Item = (Op, &Seen)> {
        Op::ALL
            .into_iter()
            .filter_map(|op| Some((op, &**self.seen[op as usize].as_ref()?)))
            .filter(|(_, seen)| !seen.latency.is_empty())
    }

    /// Bytes of keys and values that were written.
    pub(crate) fn written(&self) -> u64 {
        self.each().map(|(_, seen)| seen.done.written).sum()
    }
}

/// What one operation did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Done {
    /// Records read or written.
    pub(crate) records: u64,
    /// Records looked for and not found.
    pub(crate) missing: u64,
    /// Bytes of keys and values written, and of keys deleted.
    pub(crate) written: u64,
}

impl Done {
    #[inline]
    pub(crate) fn add(&mut self, other: Self) {
        self.records += other.records;
        self.missing += other.missing;
        self.written += other.written;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_follow_the_numbers() {
        for (i, op) in Op::ALL.into_iter().enumerate() {
            assert_eq!(op as usize, i);
        }
    }
}
