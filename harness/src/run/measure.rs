//! Latencies: recorded per thread and operation, merged at the end, never averaged.

use std::time::Duration;

use hdrhistogram::Histogram;

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
pub(crate) fn histogram() -> Result<Histogram<u64>, Failure> {
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
    /// Records read or written.
    pub(crate) records: u64,
    /// Records looked for and not found.
    pub(crate) missing: u64,
}

impl Seen {
    fn new(open_loop: bool) -> Result<Self, Failure> {
        Ok(Self {
            latency: histogram()?,
            service: if open_loop { Some(histogram()?) } else { None },
            records: 0,
            missing: 0,
        })
    }

    /// Adds what another thread saw.
    fn merge(&mut self, other: &Self) -> Result<(), Failure> {
        let failed = |e| Failure::refused(format!("cannot merge histograms: {e:?}"));
        self.latency.add(&other.latency).map_err(failed)?;
        match (&mut self.service, &other.service) {
            (Some(a), Some(b)) => a.add(b).map_err(failed)?,
            (None, Some(b)) => self.service = Some(b.clone()),
            _ => {}
        }
        self.records += other.records;
        self.missing += other.missing;
        Ok(())
    }
}

/// One thread's measurements, or all threads' merged.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    seen: [Option<Box<Seen>>; Op::COUNT],
    /// Operations of an open loop that were due and not begun when time was up.
    pub(crate) not_started: u64,
    /// Processor time of the threads in the loop.
    pub(crate) processor: Duration,
}

impl Measured {
    /// Makes room for these operations now, so that recording never allocates.
    pub(crate) fn of(ops: impl IntoIterator<Item = Op>, open_loop: bool) -> Result<Self, Failure> {
        let mut m = Self::default();
        for op in ops {
            m.seen[op as usize] = Some(Box::new(Seen::new(open_loop)?));
        }
        Ok(m)
    }

    /// Counts one operation. `waited` is what an open loop was late by.
    pub(crate) fn record(
        &mut self,
        op: Op,
        service: Duration,
        waited: Option<Duration>,
        done: Done,
    ) {
        let Some(seen) = &mut self.seen[op as usize] else {
            return;
        };
        let nanos = |d: Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX).max(1);
        seen.latency
            .saturating_record(nanos(service + waited.unwrap_or_default()));
        if let Some(h) = &mut seen.service {
            h.saturating_record(nanos(service));
        }
        seen.records += done.records;
        seen.missing += done.missing;
    }

    /// Adds what another thread measured.
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
}

/// What one operation did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Done {
    /// Records read or written.
    pub(crate) records: u64,
    /// Records looked for and not found.
    pub(crate) missing: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_merge_to_what_one_would_have_seen() {
        let one = Done {
            records: 1,
            missing: 0,
        };
        let mut all = Measured::of([Op::Read], false).unwrap();
        let mut merged = Measured::default();
        for thread in 0..4_u64 {
            let mut m = Measured::of([Op::Read], false).unwrap();
            for i in 0..1000 {
                let d = Duration::from_nanos(100 + i * 1000 + thread);
                m.record(Op::Read, d, None, one);
                all.record(Op::Read, d, None, one);
            }
            merged.merge(&m).unwrap();
        }
        let (_, a) = all.each().next().unwrap();
        let (_, b) = merged.each().next().unwrap();
        assert_eq!(a.latency, b.latency);
        assert_eq!((a.records, b.records), (4000, 4000));
    }

    #[test]
    fn an_open_loop_keeps_both_figures() {
        let mut m = Measured::of([Op::Read], true).unwrap();
        let (service, late) = (Duration::from_micros(10), Duration::from_millis(1));
        m.record(Op::Read, service, Some(late), Done::default());
        let (_, seen) = m.each().next().unwrap();
        assert!(seen.latency.max() >= 1_010_000);
        let service = seen.service.as_ref().unwrap().max();
        assert!((10_000..10_100).contains(&service));
    }

    #[test]
    fn over_a_minute_counts_as_a_minute() {
        let mut m = Measured::of([Op::Scan], false).unwrap();
        m.record(Op::Scan, Duration::from_secs(100), None, Done::default());
        let (_, seen) = m.each().next().unwrap();
        assert!(seen.latency.max() >= 60_000_000_000 && seen.latency.max() < 61_000_000_000);
    }

    #[test]
    fn the_names_follow_the_numbers() {
        for (i, op) in Op::ALL.into_iter().enumerate() {
            assert_eq!(op as usize, i);
        }
    }
}
