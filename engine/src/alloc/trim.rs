//! Discarding what is free already, a group at a time.
//!
//! A piece of free space is lent to its discard: while that is in flight its blocks
//! are being discarded like any others, and nobody can get them. One piece at a
//! time, so that little is missing, and not for long.
//!
//! Who asked is answered after [`TURN`] at the latest, with how to go on: the rate may
//! make a group last for hours, and there must be a way out.

use gaur_iodriver::sync::channel::Sender;
use gaur_iodriver::sync::time::{Duration, Instant};
use gaur_iodriver::{IoError, IoErrorKind};

use crate::error::{Error, Result};

use super::pace::DiscardRate;
use super::space::Local;
use super::thread::Worker;

/// The longest that one answer may take, but for a discard that is in flight.
const TURN: Duration = Duration::from_millis(100);

/// What became of a group's free space, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// Free when it was looked at.
    pub free: u64,
    /// Discarded; of a dry run: would be.
    pub discarded: u64,
    /// Discards that failed.
    pub failures: u64,
    /// The group's map is damaged, so nobody knows what is free.
    pub unknown: bool,
    /// Not at the group's end yet.
    pub rest: Option<Rest>,
}

/// What a trim left for another turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rest {
    /// Where to go on: so many blocks behind the group's first.
    pub from: u32,
    /// When, as the rate demands it.
    pub due: Duration,
}

/// A group on its way.
#[derive(Debug)]
pub(super) struct Trim {
    pub(super) group: u64,
    rate: DiscardRate,
    dry: bool,
    reply: Sender<Result<Trimmed>>,
    /// Where to look next, in the group.
    at: u32,
    in_flight: bool,
    sum: Trimmed,
    /// When its turn ends; it begins at the front.
    until: Option<Instant>,
}

impl Trim {
    pub(super) fn new(
        group: u64,
        from: u32,
        rate: DiscardRate,
        dry: bool,
        reply: Sender<Result<Trimmed>>,
    ) -> Self {
        Self {
            group,
            rate,
            dry,
            reply,
            at: from,
            in_flight: false,
            sum: Trimmed::default(),
            until: None,
        }
    }

    /// Its discard ended.
    pub(super) fn ended(&mut self, bytes: u64, result: &Result<(), IoError>) {
        self.in_flight = false;
        match result {
            Ok(()) => self.sum.discarded += bytes,
            Err(_) => self.sum.failures += 1,
        }
    }
}

impl Worker {
    /// Goes on with the oldest trim, until it must wait.
    pub(super) fn step_trims(&mut self, now: Instant) {
        while let Some(trim) = self.trims.front()
            && let Some(answer) = self.trim(trim.group, now)
        {
            let trim = self.trims.pop_front().expect("it is the front");
            let _ = trim.reply.try_send(answer);
            self.may_evict = true;
        }
    }

    /// Goes on with the trim at the front; the answer, if it is at its end.
    fn trim(&mut self, group: u64, now: Instant) -> Option<Result<Trimmed>> {
        if self.trims.front()?.in_flight {
            return None;
        }
        if self.space.is_damaged(group) {
            let sum = Trimmed {
                unknown: true,
                ..Trimmed::default()
            };
            return Some(Ok(sum));
        }
        if !self.discards.unit.is_some() {
            return Some(Err(unable()));
        }
        if !self.space.ready(group) {
            self.start_load(group);
            return None;
        }
        let block_size = u64::from(self.config.geometry.block_size);
        loop {
            let trim = self.trims.front_mut()?;
            let bits = &self.space.open(group).alloc;
            let Some((start, len)) = bits.zero_run(trim.at, bits.len()) else {
                return Some(Ok(trim.sum));
            };
            let run = self.space.global(Local { group, start, len });
            // Not more than a part of what is left for others.
            let most = trim.rate.at_once().min(self.space.avail / 4 * block_size);
            let most = if trim.dry { u64::MAX } else { most };
            let geometry = &self.config.geometry;
            let Some(piece) = self.discards.unit.piece(geometry, run, most) else {
                trim.at = start + len;
                trim.sum.free += u64::from(len) * block_size;
                continue;
            };
            if !trim.dry {
                let left = self.trim_pace.left(now);
                let due = left.unwrap_or_default();
                if now + due > *trim.until.get_or_insert(now + TURN) {
                    let from = trim.at;
                    trim.sum.rest = Some(Rest { from, due });
                    return Some(Ok(trim.sum));
                }
                if left.is_some() {
                    self.discards.come_back(now + due);
                    return None;
                }
            }
            // Up to the end of the piece; the rest comes next.
            let upto = (piece.run.end() - (run.start - u64::from(start))) as u32;
            trim.at = upto;
            trim.sum.free += u64::from(upto - start) * block_size;
            if trim.dry {
                trim.sum.discarded += piece.len;
                continue;
            }
            trim.in_flight = true;
            self.trim_pace.charge(now, piece.len, trim.rate);
            self.space.lend(piece.run);
            self.send_discard(piece, true);
            return None;
        }
    }
}

/// The error of a trim where nothing can be discarded.
fn unable() -> Error {
    Error::Io(IoError::new(
        IoErrorKind::Unsupported,
        "discard",
        0,
        0,
        "the device cannot discard, or the store is in a file that was not formatted as sparse",
    ))
}
