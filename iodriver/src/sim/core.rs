//! The state that all handles of a simulated disk share, and what an operation
//! does to it.
//!
//! An operation goes three steps: it is numbered when submitted (that decides its
//! fault), started when the queue has room (from then on a power cut may tear
//! it), and carried out when its time has come.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use rand::RngExt;

use super::fault::{Fault, FaultKind, OpKind};
use super::media::{InFlight, Media, garbage};
use super::{CrashMode, Cut, DiscardFill, SimOptions, SimStats};
use crate::bell::Bell;
use crate::contract::{Geometry, Op};
use crate::error::{IoError, IoErrorKind};
use crate::sync::rng::{Rng, seeded};
use crate::sync::time::{Duration, Instant};
use crate::sync::{Mutex, site, thread, time};
use crate::transfer::{Step, Transfer};

/// An operation's number and what that entails.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    /// Unique over all operations.
    id: u64,
    fault: Option<FaultKind>,
    /// For flushes: the newest write that was complete at submission.
    barrier: u64,
    /// The state of [`State::releases`] then; a stalled one waits for a change.
    releases: u64,
    /// In which part of the program it was submitted.
    site: &'static str,
}

/// When a started operation is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    At(Instant),
    /// Stalled.
    Never,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) powered: bool,
    pub(crate) capacity: u64,
    pub(crate) media: Media,
    pub(crate) stats: SimStats,
    pub(crate) options: SimOptions,
    faults: Vec<Fault>,
    in_flight: BTreeMap<u64, InFlight>,
    next_id: u64,
    rng: Rng,
    /// The write or flush at which the power fails, by its number.
    last_event: Option<u64>,
    releases: u64,
    bells: Vec<Weak<Bell>>,
    pub(crate) mark: u64,
    /// What a power cut would have found, if that is to be kept.
    pub(crate) cuts: Option<Vec<Cut>>,
}

/// A simulated disk.
#[derive(Debug)]
pub(crate) struct Core {
    state: Mutex<State>,
}

fn power_is_off(what: &'static str, offset: u64, len: u64) -> IoError {
    IoError::new(IoErrorKind::Failed, what, offset, len, "power is off")
}

/// The range of an operation, for errors.
fn range(op: &Op) -> (u64, u64) {
    match op {
        Op::Read { offset, buf } | Op::Write { offset, buf, .. } => (*offset, buf.len() as u64),
        Op::Flush => (0, 0),
        Op::Discard { offset, len } => (*offset, *len),
    }
}

impl Core {
    pub(crate) fn new(options: SimOptions, media: Option<Media>) -> Self {
        Self {
            state: Mutex::new(State {
                powered: true,
                capacity: options.capacity,
                media: media.unwrap_or_else(|| Media::new(options.logical_block)),
                stats: SimStats::default(),
                faults: Vec::new(),
                in_flight: BTreeMap::new(),
                next_id: 0,
                rng: seeded(options.seed),
                last_event: None,
                releases: 0,
                bells: Vec::new(),
                mark: 0,
                cuts: None,
                options,
            }),
        }
    }

    pub(crate) fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock())
    }

    /// A bell that rings when stalls are released or the power goes.
    pub(crate) fn bell(&self) -> Arc<Bell> {
        let bell = Arc::new(Bell::default());
        self.with(|s| {
            s.bells.retain(|b| b.strong_count() > 0);
            s.bells.push(Arc::downgrade(&bell));
        });
        bell
    }

    /// Numbers an operation.
    pub(crate) fn ticket(&self, op: &Op) -> Ticket {
        self.with(|s| {
            let kind = OpKind::of(op);
            let (_, len) = range(op);
            let index = s.stats.count(kind, len);
            let sector = u64::from(s.options.logical_block);
            let fault = s.fault(kind, index).map(|what| match what {
                // The disk knows only whole sectors, wrong ones included.
                FaultKind::Misdirected(to) => FaultKind::Misdirected(to - to % sector),
                what => what,
            });
            let id = s.next_id;
            s.next_id += 1;
            Ticket {
                id,
                fault,
                barrier: s.media.seq(),
                releases: s.releases,
                site: site(),
            }
        })
    }

    /// Starts a numbered operation: the disk has it now.
    pub(crate) fn start(&self, ticket: &Ticket, op: &Op) -> Due {
        self.with(|s| {
            if s.powered {
                s.register(ticket, op);
            }
            if ticket.fault == Some(FaultKind::Stall) && ticket.releases == s.releases {
                return Due::Never;
            }
            let latency = s.options.latency;
            let wait = latency.draw(op, &mut s.rng);
            Due::At(time::now() + wait)
        })
    }

    /// How long until a started operation can be carried out; `None`: not before
    /// the bell rings.
    pub(crate) fn time_left(&self, ticket: &Ticket, due: Due, now: Instant) -> Option<Duration> {
        self.with(|s| {
            if !s.powered || (due == Due::Never && ticket.releases != s.releases) {
                return Some(Duration::ZERO);
            }
            match due {
                Due::At(at) => Some(at.saturating_duration_since(now)),
                Due::Never => None,
            }
        })
    }

    /// The order in which to carry out `n` operations whose time has come.
    pub(crate) fn shuffle<T>(&self, ready: &mut [T]) {
        if ready.len() < 2 {
            return;
        }
        self.with(|s| {
            if s.options.reorder {
                for i in (1..ready.len()).rev() {
                    ready.swap(i, s.rng.random_range(0..=i));
                }
            }
        });
    }

    /// Carries an operation out.
    pub(crate) fn carry_out(&self, ticket: &Ticket, op: &mut Op) -> Result<(), IoError> {
        // A queue that a panic drops carries out what it has: once is enough.
        if ticket.fault == Some(FaultKind::Panic) && !thread::is_panicking() {
            panic!("injected panic in a {}", OpKind::of(op).name());
        }
        let (result, cut) = self.with(|s| {
            let powered = s.powered;
            let result = s.carry_out(ticket, op);
            if result.is_err() {
                s.stats.failed += 1;
            }
            (result, powered && !s.powered)
        });
        if cut {
            self.ring_all();
        }
        result
    }

    pub(crate) fn power_off(&self) {
        self.with(|s| s.powered = false);
        self.ring_all();
    }

    pub(crate) fn release_stalls(&self) {
        self.with(|s| s.releases += 1);
        self.ring_all();
    }

    fn ring_all(&self) {
        let bells = self.with(|s| s.bells.clone());
        for bell in bells.iter().filter_map(Weak::upgrade) {
            bell.ring();
        }
    }

    /// What a power cut leaves, as a disk that is on again.
    pub(crate) fn after_power_cut(&self, mode: CrashMode, rng: &mut Rng) -> Self {
        self.with(|s| {
            let physical = s.options.physical_block;
            let media = s.media.after_power_cut(&s.in_flight, physical, mode, rng);
            Self::new(s.restarted(rng.random()), Some(media))
        })
    }

    /// A copy of what reads see now.
    pub(crate) fn snapshot(&self) -> Self {
        self.with(|s| Self::new(s.restarted(s.options.seed), Some(s.media.settled())))
    }

    pub(crate) fn refresh(&self) -> Result<(), IoError> {
        self.with(|s| {
            let index = s.stats.count(OpKind::Refresh, 0);
            match s.fault(OpKind::Refresh, index) {
                Some(FaultKind::Fail(kind)) => {
                    Err(IoError::new(kind, "refresh", 0, 0, "injected fault"))
                }
                _ => Ok(()),
            }
        })
    }

    pub(crate) fn grow(&self, capacity: u64, allocate: bool) -> Result<(), IoError> {
        self.with(|s| {
            let fail = |kind, detail: &str| Err(IoError::new(kind, "grow", capacity, 0, detail));
            let index = s.stats.count(OpKind::Grow, 0);
            if !s.powered {
                return Err(power_is_off("grow", capacity, 0));
            }
            if capacity <= s.capacity && !(allocate && s.options.file) {
                return Ok(());
            }
            if !s.options.file {
                return fail(
                    IoErrorKind::Unsupported,
                    "a block device has the size it has; enlarge it from outside and refresh",
                );
            }
            if !capacity.is_multiple_of(u64::from(s.options.logical_block)) {
                return fail(
                    IoErrorKind::Misaligned,
                    "the new size is no multiple of the block",
                );
            }
            if let Some(FaultKind::Fail(kind)) = s.fault(OpKind::Grow, index) {
                return fail(kind, "injected fault");
            }
            s.capacity = s.capacity.max(capacity);
            Ok(())
        })
    }

    pub(crate) fn geometry(&self, capacity: u64) -> Geometry {
        self.with(|s| {
            let o = &s.options;
            Geometry {
                capacity,
                logical_block: o.logical_block,
                physical_block: o.physical_block,
                offset_align: o.logical_block,
                memory_align: o.memory_align,
                volatile_cache: o.volatile_cache,
                discard_granularity: o.discard_granularity,
                discard_alignment: 0,
                max_discard: 0,
                discard_zeroes: false,
                is_block_device: !o.file,
                direct: true,
            }
        })
    }

    pub(crate) fn inject(&self, fault: Fault) {
        self.with(|s| s.faults.push(fault));
    }

    pub(crate) fn inject_next(&self, op: OpKind, what: FaultKind) {
        self.with(|s| {
            let at = s.stats.next(op);
            s.faults.push(Fault::once(op, at, what));
        });
    }

    pub(crate) fn clear_faults(&self) {
        self.with(|s| s.faults.clear());
    }

    /// Spoils what is stored, behind everyone's back.
    pub(crate) fn damage(&self, offset: u64, len: u64, f: impl FnOnce(&mut [u8], &mut Rng)) {
        self.with(|s| {
            let sector = u64::from(s.options.logical_block);
            let start = offset - offset % sector;
            let end = (offset + len).next_multiple_of(sector);
            let mut bytes = vec![0; (end - start) as usize];
            s.media.read(start, &mut bytes);
            let from = (offset - start) as usize;
            f(&mut bytes[from..from + len as usize], &mut s.rng);
            s.media.write_stable(start, &bytes);
        });
    }

    pub(crate) fn crash_after(&self, n: u64) {
        self.with(|s| s.last_event = Some(s.stats.events + n.max(1)));
    }
}

impl State {
    fn restarted(&self, seed: u64) -> SimOptions {
        SimOptions {
            capacity: self.capacity,
            seed,
            ..self.options.clone()
        }
    }

    fn fault(&self, kind: OpKind, index: u64) -> Option<FaultKind> {
        // The last one injected wins.
        let hit = self.faults.iter().rev().find(|f| f.hits(kind, index))?;
        Some(hit.what)
    }

    /// Notes what a power cut may tear from now on.
    fn register(&mut self, ticket: &Ticket, op: &Op) {
        let entry = match op {
            Op::Write { offset, buf, .. } => InFlight {
                offset: match ticket.fault {
                    Some(FaultKind::Misdirected(to)) => to,
                    _ => *offset,
                },
                len: buf.len() as u64,
                data: buf[..].into(),
            },
            Op::Discard { offset, len } if *len > 0 => {
                let Some(fill) = self.discard_fill() else {
                    return;
                };
                InFlight {
                    offset: *offset,
                    len: *len,
                    data: fill,
                }
            }
            _ => return,
        };
        if ticket.fault != Some(FaultKind::Lost) {
            self.in_flight.insert(ticket.id, entry);
        }
    }

    /// A sector of what discarded blocks read as; `None`: as before.
    fn discard_fill(&mut self) -> Option<Arc<[u8]>> {
        let sector = self.options.logical_block as usize;
        match self.options.discard_fill {
            DiscardFill::Keep => None,
            DiscardFill::Zero => Some(vec![0; sector].into()),
            DiscardFill::Garbage => Some(garbage(sector, &mut self.rng)),
        }
    }

    fn carry_out(&mut self, ticket: &Ticket, op: &mut Op) -> Result<(), IoError> {
        let what = OpKind::of(op).name();
        let (offset, len) = range(op);
        if !self.powered {
            return Err(power_is_off(what, offset, len));
        }
        if matches!(op, Op::Write { .. } | Op::Flush) {
            self.stats.events += 1;
            if let Some(cuts) = &mut self.cuts {
                cuts.push(Cut {
                    event: self.stats.events,
                    flush: matches!(op, Op::Flush),
                    site: ticket.site,
                    fails: matches!(ticket.fault, Some(FaultKind::Fail(_))),
                    mark: self.mark,
                    media: self.media.clone(),
                    in_flight: self.in_flight.clone(),
                    options: SimOptions {
                        capacity: self.capacity,
                        ..self.options.clone()
                    },
                });
            }
            if self.last_event == Some(self.stats.events) {
                // The write stays in flight, for the power cut to tear; a flush
                // has moved nothing, or any part, which is the same.
                self.powered = false;
                return Err(power_is_off(what, offset, len));
            }
        }
        if !matches!(op, Op::Flush) && offset + len > self.capacity {
            self.in_flight.remove(&ticket.id);
            return Err(IoError::new(
                IoErrorKind::OutOfRange,
                what,
                offset,
                len,
                format!("the device now ends at byte {}", self.capacity),
            ));
        }
        if let Some(FaultKind::Fail(kind)) = ticket.fault {
            self.fail(ticket, op);
            return Err(IoError::new(kind, what, offset, len, "injected fault"));
        }
        let entry = self.in_flight.remove(&ticket.id);
        let sector = self.options.logical_block;
        match op {
            Op::Read { offset, buf } => {
                let from = match ticket.fault {
                    Some(FaultKind::Misdirected(from)) => from,
                    _ => *offset,
                };
                let shift = from.wrapping_sub(*offset);
                let stale = ticket.fault == Some(FaultKind::Stale);
                let (media, stats) = (&self.media, &mut self.stats);
                transfer(
                    "read",
                    *offset,
                    len,
                    sector,
                    ticket,
                    stats,
                    |at, position, n| {
                        let part = &mut buf[position..position + n];
                        if stale {
                            media.read_stable(at.wrapping_add(shift), part);
                        } else {
                            media.read(at.wrapping_add(shift), part);
                        }
                    },
                )
            }
            Op::Write { durable, .. } => {
                // Nothing in flight: the write is to be lost.
                let Some(entry) = entry else { return Ok(()) };
                // The pieces of a short transfer are separate writes to the disk.
                let durable = *durable || !self.options.volatile_cache;
                let (media, stats) = (&mut self.media, &mut self.stats);
                transfer(
                    "write",
                    entry.offset,
                    len,
                    sector,
                    ticket,
                    stats,
                    |at, from, n| {
                        if durable {
                            media.write_stable(at, &entry.data[from..from + n]);
                        } else if n == entry.data.len() {
                            media.write(ticket.id, at, &entry.data);
                        } else {
                            media.write(ticket.id, at, &entry.data[from..from + n].into());
                        }
                    },
                )?;
                self.bound_cache();
                Ok(())
            }
            Op::Flush => {
                if ticket.fault != Some(FaultKind::Lost) {
                    self.media.flush(ticket.barrier);
                }
                Ok(())
            }
            Op::Discard { offset, len } => {
                if let Some(entry) = entry {
                    self.media.discard(ticket.id, *offset, *len, &entry.data);
                    if !self.options.volatile_cache {
                        self.media.flush(self.media.seq());
                    }
                }
                Ok(())
            }
        }
    }

    /// A failed write may have been done in part.
    fn fail(&mut self, ticket: &Ticket, op: &Op) {
        let entry = self.in_flight.remove(&ticket.id);
        match (op, entry) {
            (Op::Write { .. }, Some(entry)) => {
                let sector = self.options.logical_block as usize;
                let done = self.rng.random_range(0..=entry.data.len() / sector) * sector;
                if done > 0 {
                    let part: Arc<[u8]> = entry.data[..done].into();
                    self.media.write(ticket.id, entry.offset, &part);
                }
            }
            (Op::Flush, _) => self.media.give_up(ticket.barrier),
            _ => {}
        }
    }

    /// A real cache is finite: when it is full the disk empties it by itself.
    fn bound_cache(&mut self) {
        let bytes = self.media.cached() as u64 * u64::from(self.options.logical_block);
        if bytes > self.options.cache_bytes {
            self.media.flush(self.media.seq());
        }
    }
}

/// Does a transfer in the pieces that its fault cuts it into.
fn transfer(
    what: &'static str,
    offset: u64,
    len: u64,
    sector: u32,
    ticket: &Ticket,
    stats: &mut SimStats,
    mut piece: impl FnMut(u64, usize, usize),
) -> Result<(), IoError> {
    let (mut short, mut again) = match ticket.fault {
        Some(FaultKind::Short(bytes)) => (Some(bytes), 0),
        Some(FaultKind::Again(times)) => (None, times),
        _ => (None, 0),
    };
    // Sectors are whole: a short transfer ends between two of them.
    short = short.map(|bytes| (bytes - bytes % u64::from(sector)).max(u64::from(sector)));
    let mut transfer = Transfer::new(what, offset, len, sector);
    loop {
        let (at, from, n) = transfer.piece();
        let result = if again > 0 {
            again -= 1;
            stats.again += 1;
            Err(libc::EAGAIN)
        } else {
            let n = match short.take() {
                Some(bytes) if bytes < n as u64 => {
                    stats.short += 1;
                    bytes as usize
                }
                _ => n,
            };
            if n > 0 {
                piece(at, from, n);
            }
            Ok(n as u64)
        };
        match transfer.step(result) {
            Step::Done => return Ok(()),
            Step::More | Step::Again => {}
            Step::Fail(error) => return Err(error),
        }
    }
}
