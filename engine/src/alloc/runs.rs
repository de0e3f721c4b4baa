//! Lists of runs: what is not allocatable although the map says 0.

use std::collections::BTreeMap;

use crate::format::{BlockNo, Run};

/// Runs in order, without overlap, adjacent ones merged. Compact and unchanging.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RunList {
    runs: Vec<Run>,
    blocks: u64,
}

impl RunList {
    /// Sorts and merges. Merged runs do not grow across group boundaries, since
    /// a group begins with metadata.
    ///
    /// # Panics
    /// If two of them overlap: our own bug.
    pub(super) fn new(runs: Vec<Run>) -> Self {
        Self::disjoint(runs).unwrap_or_else(|(a, b)| panic!("{a:?} and {b:?} overlap"))
    }

    /// [`RunList::new`] of runs that the trees name, which may be damaged.
    ///
    /// # Errors
    /// Two that overlap.
    pub(super) fn disjoint(mut runs: Vec<Run>) -> Result<Self, (Run, Run)> {
        runs.retain(|r| r.len > 0);
        runs.sort_unstable();
        let mut merged: Vec<Run> = Vec::with_capacity(runs.len());
        for run in runs {
            match merged.last_mut() {
                Some(last) if last.end() >= run.start => {
                    if last.end() > run.start {
                        return Err((*last, run));
                    }
                    last.len += run.len;
                }
                _ => merged.push(run),
            }
        }
        let blocks = merged.iter().map(|r| u64::from(r.len)).sum();
        Ok(Self {
            runs: merged,
            blocks,
        })
    }

    /// The runs.
    pub(super) fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Blocks in all of them.
    pub(super) fn blocks(&self) -> u64 {
        self.blocks
    }

    /// The runs that touch `start .. end`, not clipped.
    pub(super) fn within(&self, start: BlockNo, end: BlockNo) -> &[Run] {
        let first = self.runs.partition_point(|r| r.end() <= start);
        let last = self.runs.partition_point(|r| r.start < end);
        &self.runs[first..last.max(first)]
    }

    /// Whether any block of `run` is in the list.
    pub(super) fn touches(&self, run: Run) -> bool {
        !self.within(run.start, run.end()).is_empty()
    }
}

/// A changing set of blocks, kept as runs.
#[derive(Clone, Debug, Default)]
pub(super) struct RunSet {
    runs: BTreeMap<BlockNo, u32>,
    blocks: u64,
}

impl RunSet {
    /// Adds blocks. Merged runs do not grow across group boundaries, since a group
    /// begins with metadata.
    ///
    /// # Panics
    /// If one of them is in the set: our own bug.
    pub(super) fn insert(&mut self, run: Run) {
        assert!(
            self.within(run.start, run.end()).is_empty(),
            "{run:?} is held twice"
        );
        self.blocks += u64::from(run.len);
        let Run { mut start, mut len } = run;
        if let Some((&s, &l)) = self.runs.range(..start).next_back()
            && s + u64::from(l) == start
        {
            start = s;
            len += l;
        }
        len += self.runs.remove(&run.end()).unwrap_or(0);
        self.runs.insert(start, len);
    }

    /// The part of the set in `start .. end`, clipped.
    pub(super) fn within(&self, start: BlockNo, end: BlockNo) -> Vec<Run> {
        let before = self.runs.range(..start).next_back();
        before
            .into_iter()
            .chain(self.runs.range(start..end))
            .filter_map(|(&s, &len)| {
                let (from, to) = (s.max(start), (s + u64::from(len)).min(end));
                (from < to).then(|| Run {
                    start: from,
                    len: (to - from) as u32,
                })
            })
            .collect()
    }

    /// Removes the blocks of `run` that are in the set; returns them and the rest.
    pub(super) fn remove(&mut self, run: Run) -> (Vec<Run>, Vec<Run>) {
        let there = self.within(run.start, run.end());
        let mut rest = Vec::new();
        let mut at = run.start;
        for piece in &there {
            if at < piece.start {
                rest.push(span(at, piece.start));
            }
            at = piece.end();
            let (&start, &len) = self
                .runs
                .range(..=piece.start)
                .next_back()
                .expect("the piece came from a run");
            let end = start + u64::from(len);
            self.runs.remove(&start);
            if start < piece.start {
                self.runs.insert(start, (piece.start - start) as u32);
            }
            if piece.end() < end {
                self.runs.insert(piece.end(), (end - piece.end()) as u32);
            }
            self.blocks -= u64::from(piece.len);
        }
        if at < run.end() {
            rest.push(span(at, run.end()));
        }
        (there, rest)
    }

    /// The first run that begins at `from` or behind.
    pub(super) fn next(&self, from: BlockNo) -> Option<Run> {
        let (&start, &len) = self.runs.range(from..).next()?;
        Some(Run { start, len })
    }

    /// Runs in the set.
    pub(super) fn runs(&self) -> usize {
        self.runs.len()
    }

    /// Blocks in the set.
    pub(super) fn blocks(&self) -> u64 {
        self.blocks
    }
}

/// The run from `start` up to `end`.
pub(super) fn span(start: BlockNo, end: BlockNo) -> Run {
    Run {
        start,
        len: (end - start) as u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(start: u64, len: u32) -> Run {
        Run { start, len }
    }

    #[test]
    fn lists_merge_and_find() {
        let list = [run(20, 5), run(10, 5), run(15, 5), run(40, 1), run(30, 0)];
        let list = RunList::new(list.to_vec());
        assert_eq!(list.runs(), &[run(10, 15), run(40, 1)]);
        assert_eq!(list.blocks(), 16);
        assert_eq!(list.within(24, 40), &[run(10, 15)]);
        assert!(!list.touches(run(25, 15)));
        assert!(list.touches(run(40, 1)));
    }

    #[test]
    #[should_panic(expected = "overlap")]
    fn lists_refuse_overlap() {
        RunList::new(vec![run(10, 5), run(14, 1)]);
    }

    #[test]
    fn sets_split() {
        let mut set = RunSet::default();
        set.insert(run(10, 10));
        set.insert(run(30, 10));
        let (there, rest) = set.remove(run(15, 20));
        assert_eq!(there, vec![run(15, 5), run(30, 5)]);
        assert_eq!(rest, vec![run(20, 10)]);
        assert_eq!(set.within(0, 100), vec![run(10, 5), run(35, 5)]);
        assert_eq!(set.blocks(), 10);
    }

    #[test]
    fn sets_merge() {
        let mut set = RunSet::default();
        for part in [run(10, 5), run(20, 5), run(15, 5), run(30, 1), run(9, 1)] {
            set.insert(part);
        }
        assert_eq!((set.runs(), set.blocks()), (2, 17));
        assert_eq!(set.next(0), Some(run(9, 16)));
        assert_eq!(set.next(10), Some(run(30, 1)));
        assert_eq!(set.next(31), None);
        let (there, rest) = set.remove(run(9, 16));
        assert_eq!((there, rest), (vec![run(9, 16)], vec![]));
    }
}
