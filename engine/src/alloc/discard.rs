//! Telling the device what is free again, a little at a time.
//!
//! What is freed waits here, merged with its neighbours, and goes to the device in
//! whole units, as fast as the rate allows and with few in flight. Each piece is
//! free when its own discard has ended, well or not. The system calls are made by
//! the driver's threads; this is only who decides.
//!
//! What must hold:
//!
//! 1. A block that waits, or whose discard is in flight, is in `Space::discarding`
//!    and so not allocatable; a block is never in both.
//! 2. What waits is free at once when anybody needs space ([`Worker::hurry`]), when
//!    too much waits, and when discards turn out not to work. So nobody is refused,
//!    or waits, for the sake of the rate; at most for the few in flight.
//! 3. A failed discard harms nobody: it is counted, and its blocks are free.

use std::collections::BTreeMap;

use gaur_iodriver::sync::time::{self, Instant};
use gaur_iodriver::{IoError, IoErrorKind, Op, Request as IoRequest, fault};

use crate::format::{BlockNo, Run};

use super::AllocConfig;
use super::counters::add;
use super::pace::{DiscardRate, Pace};
use super::runs::{RunList, RunSet};
use super::thread::{Worker, token};
use super::trim::Trim;
use super::unit::{Piece, Unit};

/// Discards in flight, at most; one more for a trim.
const IN_FLIGHT: usize = 2;
/// Runs that may wait. What comes on top is not discarded; it bounds the memory.
pub(super) const MAX_WAITING: usize = 16_384;
/// The number of a discard that a fault sends; others count from 1.
#[cfg(faults)]
const EARLY: u64 = 0;
/// After so many refusals in a row no more are tried.
const REFUSALS: u32 = 3;

/// How it goes, for everybody to see.
#[derive(Debug, Default)]
pub(super) struct Status {
    /// How fast blocks are discarded as they become free; none if they are not.
    pub(super) rate: Option<DiscardRate>,
    /// Why nothing is discarded although it was asked for.
    off: Option<String>,
    /// The first failure.
    first: Option<IoError>,
}

impl Status {
    /// What is asked for, and whether it can be had.
    pub(super) fn new(config: &AllocConfig, device: &gaur_iodriver::Geometry, unit: Unit) -> Self {
        let why = if unit.is_some() || !config.discard {
            None
        } else if device.is_block_device {
            Some("the device cannot discard")
        } else {
            Some("the store is in a file that was not formatted as sparse and keeps its space")
        };
        Self {
            rate: (config.discard && unit.is_some()).then_some(config.discard_rate),
            off: why.map(|why| format!("discard is off: {why}")),
            first: None,
        }
    }

    /// What is not as it was asked for, in sentences.
    pub(super) fn notes(&self, failures: u64) -> Vec<String> {
        let first = self.first.as_ref();
        let failed = first.map(|e| format!("{failures} discards failed, the first: {e}"));
        self.off.clone().into_iter().chain(failed).collect()
    }
}

/// A discard on its way.
#[derive(Debug)]
struct Flight {
    piece: Piece,
    /// It belongs to the trim at the front.
    trim: bool,
}

/// What waits to be discarded, and what is in flight.
#[derive(Debug)]
pub(super) struct Discards {
    pub(super) unit: Unit,
    /// Whether blocks are discarded as they become free.
    online: bool,
    rate: DiscardRate,
    pace: Pace,
    waiting: RunSet,
    /// Goes round the device.
    cursor: BlockNo,
    in_flight: BTreeMap<u64, Flight>,
    next_token: u64,
    refusals: u32,
    /// When there is more to do without a message or completion.
    pub(super) due: Option<Instant>,
}

impl Discards {
    pub(super) fn new(unit: Unit, online: bool, rate: DiscardRate) -> Self {
        Self {
            unit,
            online: online && unit.is_some(),
            rate,
            pace: Pace::default(),
            waiting: RunSet::default(),
            cursor: 0,
            in_flight: BTreeMap::new(),
            next_token: 0,
            refusals: 0,
            due: None,
        }
    }

    /// Blocks that wait.
    pub(super) fn waiting_blocks(&self) -> u64 {
        self.waiting.blocks()
    }

    /// Come back at this time at the latest.
    pub(super) fn come_back(&mut self, at: Instant) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }
}

impl Worker {
    /// Blocks that nothing needs.
    pub(super) fn free(&mut self, run: Run, written: bool) {
        let d = &mut self.discards;
        self.may_evict = true;
        if written && d.online && d.waiting.runs() < MAX_WAITING {
            self.space.discarding.insert(run);
            d.waiting.insert(run);
            return;
        }
        if written && d.online {
            add(&self.shared.counters.discard_skipped_blocks, run.len.into());
        }
        self.space.make_free(run);
        self.progress = true;
    }

    /// Sends what may be sent now.
    pub(super) fn step_discards(&mut self) {
        self.discards.due = None;
        if self.discards.waiting.blocks() == 0 && self.trims.is_empty() {
            return;
        }
        // Who waits for what is in flight must not find the next one in flight then.
        if self.waits_for_space() {
            self.hurry();
            return;
        }
        let now = time::now();
        self.step_online(now);
        self.step_trims(now);
    }

    fn step_online(&mut self, now: Instant) {
        while self.discards.in_flight.values().filter(|f| !f.trim).count() < IN_FLIGHT {
            let d = &mut self.discards;
            let next = d.waiting.next(d.cursor).or_else(|| d.waiting.next(0));
            let Some(run) = next else { return };
            if let Some(left) = d.pace.left(now) {
                return d.come_back(now + left);
            }
            let geometry = &self.config.geometry;
            let Some(piece) = d.unit.piece(geometry, run, d.rate.at_once()) else {
                self.skip(run);
                continue;
            };
            d.pace.charge(now, piece.len, d.rate);
            d.waiting.remove(piece.run);
            d.cursor = piece.run.end();
            let before = Run {
                start: run.start,
                len: (piece.run.start - run.start) as u32,
            };
            self.send_discard(piece, false);
            if before.len > 0 {
                self.skip(before);
            }
        }
    }

    /// Sends a discard of blocks that are in `Space::discarding`.
    pub(super) fn send_discard(&mut self, piece: Piece, trim: bool) {
        let d = &mut self.discards;
        let counters = &self.shared.counters;
        add(&counters.discard_requests, 1);
        add(
            &counters.discard_blocks,
            piece.len / u64::from(self.config.geometry.block_size),
        );
        d.next_token += 1;
        d.in_flight.insert(d.next_token, Flight { piece, trim });
        self.submit.push(IoRequest {
            token: token::DISCARD | d.next_token,
            op: Op::Discard {
                offset: piece.offset,
                len: piece.len,
            },
        });
        if !trim && fault!(AllocatableDuringDiscard) {
            self.freed(piece.run);
        }
    }

    /// Discards what a generation frees before the generation is durable: a fault.
    #[cfg(faults)]
    pub(super) fn discard_early(&mut self, freed: &RunList) {
        if !self.discards.online || !fault!(DiscardedBeforeDurable) {
            return;
        }
        let size = u64::from(self.config.geometry.block_size);
        for run in freed.runs() {
            self.submit.push(IoRequest {
                token: token::DISCARD | EARLY,
                op: Op::Discard {
                    offset: run.start * size,
                    len: u64::from(run.len) * size,
                },
            });
        }
    }

    /// What waits, or a part of it, is free without a discard.
    fn skip(&mut self, run: Run) {
        self.discards.waiting.remove(run);
        add(&self.shared.counters.discard_skipped_blocks, run.len.into());
        self.freed(run);
    }

    fn freed(&mut self, run: Run) {
        self.space.discarded(&RunList::new(vec![run]));
        self.progress = true;
        self.may_evict = true;
    }

    /// Space is short: all that waits is free at once. False if nothing waited.
    pub(super) fn hurry(&mut self) -> bool {
        let all = self.discards.waiting.within(0, BlockNo::MAX);
        for &run in &all {
            self.skip(run);
        }
        !all.is_empty()
    }

    /// A discard ended.
    pub(super) fn discard_done(&mut self, number: u64, result: Result<(), IoError>) {
        #[cfg(faults)]
        if number == EARLY {
            return;
        }
        let flight = self.discards.in_flight.remove(&number);
        let Flight { piece, trim } = flight.expect("it was in flight");
        if trim {
            let front = self.trims.front_mut().expect("its trim waits for it");
            Trim::ended(front, piece.len, &result);
        }
        match result {
            Ok(()) => self.discards.refusals = 0,
            Err(e) => self.discard_failed(e),
        }
        if trim || !fault!(AllocatableDuringDiscard) {
            self.freed(piece.run);
        }
    }

    fn discard_failed(&mut self, e: IoError) {
        add(&self.shared.counters.discard_failures, 1);
        let refused = matches!(
            e.kind,
            IoErrorKind::Unsupported | IoErrorKind::Misaligned | IoErrorKind::Denied
        );
        let d = &mut self.discards;
        if refused {
            d.refusals += 1;
        }
        let give_up = d.refusals >= REFUSALS && d.unit.is_some();
        {
            let mut status = self.shared.discard.lock();
            if give_up {
                status.rate = None;
                status.off = Some(format!(
                    "discard is off: the device refused it {REFUSALS} times in a row"
                ));
            }
            status.first.get_or_insert(e);
        }
        if give_up {
            d.unit = Unit::NONE;
            d.online = false;
            self.hurry();
        }
    }

    /// The thread ends: what waits is not discarded any more.
    pub(super) fn drop_discards(&mut self) {
        add(
            &self.shared.counters.discard_skipped_blocks,
            self.discards.waiting.blocks(),
        );
        self.discards.waiting = RunSet::default();
    }
}
