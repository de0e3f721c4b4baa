//! Memory for frames before they are taken.
//!
//! The kernel clears a page at its first touch: 0.2 ms for a huge page, and some
//! milliseconds in a virtual machine whose host has to find the memory first. A
//! writer that takes a frame would wait for that in the gate. So the evictor has
//! memory given to the next frames while there are some that never had any. They
//! are taken in order: the free list is a queue, filled from the first one on.
//!
//! How far ahead grows with what was taken, to half as much again at most: a store that
//! needs little of its cache's budget takes little.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Cache, FrameId};

/// How far ahead of the frames taken at most, in bytes.
const DISTANCE: usize = 64 << 20;
/// Given at once, in bytes: a huge page, aligned as the arena is.
const STEP: usize = 2 << 20;

/// How far memory was given.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// Frames below this were given theirs.
    given: AtomicUsize,
    /// Frames below this were taken, as far as anybody noted.
    taken: AtomicUsize,
}

impl Cache {
    /// Notes that a frame was taken, if that brings memory to be given nearer.
    #[inline]
    pub(super) fn note_taken(&self, id: FrameId) {
        let given = self.ahead.given.load(Ordering::Relaxed);
        let near = id as usize + self.distance(id as usize) / 2 >= given;
        if near && given < self.frames() {
            self.ahead
                .taken
                .fetch_max(id as usize + 1, Ordering::Relaxed);
            self.ask_for_frames();
        }
    }

    /// How many frames ahead of `taken`.
    fn distance(&self, taken: usize) -> usize {
        (taken / 2).min(DISTANCE / self.page_bytes())
    }

    /// Has memory given to the next frames; one caller at a time. Returns whether
    /// there is more to do.
    pub(crate) fn give_ahead(&self) -> bool {
        let taken = self.ahead.taken.load(Ordering::Relaxed);
        let given = self.ahead.given.load(Ordering::Relaxed);
        let frames = self.frames();
        let goal = (taken + self.distance(taken)).min(frames);
        if taken == 0 || given >= goal {
            return false;
        }
        let from = given.max(taken);
        let to = (from + STEP / self.page_bytes()).min(goal);
        self.arena.populate(from.min(to), to);
        self.ahead.given.store(to, Ordering::Relaxed);
        to < goal
    }
}
