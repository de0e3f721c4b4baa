//! Growing while open: who asks for it and who waits for it.
//!
//! Only the checkpointer makes a store larger (`writeback/grow.rs`), between two
//! checkpoints: it has the file lengthened, and the next checkpoint takes the new
//! capacity in. It is asked for by [`Store::grow`], by the allocator when space is
//! low, by a writer that would be refused as full, and by itself when somebody else
//! made the device larger. A growth that fails before that checkpoint changes
//! nothing but a note.
//!
//! [`Store::grow`]: crate::Store::grow

use std::sync::atomic::{AtomicU64, Ordering};

use gaur_iodriver::sync::channel::{self, Receiver, Sender};
use gaur_iodriver::sync::time::{Duration, Instant, now};
use gaur_iodriver::sync::{Condvar, Mutex};
use gaur_iodriver::{IoError, IoErrorKind};

use crate::error::{Error, Result};
use crate::format::Geometry;
use crate::inspect::bytes as in_units;
use crate::options::OpenOptions;
use crate::stats::Wait;
use crate::tree::Forest;
use crate::worker::Worker;

/// After a growth by itself failed, the next is tried this much later: until then
/// a full store says so at once.
const RETRY: Duration = Duration::from_secs(10);
/// Between two looks whether somebody who is waited for has stopped.
const LOOK: Duration = Duration::from_millis(20);

/// What growing did, or would do. All in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrowReport {
    /// What the store used before.
    pub before: u64,
    /// What it uses now; the same if there was nothing to win.
    pub capacity: u64,
    /// What the device or file has: more, if the end is too short to be of use, or
    /// behind what one map can cover.
    pub device: u64,
}

/// Somebody waits for a growth.
#[derive(Debug)]
pub(crate) struct Ask {
    /// At least so many bytes; `None`: what there is.
    pub(crate) bytes: Option<u64>,
    pub(crate) reply: Sender<Result<GrowReport>>,
}

/// How a store grows.
#[derive(Debug)]
pub(crate) struct Growth {
    /// It grows by itself to this many bytes; 0: it does not.
    pub(crate) grow_to: u64,
    /// It takes in what others enlarged.
    pub(crate) follow: bool,
    /// What is new of a file gets its space when it is written.
    pub(crate) sparse: bool,
    asks: (Sender<Ask>, Receiver<Ask>),
    rounds: Mutex<Rounds>,
    ended: Condvar,
    pub(crate) growths: AtomicU64,
    pub(crate) failures: AtomicU64,
}

/// The checkpointer's looks at whether to grow.
#[derive(Debug, Default)]
struct Rounds {
    begun: u64,
    ended: u64,
    /// The round that a writer waits for.
    wanted: u64,
    failed_at: Option<Instant>,
    note: Option<String>,
}

impl Default for Growth {
    fn default() -> Self {
        Self {
            grow_to: 0,
            follow: false,
            sparse: false,
            asks: channel::unbounded(),
            rounds: Mutex::default(),
            ended: Condvar::new(),
            growths: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
    }
}

impl Growth {
    pub(crate) fn new(o: &OpenOptions, sparse: bool) -> Self {
        Self {
            grow_to: o.grow_to.unwrap_or(0),
            follow: o.follow_size,
            sparse,
            ..Self::default()
        }
    }

    /// The checkpointer begins a look: what is asked for, and whether a writer waits.
    pub(crate) fn begin(&self) -> (Vec<Ask>, bool) {
        let asks = std::iter::from_fn(|| self.asks.1.try_recv().ok()).collect();
        let mut r = self.rounds.lock();
        let wanted = r.wanted > r.begun;
        r.begun += 1;
        (asks, wanted)
    }

    /// The look is over, and what came of it is durable.
    pub(crate) fn end(&self) {
        let mut r = self.rounds.lock();
        r.ended = r.begun;
        self.ended.notify_all();
    }

    /// A growth failed.
    pub(crate) fn failed(&self, note: String) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let mut r = self.rounds.lock();
        r.failed_at = Some(now());
        r.note = Some(note);
    }

    /// A growth succeeded.
    pub(crate) fn succeeded(&self) {
        self.growths.fetch_add(1, Ordering::Relaxed);
        let mut r = self.rounds.lock();
        r.failed_at = None;
        r.note = None;
    }

    /// Whether a growth failed a short time ago.
    pub(crate) fn failed_lately(&self) -> bool {
        let at = self.rounds.lock().failed_at;
        at.is_some_and(|at| at.elapsed() < RETRY)
    }

    /// Why the last growth failed, if it did.
    pub(crate) fn note(&self) -> Option<String> {
        self.rounds.lock().note.clone()
    }
}

impl Forest {
    /// The store's size in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.geometry.byte(self.geometry.capacity())
    }

    /// What growing would do now; nothing is changed.
    pub(crate) fn plan_growth(&self, bytes: Option<u64>) -> Result<GrowReport> {
        let now = self.geometry.now();
        check_size(&now, bytes)?;
        let have = self.device.refresh()?;
        let device = bytes.unwrap_or(0).max(have.capacity);
        if device > have.capacity && have.is_block_device {
            let detail = "a block device has the size it has; enlarge it from outside";
            let unable = IoError::new(IoErrorKind::Unsupported, "grow", have.capacity, 0, detail);
            return Err(self.cannot_grow(device, unable));
        }
        Ok(GrowReport {
            before: now.byte(now.capacity),
            capacity: now.byte(now.grown(device).unwrap_or(now).capacity),
            device,
        })
    }

    pub(crate) fn cannot_grow(&self, wanted: u64, cause: IoError) -> Error {
        Error::CannotGrow {
            have: self.bytes(),
            wanted,
            cause,
        }
    }

    /// Has the store grow to at least `bytes`, or take in what there is, and waits
    /// until that is durable.
    pub(crate) fn grow(&self, bytes: Option<u64>) -> Result<GrowReport> {
        check_size(&self.geometry.now(), bytes)?;
        let (reply, answer) = channel::bounded(1);
        let _ = self.growth.asks.0.try_send(Ask { bytes, reply });
        loop {
            self.progress.ask();
            match answer.recv_timeout(LOOK) {
                Ok(answer) => return answer,
                Err(_) => {
                    if let Some(why) = self.progress.stopped() {
                        return Err(Error::Stopped(why));
                    }
                }
            }
        }
    }

    /// For a request that was refused as full when the capacity was `seen`: whether
    /// there is more now. Has the store grow if it may and waits for that; nothing
    /// may be held, and the caller is not the checkpointer.
    ///
    /// # Errors
    /// If the store stopped.
    pub(crate) fn more_space(&self, worker: &Worker, seen: u64) -> Result<bool> {
        if self.progress.is_served() && self.geometry.capacity() == seen && self.may_grow() {
            let wait = || self.wait_for_round();
            worker.counters.waiting(Wait::Space, wait)?;
        }
        // Perhaps by another's wish.
        Ok(self.geometry.capacity() > seen)
    }

    /// Waits for the end of a look at growth that began after this call.
    fn wait_for_round(&self) -> Result<()> {
        let mut r = self.growth.rounds.lock();
        let wanted = r.begun + 1;
        r.wanted = wanted;
        while r.ended < wanted {
            if let Some(why) = self.progress.stopped() {
                return Err(Error::Stopped(why));
            }
            self.progress.ask();
            self.growth.ended.wait_for(&mut r, LOOK);
        }
        Ok(())
    }

    fn may_grow(&self) -> bool {
        let now = self.geometry.now();
        if self.growth.failed_lately() {
            return false;
        }
        let Ok(device) = self.device.refresh() else {
            return false;
        };
        let larger = self.growth.follow && now.grown(device.capacity).is_some();
        let may = !device.is_block_device && now.grown(self.growth.grow_to).is_some();
        larger || may
    }
}

/// Refuses a size that cannot be.
fn check_size(now: &Geometry, bytes: Option<u64>) -> Result<()> {
    let have = now.byte(now.capacity);
    let most = now.byte(now.most());
    let why = match bytes {
        Some(b) if b < have => format!("the store has {} and does not shrink", in_units(have)),
        Some(b) if b > most => format!("at most {} with this block size", in_units(most)),
        _ => return Ok(()),
    };
    Err(Error::BadOption {
        name: "size",
        detail: format!("{}; {why}", in_units(bytes.unwrap_or(0))),
    })
}
