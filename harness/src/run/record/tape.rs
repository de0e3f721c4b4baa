//! A phase while it is recorded: its seconds, one after the other, and their sum.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gaur::Stats;

use super::interval::Ops;
use super::journal::{Journal, Reading};
use super::series::{self, Line};
use super::{Recorder, Short, Slot, Slow, Tails};
use crate::failure::Failure;
use crate::run::measure::{Measured, Op};
use crate::run::summary::Kind;
use crate::subject::Subject;

/// How long a line of the series covers.
const LINE: Duration = Duration::from_secs(1);

/// A phase that is being recorded.
pub(crate) struct Tape<'a> {
    journal: &'a mut Journal,
    subject: &'a dyn Subject,
    kind: Kind,
    wanted: usize,
    begun: Instant,
    first: Reading,
    /// The second under way: when it began, the counters then, what was seen since.
    since: Instant,
    before: Reading,
    second: Ops,
    lines: u32,
    total: Measured,
    /// What was done beside it, and the bytes written so in the second under way.
    beside: Measured,
    beside_bytes: u64,
    worst: Vec<Slow>,
    /// For the exchange with a thread's own; empty.
    spares: Vec<Short>,
}

/// A phase that was recorded.
pub(crate) struct Recorded {
    pub(crate) measured: Measured,
    /// What was done beside it.
    pub(crate) beside: Measured,
    /// Seconds from the start of the first phase.
    pub(crate) begin: f64,
    /// The slowest first.
    pub(crate) worst: Vec<(f64, Slow)>,
    pub(crate) stats: Option<Stats>,
    pub(crate) device: Option<crate::blockdev::Counters>,
}

impl<'a> Tape<'a> {
    /// Begins a phase. The `wanted` slowest operations are explained.
    pub(crate) fn begin(
        journal: &'a mut Journal,
        subject: &'a dyn Subject,
        kind: Kind,
        wanted: usize,
    ) -> Result<Self, Failure> {
        let first = journal.read(subject);
        let begun = Instant::now();
        journal.start(begun)?;
        Ok(Self {
            journal,
            subject,
            kind,
            wanted,
            begun,
            since: begun,
            before: first.clone(),
            first,
            second: Ops::default(),
            lines: 0,
            total: Measured::default(),
            beside: Measured::default(),
            beside_bytes: 0,
            worst: Vec::new(),
            spares: Vec::new(),
        })
    }

    /// How many slow operations each thread keeps.
    pub(crate) fn wanted(&self) -> usize {
        self.wanted
    }

    /// Whether a second is over.
    pub(crate) fn is_due(&self) -> bool {
        self.begun.elapsed() >= LINE * (self.lines + 1)
    }

    /// Takes what a thread saw since the last time into the second under way.
    pub(crate) fn take(&mut self, slot: &Arc<Slot>) -> Result<(), Failure> {
        // A service histogram that is not used is in nobody's way.
        self.spares
            .retain(|s| s.service.is_some() == slot.open_loop);
        while self.spares.len() < slot.count {
            self.spares.push(Short::new(slot.open_loop)?);
        }
        let mut taken = Vec::with_capacity(slot.count);
        {
            // Nothing is made or freed under the lock.
            let mut ops = slot.lock();
            for (op, mine) in Op::ALL.into_iter().zip(ops.iter_mut()) {
                let Some(mine) = mine.as_mut().filter(|s| !s.is_empty()) else {
                    continue;
                };
                if let Some(spare) = self.spares.pop() {
                    taken.push((op, std::mem::replace(&mut **mine, spare)));
                }
            }
        }
        for (op, mut short) in taken {
            if slot.beside {
                self.beside_bytes += short.done.written;
                self.beside.add(op, &short)?;
                short.clear();
                self.spares.push(short);
                continue;
            }
            match &mut self.second[op as usize] {
                Some(sum) => sum.add(&short)?,
                none => *none = Some(Box::new(short.clone())),
            }
            short.clear();
            self.spares.push(short);
        }
        Ok(())
    }

    /// The latencies of the second under way, as far as they were taken; none if
    /// nothing was done.
    pub(crate) fn tails(&self) -> Result<Option<Tails>, Failure> {
        Tails::of(&self.second)
    }

    /// Ends the second under way: writes it down, and adds it to the phase.
    pub(crate) fn line(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        let reading = self.journal.read(self.subject);
        let begin = self.journal.at(self.since);
        let seconds = now - self.since;
        if self.journal.is_written() {
            let line = Line {
                t: begin + seconds.as_secs_f64(),
                seconds: seconds.as_secs_f64(),
                phase: self.kind.name(),
                operations: series::operations(&self.second),
                counts: series::Counts::between(&self.before, &reading, self.user_bytes()),
            };
            self.journal.write_line(&line)?;
            if self.kind.is_kept() {
                self.journal
                    .write_histograms(begin, seconds, &self.second)?;
            }
        }
        for (op, short) in Op::ALL.into_iter().zip(&mut self.second) {
            if let Some(short) = short.as_mut().filter(|s| !s.is_empty()) {
                self.total.add(op, short)?;
                short.clear();
            }
        }
        self.beside_bytes = 0;
        self.lines = (now - self.begun).as_secs() as u32;
        self.since = now;
        self.before = reading;
        Ok(())
    }

    fn user_bytes(&self) -> u64 {
        let measured: u64 = self.second.iter().flatten().map(|s| s.done.written).sum();
        measured + self.beside_bytes
    }

    /// Takes the rest of what a thread has.
    pub(crate) fn end_of(&mut self, recorder: Recorder) -> Result<(), Failure> {
        self.take(recorder.slot())?;
        let beside = recorder.slot().beside;
        let total = if beside {
            &mut self.beside
        } else {
            &mut self.total
        };
        total.not_started += recorder.not_started;
        total.processor += recorder.processor;
        if !beside {
            self.worst.extend(recorder.worst.into_slow());
        }
        Ok(())
    }

    /// Ends the phase.
    pub(crate) fn finish(mut self) -> Result<Recorded, Failure> {
        self.line()?;
        self.worst.sort_by_key(|s| std::cmp::Reverse(s.latency));
        self.worst.truncate(self.wanted);
        let journal = &*self.journal;
        let worst = self.worst.into_iter().map(|s| (journal.at(s.begin), s));
        Ok(Recorded {
            begin: journal.at(self.begun),
            worst: worst.collect(),
            stats: self.before.stats_since(&self.first),
            device: self.before.device_since(&self.first),
            measured: self.total,
            beside: self.beside,
        })
    }
}
