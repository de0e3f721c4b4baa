//! What of the log can still be read, and who waits for more of it.
//!
//! The log is a ring: what a checkpoint lets go of stays where it is until the log has come
//! round to it. So its last lap can be read, whoever opened the store, and no writer waits
//! for those who read it. To find a commit, the places of some log blocks are kept, about a
//! thousand of them a lap: those written since the store was opened, and, once somebody asks
//! for what was before, those found by reading the rest of the lap.

use std::collections::VecDeque;
use std::sync::Arc;

use gaur_iodriver::Device;
use gaur_iodriver::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use gaur_iodriver::sync::time::{Duration, Instant, now};
use gaur_iodriver::sync::{Condvar, Mutex, ShortMutex};

use super::past::{LogPlace, Past};
use super::ring::Ring;
use crate::error::{Error, Result};
use crate::format::log::LogHeader;
use crate::format::{Csn, Geometry};

/// Places kept of one lap.
const PLACES: u64 = 1024;

/// How far the log reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reach {
    /// Behind the last log block that is planned: a lap before it is the oldest that may be
    /// there.
    pub(crate) next: u64,
    /// All before this position is durable.
    pub(crate) durable: u64,
}

/// The log, to be read again.
#[derive(Debug)]
pub(crate) struct History {
    device: Arc<dyn Device>,
    ring: Arc<Ring>,
    store_id: u128,
    /// Ascending.
    places: ShortMutex<VecDeque<LogPlace>>,
    /// The last of them, with `next_csn` of the first: no more than a hint.
    last: AtomicU64,
    /// Held while the lap is searched; true afterwards.
    searched: Mutex<bool>,
    pub(crate) watch: Arc<Watch>,
}

impl History {
    pub(super) fn new(device: Arc<dyn Device>, ring: Arc<Ring>, store_id: u128) -> Self {
        Self {
            device,
            ring,
            store_id,
            places: ShortMutex::default(),
            last: AtomicU64::new(0),
            searched: Mutex::new(false),
            watch: Arc::new(Watch::default()),
        }
    }

    /// Of a store that is only read.
    ///
    /// # Errors
    /// [`Error::BadOption`] if the geometry has no room for its log.
    pub(crate) fn of_closed(
        device: Arc<dyn Device>,
        geometry: Geometry,
        store_id: u128,
    ) -> Result<Self> {
        let ring = Arc::new(Ring::new(geometry)?);
        Ok(Self::new(device, ring, store_id))
    }

    /// Blocks in the log.
    pub(crate) fn len(&self) -> u64 {
        self.ring.len()
    }

    /// A reader.
    pub(crate) fn reader(&self) -> Past {
        Past::new(self.device.clone(), self.ring.clone(), self.store_id)
    }

    fn stride(&self) -> u64 {
        (self.ring.len() / PLACES).max(1)
    }

    /// Notes where a log block begins that is durable. The first is where the store was
    /// opened; later ones come in order.
    pub(crate) fn note(&self, place: LogPlace) {
        let mut places = self.places.lock();
        places.push_back(place);
        while places.len() as u64 > 2 * PLACES {
            places.pop_front();
        }
        self.last.store(place.position, Ordering::Relaxed);
    }

    /// Whether a log block that begins here is far enough behind the last one noted.
    pub(super) fn is_due(&self, position: u64) -> bool {
        position >= self.last.load(Ordering::Relaxed) + self.stride()
    }

    /// The last place noted from which commit `csn` can be reached.
    fn before(&self, csn: Csn) -> Option<LogPlace> {
        let places = self.places.lock();
        let behind = places.partition_point(|p| p.next_csn <= csn);
        places.get(behind.checked_sub(1)?).copied()
    }

    /// The oldest commit that can be read, as far as that is known.
    fn oldest(&self, reach: Reach) -> Csn {
        let there = reach.next.saturating_sub(self.len());
        let places = self.places.lock();
        let at = places.partition_point(|p| p.position < there);
        places.get(at).or(places.back()).map_or(0, |p| p.next_csn)
    }

    /// The error for who wants what follows `after`, of which something is overwritten.
    pub(crate) fn gone(&self, after: Csn, reach: Reach) -> Error {
        Error::ChangesGone {
            after,
            oldest: self.oldest(reach),
        }
    }

    /// Where to begin to read so as to meet commit `after` + 1; the commits up to `after`
    /// that come first are passed over.
    ///
    /// # Errors
    /// [`Error::ChangesGone`]; [`Error::Io`] and [`Error::Damaged`].
    pub(crate) fn find(
        &self,
        past: &mut Past,
        after: Csn,
        reach: impl Fn() -> Reach,
    ) -> Result<LogPlace> {
        if self.before(after + 1).is_none() {
            let mut searched = self.searched.lock();
            if !*searched {
                self.search(past, reach())?;
                *searched = true;
            }
        }
        match self.before(after + 1) {
            Some(place) => Ok(place),
            None => Err(self.gone(after, reach())),
        }
    }

    /// Reads what was written before the store was opened, and notes what of it leads up to
    /// the first place noted.
    fn search(&self, past: &mut Past, reach: Reach) -> Result<()> {
        let Some(first) = self.places.lock().front().copied() else {
            return Ok(());
        };
        let (end, stride) = (first.position, self.stride());
        let oldest = end.max(reach.next).saturating_sub(self.len());
        let mut found: Vec<LogPlace> = Vec::new();
        let mut at: Option<LogPlace> = None;
        let mut position = oldest;
        while position < end {
            let Some(header) = past.verified(position, end)? else {
                (at, position) = (None, position + 1);
                found.clear();
                continue;
            };
            let here = LogPlace {
                position,
                chain: header.previous,
                next_csn: header.first_csn,
            };
            if at != Some(here) {
                found.clear();
            }
            let last = found.last().map(|p: &LogPlace| p.position);
            if last.is_none_or(|last| position >= last + stride) {
                found.push(here);
            }
            position += u64::from(header.blocks);
            at = Some(LogPlace {
                position,
                chain: header.checksum,
                next_csn: here.next_csn + u64::from(header.records),
            });
        }
        if at == Some(first) {
            let mut places = self.places.lock();
            for place in found.into_iter().rev() {
                places.push_front(place);
            }
        }
        Ok(())
    }

    /// Whether what lay at `position` was overwritten, or is about to be.
    pub(crate) fn is_over(&self, position: u64, reach: Reach) -> bool {
        reach.next > position + self.len()
    }

    /// Bytes of `blocks` blocks of the log.
    pub(crate) fn bytes(&self, blocks: u64) -> u64 {
        blocks * self.ring.block_size() as u64
    }
}

/// The first record of a log block, for [`Past::record`].
pub(crate) const FIRST_RECORD: usize = LogHeader::SIZE;

/// Where those wait who want the next commit. Holds nothing of the store, so that whoever
/// waits here keeps neither it nor its device open.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    durable: AtomicU64,
    over: AtomicBool,
    waiting: AtomicUsize,
    lock: Mutex<()>,
    changed: Condvar,
}

impl Watch {
    /// All up to this commit is durable.
    pub(super) fn tell(&self, durable: Csn) {
        // SeqCst: either the waiter sees this, or we see it wait.
        self.durable.store(durable, Ordering::SeqCst);
        self.wake();
    }

    /// Nothing more will come.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
        self.wake();
    }

    fn wake(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            // Who has looked and does not wait yet holds the lock.
            drop(self.lock.lock());
            self.changed.notify_all();
        }
    }

    pub(crate) fn durable(&self) -> Csn {
        self.durable.load(Ordering::SeqCst)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// Waits until more than `csn` is durable, nothing more will come, or `until`.
    pub(crate) fn wait(&self, csn: Csn, until: Option<Instant>) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let mut guard = self.lock.lock();
        while self.durable() <= csn && !self.is_over() {
            match until {
                None => self.changed.wait(&mut guard),
                Some(until) => {
                    let left = until.saturating_duration_since(now());
                    if left == Duration::ZERO {
                        break;
                    }
                    self.changed.wait_for(&mut guard, left);
                }
            }
        }
        drop(guard);
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}
