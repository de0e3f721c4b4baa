//! One cell of the measurement: an operation, a size, a queue depth.

use std::time::{Duration, Instant};

use gaur_iodriver::{Device, DurableMethod, IoBuf, Op, Queue, Request};
use hdrhistogram::Histogram;
use rand::{Rng, RngExt};
use rand_chacha::ChaCha8Rng;

use super::area::{Area, Pieces};
use super::subject::Subject;
use crate::failure::Failure;
use crate::interrupt;
use crate::run::measure;

/// The size of large reads and writes.
const LARGE: u64 = 1 << 20;
/// A size between: a run of leaves, or a large value.
const MIDDLE: u64 = 256 << 10;

/// What a cell does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
    /// A write made durable, each for itself.
    Sync(DurableMethod),
}

/// A cell. Names are fio's: `randread`, `randwrite`, `read`, `write`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) kind: Kind,
    pub(crate) random: bool,
    pub(crate) bytes: u64,
    pub(crate) depth: u32,
}

/// What was counted, all rounds together.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) latency: Histogram<u64>,
    pub(crate) ops: u64,
    pub(crate) time: Duration,
    /// Operations per second of each round.
    pub(crate) rounds: Vec<f64>,
}

/// The matrix, small enough for some seconds.
pub(crate) fn all(subject: &Subject) -> Vec<Cell> {
    let block = u64::from(subject.block);
    let mut kinds = vec![Kind::Read];
    if subject.writes.is_some() {
        kinds.push(Kind::Write);
    }
    let mut cells = Vec::new();
    let mut add = |kind, random, bytes, depths: &[u32]| {
        for &depth in depths {
            cells.push(Cell {
                kind,
                random,
                bytes,
                depth,
            });
        }
    };
    for &kind in &kinds {
        add(kind, true, block, &[1, 4, 16, 64]);
        add(kind, true, MIDDLE, &[4]);
        add(kind, false, block, &[1, 16]);
        add(kind, false, LARGE, &[1, 4]);
    }
    if subject.writes.is_some() {
        for method in DurableMethod::ALL {
            add(Kind::Sync(method), false, block, &[1]);
        }
    }
    cells.retain(|c| c.is_possible(subject));
    cells
}

impl Cell {
    /// Reads of so many bytes all over the place.
    pub(crate) fn random_reads(bytes: u64, depth: u32) -> Self {
        Self {
            kind: Kind::Read,
            random: true,
            bytes,
            depth,
        }
    }

    /// What it does, in fio's words.
    pub(crate) fn rw(&self) -> String {
        let what = match self.kind {
            Kind::Read => "read",
            Kind::Write => "write",
            Kind::Sync(method) => return format!("sync {method}"),
        };
        format!("{}{what}", if self.random { "rand" } else { "" })
    }

    /// Its name, which does not change: `randread-4k-qd16`, `sync-dsync-4k`.
    pub(crate) fn name(&self) -> String {
        let rw = self.rw().replace(' ', "-");
        let kib = self.bytes >> 10;
        match self.kind {
            Kind::Sync(_) => format!("{rw}-{kib}k"),
            _ => format!("{rw}-{kib}k-qd{}", self.depth),
        }
    }

    /// Whether there is room for it.
    pub(crate) fn is_possible(&self, subject: &Subject) -> bool {
        self.area(subject).pieces(self.bytes).count() > 0
    }

    fn area<'a>(&self, subject: &'a Subject) -> &'a Area {
        match (self.kind, &subject.writes) {
            (Kind::Write | Kind::Sync(_), Some(writes)) => writes,
            _ => &subject.reads,
        }
    }

    /// Runs for about `time`, and returns how many operations it did.
    pub(crate) fn run(
        &self,
        subject: &Subject,
        time: Duration,
        rng: &mut ChaCha8Rng,
        tally: &mut Tally,
    ) -> Result<u64, Failure> {
        let failed = |e| Failure::engine(&format!("{} failed", self.name()), gaur::Error::Io(e));
        let device = match self.kind {
            Kind::Sync(method) => subject.device.with_durable_method(method),
            Kind::Read | Kind::Write => subject.device.clone(),
        };
        let mut slice = Slice {
            cell: self,
            pieces: self.area(subject).pieces(self.bytes),
            next: rng.random_range(0..u64::MAX / 2),
            started: vec![Instant::now(); self.depth as usize],
            rng,
        };
        let mut queue = device.queue(self.depth).map_err(failed)?;
        let (ops, took) = slice.run(queue.as_mut(), time, tally).map_err(failed)?;
        drop(queue);
        tally.ops += ops;
        tally.time += took;
        tally.rounds.push(ops as f64 / took.as_secs_f64().max(1e-9));
        if self.kind == Kind::Write {
            // What lies in the device's cache must not burden the next cell.
            device.flush().map_err(failed)?;
        }
        Ok(ops)
    }
}

/// One stretch of one cell.
struct Slice<'a> {
    cell: &'a Cell,
    pieces: Pieces,
    next: u64,
    started: Vec<Instant>,
    rng: &'a mut ChaCha8Rng,
}

impl Slice<'_> {
    /// Keeps `depth` requests in flight until the time is over. Operations count if
    /// they ended in time, over the time to the last of them; if none did, all.
    fn run(
        &mut self,
        queue: &mut dyn Queue,
        time: Duration,
        tally: &mut Tally,
    ) -> Result<(u64, Duration), gaur_iodriver::IoError> {
        let mut requests: Vec<Request> = (0..self.cell.depth as usize)
            .map(|slot| {
                let mut buf = IoBuf::zeroed(self.cell.bytes as usize);
                // What compresses well would flatter some devices.
                self.rng.fill_bytes(&mut buf);
                self.request(slot, buf)
            })
            .collect();
        let mut done = Vec::new();
        let begin = Instant::now();
        self.started.fill(begin);
        let (mut in_time, mut last, mut late) = (0, begin, 0);
        queue.submit(&mut requests)?;
        while queue.in_flight() > 0 {
            queue.wait(1, None, &mut done)?;
            let now = Instant::now();
            let over = now - begin > time || interrupt::requested();
            for c in done.drain(..) {
                c.result?;
                let slot = c.token as usize;
                let took = (now - self.started[slot]).as_nanos() as u64;
                tally.latency.saturating_record(took.max(1));
                if over {
                    late += 1;
                    continue;
                }
                (in_time, last) = (in_time + 1, now);
                if let Some(buf) = c.buf {
                    requests.push(self.request(slot, buf));
                    self.started[slot] = now;
                }
            }
            queue.submit(&mut requests)?;
        }
        Ok(match in_time {
            0 => (late, begin.elapsed()),
            n => (n, last - begin),
        })
    }

    fn request(&mut self, slot: usize, buf: IoBuf) -> Request {
        let n = if self.cell.random {
            self.rng.random_range(0..self.pieces.count())
        } else {
            self.next += 1;
            self.next
        };
        let offset = self.pieces.at(n).unwrap_or_default();
        let op = match self.cell.kind {
            Kind::Read => Op::Read { offset, buf },
            Kind::Write => Op::Write {
                offset,
                buf,
                durable: false,
            },
            Kind::Sync(_) => Op::Write {
                offset,
                buf,
                durable: true,
            },
        };
        Request {
            token: slot as u64,
            op,
        }
    }
}

impl Tally {
    pub(crate) fn new() -> Result<Self, Failure> {
        Ok(Self {
            latency: measure::histogram()?,
            ops: 0,
            time: Duration::ZERO,
            rounds: Vec::new(),
        })
    }

    /// Operations per second.
    pub(crate) fn iops(&self) -> f64 {
        self.ops as f64 / self.time.as_secs_f64().max(1e-9)
    }
}

/// Writes all of an area once, in large pieces, until the time is over or Ctrl-C comes; cuts the
/// area to what was written. At least a large piece is.
pub(crate) fn write_once(
    device: &dyn Device,
    area: &mut Area,
    time: Duration,
    rng: &mut ChaCha8Rng,
) -> Result<(), gaur_iodriver::IoError> {
    let begin = Instant::now();
    let mut buf = IoBuf::zeroed(LARGE as usize);
    rng.fill_bytes(&mut buf);
    let mut written = 0;
    let on = || begin.elapsed() < time && !interrupt::requested();
    for (start, len) in area.extents() {
        let mut at = 0;
        while at < len && (written == 0 || on()) {
            let n = (len - at).min(LARGE);
            device.write_at(start + at, &buf[..n as usize])?;
            at += n;
            written += n;
        }
        if at < len {
            break;
        }
    }
    area.truncate(written);
    device.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_change() {
        let cell = |kind, random, bytes, depth| Cell {
            kind,
            random,
            bytes,
            depth,
        };
        assert_eq!(cell(Kind::Read, true, 4096, 16).name(), "randread-4k-qd16");
        assert_eq!(cell(Kind::Write, false, LARGE, 1).name(), "write-1024k-qd1");
        let sync = cell(Kind::Sync(DurableMethod::WriteFlush), false, 4096, 1);
        assert_eq!(sync.name(), "sync-write-flush-4k");
    }
}
