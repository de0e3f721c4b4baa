//! The cache: frames in one arena. How many is the *bound*, which may be changed
//! (`resize`).
//!
//! A frame of the cache is in one of four states, changed only by whoever holds its
//! latch:
//!
//! ```text
//! FREE ──load──▶ CLEAN ──change──▶ DIRTY ──copied out──▶ WRITING ──I/O done──▶ CLEAN
//!   ▲              │ evict            │ node gone            │ superseded
//!   └──────────────┴──────────────────┴──────────────────────┘
//! ```
//!
//! - FREE: in the free list, or in the hand of the one thread that took it.
//! - ABSENT, a fifth state: not part of the cache, and without memory.
//! - DIRTY: the only copy is here. The pointer in the parent has no checksum yet,
//!   and its hint names this frame: a dirty frame is never lost from its parent.
//! - WRITING: an image was copied out and is on its way to the device. The parent
//!   has its checksum. Counts as written.
//! - *Superseded* marks a DIRTY frame of the frozen generation, or a WRITING one,
//!   that a writer of the running generation has copied: nobody but the writer-out
//!   needs it, and it becomes FREE when its I/O is done.

mod ahead;
mod arena;
mod latch;
#[cfg(feature = "experiment-cow")]
pub(crate) mod latch_times;
mod resize;

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crossbeam_queue::SegQueue;
use crossbeam_utils::CachePadded;
use gaur_iodriver::sync::channel;
use gaur_iodriver::sync::time::Duration;
use gaur_iodriver::sync::{Condvar, Mutex};

use ahead::Ahead;
pub(crate) use arena::prefetch_lines;
pub(crate) use latch::{Exclusive, Latch, Version};

use crate::error::{Error, Result};
use crate::format::{BlockPtr, Generation};
use crate::node::Page;
use arena::{Arena, Table};
use resize::Resizing;

pub(crate) type FrameId = u32;

/// State of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum State {
    /// What fresh memory says.
    Absent = 0,
    Free = 1,
    Clean = 2,
    Dirty = 3,
    Writing = 4,
}

const SUPERSEDED: u32 = 1 << 8;

/// What is known of a frame beside its contents.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Frame {
    pub(crate) latch: Latch,
    addr: AtomicU64,
    birth: AtomicU64,
    state: AtomicU32,
    heat: AtomicU32,
}

impl Frame {
    pub(crate) fn state(&self) -> State {
        match self.state.load(Ordering::Relaxed) & 0xFF {
            0 => State::Absent,
            1 => State::Free,
            2 => State::Clean,
            3 => State::Dirty,
            _ => State::Writing,
        }
    }

    pub(crate) fn birth(&self) -> Generation {
        Generation(self.birth.load(Ordering::Relaxed))
    }

    pub(crate) fn superseded(&self) -> bool {
        self.state.load(Ordering::Relaxed) & SUPERSEDED != 0
    }

    /// Whether this frame holds the node that `ptr` points to.
    #[inline]
    pub(crate) fn holds(&self, ptr: BlockPtr) -> bool {
        self.addr.load(Ordering::Relaxed) == ptr.addr
            && self.birth.load(Ordering::Relaxed) == ptr.birth.0
    }

    /// Whether a writer of `generation` may change it in place (rule 1 of
    /// two-stage copy-on-write: born in the running generation, not written since).
    pub(crate) fn writable(&self, generation: Generation) -> bool {
        self.state() == State::Dirty && self.birth() == generation
    }

    /// Notes a use, for eviction. Writes nothing if it is noted already.
    #[inline]
    pub(crate) fn touch(&self, heat: u32) {
        if self.heat.load(Ordering::Relaxed) < heat {
            self.heat.store(heat, Ordering::Relaxed);
        }
    }

    /// How warm it is: uses noted and not cooled off since.
    pub(crate) fn heat(&self) -> u32 {
        self.heat.load(Ordering::Relaxed)
    }

    /// Cools by one; whether it was cold already.
    pub(crate) fn cool(&self) -> bool {
        let h = self.heat.load(Ordering::Relaxed);
        if h > 0 {
            self.heat.store(h - 1, Ordering::Relaxed);
        }
        h == 0
    }
}

/// The frames, their memory and the free ones.
#[derive(Debug)]
pub(crate) struct Cache {
    arena: Arena,
    table: Table,
    /// Of frames below the bound; while it is lowered, some above it too.
    free: SegQueue<FrameId>,
    /// Frames in state DIRTY.
    dirty: CachePadded<AtomicUsize>,
    /// Frames below this are the cache; those above it go.
    bound: CachePadded<AtomicUsize>,
    /// Frames that are not ABSENT.
    present: AtomicUsize,
    resizing: Mutex<Resizing>,
    nudge: (channel::Sender<()>, channel::Receiver<()>),
    waiters: Mutex<()>,
    freed: Condvar,
    ahead: Ahead,
    /// Nobody evicts any more.
    ended: AtomicBool,
}

impl Cache {
    /// A cache of `frames` frames of `frame_bytes` bytes, with address space for
    /// `most`, or only for `frames` if that much is not to be had.
    pub(crate) fn new(frames: usize, most: usize, frame_bytes: usize) -> Result<Self> {
        // A frame's number and 1 is a hint of 32 bits.
        let most = most.max(frames).min(u32::MAX as usize - 1);
        let reserve = |n| Ok((Arena::reserve(n, frame_bytes)?, Table::reserve(n)?));
        let (arena, table) = reserve(most)
            .or_else(|_| reserve(frames))
            .map_err(|e| Self::no_memory(frames * frame_bytes, e))?;
        let cache = Self {
            arena,
            table,
            free: SegQueue::new(),
            dirty: CachePadded::default(),
            bound: CachePadded::default(),
            present: AtomicUsize::new(0),
            resizing: Mutex::default(),
            nudge: channel::bounded(1),
            waiters: Mutex::new(()),
            freed: Condvar::new(),
            ahead: Ahead::default(),
            ended: AtomicBool::new(false),
        };
        cache.resize(frames)?;
        Ok(cache)
    }

    fn no_memory(bytes: usize, why: nix::errno::Errno) -> Error {
        Error::BadOption {
            name: "cache_bytes",
            detail: format!("cannot map {bytes} bytes: {why}; use a smaller cache"),
        }
    }

    /// How many frames there are to use.
    pub(crate) fn frames(&self) -> usize {
        self.bound.load(Ordering::Relaxed)
    }

    /// Frames that may be looked at: those that ever were part of the cache. A hint
    /// above this was read beside a change.
    #[inline]
    pub(crate) fn known(&self) -> usize {
        self.arena.opened()
    }

    pub(crate) fn free_frames(&self) -> usize {
        self.free.len()
    }

    /// Free frames below which eviction begins; it ends at twice that.
    pub(crate) fn low_watermark(&self) -> usize {
        (self.frames() / 32).clamp(16, 4096)
    }

    pub(crate) fn dirty_frames(&self) -> usize {
        self.dirty.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn frame(&self, id: FrameId) -> &Frame {
        self.table.get(id)
    }

    #[cfg(test)]
    fn words(&self, id: FrameId) -> &[gaur_iodriver::sync::atomic::AtomicU64] {
        self.arena.words(id)
    }

    #[inline]
    pub(crate) fn page(&self, id: FrameId) -> Page<'_> {
        Page::new(self.arena.words(id))
    }

    /// Asks the processor for the beginning of a frame's node.
    #[inline]
    pub(crate) fn prefetch(&self, id: FrameId) {
        self.table.prefetch(id);
        self.arena.prefetch(id);
    }

    /// Asks the processor for what a change of a leaf touches besides its beginning:
    /// the fences at its end, and the lowest entries, below which new ones go.
    pub(crate) fn prefetch_leaf(&self, id: FrameId) {
        let words = self.arena.words(id);
        let heap = self.page(id).heap();
        for from in [
            words.len() - 8,
            heap.saturating_sub(24),
            heap.saturating_sub(8),
        ] {
            if let Some(line) = words.get(from..from + 8) {
                prefetch_lines(line);
            }
        }
    }

    /// Takes a free frame without waiting. Asks for eviction when few are left.
    pub(crate) fn try_take(&self) -> Option<FrameId> {
        loop {
            let frame = self.free.pop();
            if frame.is_none() || self.free.len() < self.low_watermark() {
                self.ask_for_frames();
            }
            match frame {
                Some(id) if !self.is_within(id) => self.retire(id),
                Some(id) => {
                    self.note_taken(id);
                    return Some(id);
                }
                None => return None,
            }
        }
    }

    /// As [`Self::try_take`], for a node about to be made or copied. Leaves the last
    /// few to those who read: when nothing can be written any more, dirty nodes
    /// stay where they are, and reads still go on.
    pub(crate) fn try_take_to_write(&self) -> Option<FrameId> {
        if self.free.len() <= self.low_watermark() / 4 {
            self.ask_for_frames();
            return None;
        }
        self.try_take()
    }

    /// Wakes the evictor. Never waits.
    pub(crate) fn ask_for_frames(&self) {
        let _ = self.nudge.0.try_send(());
    }

    /// The evictor's wait: until it is asked, at most `timeout`.
    pub(crate) fn wait_for_demand(&self, timeout: Duration) {
        let _ = self.nudge.1.recv_timeout(timeout);
    }

    /// Waits a little for frames to become free.
    pub(crate) fn wait_for_frame(&self) {
        self.ask_for_frames();
        let mut guard = self.waiters.lock();
        if self.free.len() <= self.low_watermark() / 4 {
            self.freed.wait_for(&mut guard, Duration::from_millis(2));
        }
    }

    /// No frame will be freed any more: the evictor ends.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.freed.notify_all();
    }

    /// Whether it is in vain to wait for a frame.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Gives an unused frame back (one that [`Self::try_take`] gave).
    pub(crate) fn put_back(&self, id: FrameId) {
        debug_assert_eq!(self.frame(id).state(), State::Free);
        self.give(id);
    }

    /// Gives a frame its identity; the caller holds its latch and has filled the
    /// page.
    pub(crate) fn occupy(
        &self,
        id: FrameId,
        addr: u64,
        birth: Generation,
        state: State,
        heat: u32,
    ) {
        let f = self.frame(id);
        f.heat.store(heat, Ordering::Relaxed);
        f.addr.store(addr, Ordering::Relaxed);
        f.birth.store(birth.0, Ordering::Relaxed);
        self.set_state(id, state);
    }

    /// Changes the state, which also clears *superseded*; the caller holds the
    /// latch.
    pub(crate) fn set_state(&self, id: FrameId, state: State) {
        let old = self.frame(id).state.swap(state as u32, Ordering::Relaxed) & 0xFF;
        let (was, is) = (old == State::Dirty as u32, state == State::Dirty);
        if is && !was {
            self.dirty.fetch_add(1, Ordering::Relaxed);
        } else if was && !is {
            self.dirty.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Marks the frame as needed by the writer-out only; the caller holds the latch.
    pub(crate) fn supersede(&self, id: FrameId) {
        self.frame(id).state.fetch_or(SUPERSEDED, Ordering::Relaxed);
    }

    /// Copies DIRTY to WRITING and keeps *superseded*; the caller holds the latch.
    pub(crate) fn begin_write(&self, id: FrameId) {
        let superseded = self.frame(id).superseded();
        debug_assert_eq!(self.frame(id).state(), State::Dirty);
        self.set_state(id, State::Writing);
        if superseded {
            self.supersede(id);
        }
    }

    /// The image of a WRITING frame has reached the device.
    pub(crate) fn end_write(&self, id: FrameId) {
        let guard = self.frame(id).latch.lock();
        debug_assert_eq!(self.frame(id).state(), State::Writing);
        if self.frame(id).superseded() {
            self.vacate(id, guard);
        } else {
            self.set_state(id, State::Clean);
            guard.release_unchanged();
        }
    }

    /// Frees a frame whose latch the caller holds.
    pub(crate) fn vacate(&self, id: FrameId, guard: Exclusive<'_>) {
        let f = self.frame(id);
        f.addr.store(0, Ordering::Relaxed);
        f.birth.store(0, Ordering::Relaxed);
        self.set_state(id, State::Free);
        drop(guard);
        self.give(id);
    }

    /// A FREE frame that is in the caller's hand goes to the free list, or out of the
    /// cache if it is above the bound.
    fn give(&self, id: FrameId) {
        if self.is_within(id) {
            self.free.push(id);
            self.freed.notify_one();
        } else {
            self.retire(id);
        }
    }
}
