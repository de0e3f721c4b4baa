//! The cache's bound changed while everything runs.
//!
//! Frames below the bound are the cache. Raising it makes ABSENT frames FREE.
//! Lowering it hands out none above it from then on; those that are free go at once
//! (*retire*), those that hold nodes when the evictor has emptied or moved them
//! (`writeback/shrink.rs`). Then their memory goes back to the kernel.
//!
//! What must hold:
//!
//! 1. Below the bound no frame stays ABSENT. Who retires a frame stores ABSENT, then
//!    looks at the bound; who raises the bound stores it, then looks for ABSENT. All
//!    four are sequentially consistent, so at least one of them sees the other and
//!    makes the frame FREE, and the compare-and-swap lets only one.
//! 2. Whoever takes a frame looks at the bound after he has it, and uses none above
//!    it. So an ABSENT frame above the bound is used by nobody until the bound is
//!    raised; and that does not happen while its memory is given back, for both hold
//!    `resizing`.
//! 3. A frame that was ever used stays mapped, and so does its entry in the table,
//!    with the version of its latch: to a reader with a stale hint it is a frame that
//!    holds another node.

use std::sync::atomic::Ordering;

use super::{Cache, FrameId, State};
use crate::error::Result;

/// What is guarded while the bound changes.
#[derive(Debug, Default)]
pub(super) struct Resizing {
    /// Frames from here on are ABSENT and have no memory.
    end: usize,
}

impl Cache {
    /// Whether a frame is below the bound.
    #[inline]
    pub(crate) fn is_within(&self, id: FrameId) -> bool {
        (id as usize) < self.bound.load(Ordering::SeqCst)
    }

    /// The most frames that the bound can be raised to.
    pub(crate) fn most(&self) -> usize {
        self.table.len()
    }

    /// Frames there are, those above the bound that still have to go included.
    pub(crate) fn present(&self) -> usize {
        self.present.load(Ordering::SeqCst).max(self.frames())
    }

    /// Whether frames above the bound have to go, or their memory.
    pub(crate) fn is_shrinking(&self) -> bool {
        self.present() > self.frames() || self.resizing.lock().end > self.frames()
    }

    /// Sets the bound, at most [`Cache::most`]. Raising it takes effect at once; a
    /// lower one is reached when [`Cache::is_shrinking`] says no more.
    ///
    /// # Errors
    /// If the memory is not to be had; the bound is as before.
    pub(crate) fn resize(&self, frames: usize) -> Result<()> {
        debug_assert!(frames <= self.most());
        let mut resizing = self.resizing.lock();
        let old = self.frames();
        let frame_bytes = self.page_bytes();
        self.arena
            .open(frames)
            .map_err(|e| Self::no_memory(frames * frame_bytes, e))?;
        self.bound.store(frames, Ordering::SeqCst);
        resizing.end = resizing.end.max(frames);
        for id in old..frames {
            self.revive(id as FrameId);
        }
        self.ask_for_frames();
        Ok(())
    }

    /// Takes a FREE frame that is in the caller's hand out of the cache.
    pub(super) fn retire(&self, id: FrameId) {
        self.frame(id)
            .state
            .store(State::Absent as u32, Ordering::SeqCst);
        self.present.fetch_sub(1, Ordering::SeqCst);
        if self.is_within(id) {
            self.revive(id);
        }
    }

    /// An ABSENT frame below the bound becomes free.
    fn revive(&self, id: FrameId) {
        let state = &self.frame(id).state;
        let (absent, free) = (State::Absent as u32, State::Free as u32);
        if state
            .compare_exchange(absent, free, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
        {
            self.present.fetch_add(1, Ordering::SeqCst);
            self.free.push(id);
            self.freed.notify_one();
        }
    }

    /// Retires what is above the bound in the free list, which goes round once.
    pub(crate) fn sweep_free(&self) {
        for _ in 0..self.free.len() {
            match self.free.pop() {
                Some(id) => self.give(id),
                None => return,
            }
        }
    }

    /// The frames above the bound that may hold something, from `hand` on, at most
    /// `count`; round to the first one at the end.
    pub(crate) fn above(&self, hand: usize, count: usize) -> std::ops::Range<usize> {
        let end = self.resizing.lock().end;
        let bound = self.frames();
        let from = if (bound..end).contains(&hand) {
            hand
        } else {
            bound
        };
        from..end.min(from + count)
    }

    /// Gives the memory of the ABSENT frames in `range` back to the kernel.
    pub(crate) fn discard_absent(&self, range: std::ops::Range<usize>) {
        // Nobody raises the bound meanwhile, so what is ABSENT above it stays unused.
        let mut resizing = self.resizing.lock();
        let range = range.start.max(self.frames())..range.end.min(resizing.end);
        let absent = |id: usize| {
            self.frame(id as FrameId).state.load(Ordering::SeqCst) == State::Absent as u32
        };
        let (mut at, mut left) = (range.start, range.start);
        while at < range.end {
            let from = at;
            while at < range.end && absent(at) {
                at += 1;
            }
            if from < at {
                self.arena.discard(from, at);
            }
            if at < range.end {
                at += 1;
                left = at;
            }
        }
        // What lies behind the last frame that is left needs no further look.
        if range.end == resizing.end {
            resizing.end = left;
        }
    }

    /// Bytes of a frame.
    pub(crate) fn page_bytes(&self) -> usize {
        self.arena.frame_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Generation;
    use gaur_iodriver::sync::rng;
    use rand::RngExt;
    use std::sync::atomic::AtomicBool;

    /// Takes and gives back frames until `over`; nobody else may have them meanwhile,
    /// and their memory must stay.
    fn use_frames(cache: &Cache, thread: u64, over: &AtomicBool) {
        let mut mine = Vec::new();
        while !over.load(Ordering::Relaxed) {
            while mine.len() < 16
                && let Some(id) = cache.try_take()
            {
                let guard = cache.frame(id).latch.try_lock().expect("mine alone");
                let word = &cache.words(id)[0];
                assert_eq!(word.swap(thread, Ordering::Relaxed), 0);
                cache.occupy(id, thread, Generation(1), State::Clean, 0);
                drop(guard);
                mine.push(id);
            }
            for id in mine.drain(..) {
                let guard = cache.frame(id).latch.try_lock().expect("mine alone");
                let word = cache.words(id)[0].swap(0, Ordering::Relaxed);
                assert_eq!(word, thread);
                cache.vacate(id, guard);
            }
        }
    }

    #[test]
    fn a_frame_given_back_beside_a_raise_is_not_lost() {
        // The giver looked when the bound was low; then it was raised.
        let cache = Cache::new(8, 8, 4096).unwrap();
        let all: Vec<_> = std::iter::from_fn(|| cache.try_take()).collect();
        cache.resize(4).unwrap();
        assert!(!cache.is_within(all[7]) && cache.is_shrinking());
        cache.resize(8).unwrap();
        assert_eq!(cache.free_frames(), 0);
        cache.retire(all[7]);
        assert_eq!(cache.try_take(), Some(all[7]));
        // Lowered and raised while it was away.
        cache.resize(4).unwrap();
        cache.put_back(all[7]);
        assert_eq!((cache.try_take(), cache.present()), (None, 7));
        cache.resize(8).unwrap();
        assert_eq!((cache.try_take(), cache.present()), (Some(all[7]), 8));
    }

    #[test]
    fn no_frame_is_lost_or_given_twice() {
        // Breaks if who takes a frame does not look at the bound, or if memory of frames
        // below it is given back.
        let seed = rng::fresh_seed();
        println!("seed {seed}");
        let mut r = rng::seeded(seed);
        let cache = Cache::new(64, 512, 4096).unwrap();
        for round in 0..60 {
            let over = AtomicBool::new(false);
            std::thread::scope(|s| {
                for thread in 1..=2 {
                    let (cache, over) = (&cache, &over);
                    s.spawn(move || use_frames(cache, thread, over));
                }
                for _ in 0..200 {
                    cache.resize(r.random_range(8..=512)).unwrap();
                    if r.random() {
                        cache.sweep_free();
                        cache.discard_absent(cache.above(0, 512));
                    }
                }
                cache.resize(24).unwrap();
                over.store(true, Ordering::Relaxed);
            });
            cache.sweep_free();
            assert_eq!(cache.free_frames(), 24, "round {round}");
        }
        for frames in [512, 1, 300] {
            cache.resize(frames).unwrap();
            cache.sweep_free();
            cache.discard_absent(cache.above(0, 512));
            assert!(cache.above(0, 512).is_empty());
            assert!(!cache.is_shrinking());
            assert_eq!((cache.free_frames(), cache.present()), (frames, frames));
        }
        let mut all: Vec<_> = std::iter::from_fn(|| cache.try_take()).collect();
        all.sort_unstable();
        assert_eq!(all, (0..300).collect::<Vec<_>>());
    }
}
