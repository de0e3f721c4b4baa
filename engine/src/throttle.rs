//! Slowing writers down before they would have to stop.
//!
//! What a checkpoint releases (log, frozen frames, freed blocks) comes all at once at
//! its end. While one is under way, what room there is must last until then: each
//! commit gets its turn so that
//!
//! ```text
//! interval between commits = room used per commit × time left / room left
//! ```
//!
//! with the least room of log, cache and space, the time that the checkpoint before
//! took, and what commits used since this one began. So the wait grows as room goes,
//! and is none where room suffices. It is capped: a writer that meets the hard limit
//! all the same waits there, as ever.
//!
//! A commit waits before it prepares: outside the gate, with no latch. Between
//! checkpoints, and while nothing is short, it costs one relaxed load of a word that
//! changes only when a checkpoint begins or ends, or, in between, once a millisecond.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_utils::CachePadded;
use gaur_iodriver::sync::time::{Duration, Instant, now};
use gaur_iodriver::sync::{ShortMutex, thread};

use crate::core::Core;
use crate::events::Event;

/// How often the interval is computed anew, in nanoseconds.
const LOOK: u64 = 1_000_000;
/// The longest interval and wait of one commit, in nanoseconds.
const MOST: u64 = 20_000_000;
/// Shorter waits are saved up: a thread cannot sleep so briefly.
const LEAST: u64 = 100_000;
/// Commits after which what one of them uses is known.
const ENOUGH: u64 = 16;

/// What is so short that writers are slowed down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ThrottleCause {
    /// Room in the log.
    #[error("log")]
    Log = 1,
    /// Room in the cache for changed nodes.
    #[error("cache")]
    Cache = 2,
    /// Free blocks.
    #[error("space")]
    Space = 3,
}

/// In the word: a checkpoint is under way. Above it the cause, below the interval.
const ARMED: u64 = 1 << 60;
const CAUSE: u32 = 61;
const INTERVAL: u64 = ARMED - 1;

/// What commits use of each resource, and how many they were.
#[derive(Clone, Copy, Debug, Default)]
struct Used {
    commits: u64,
    log: u64,
    frames: u64,
    blocks: u64,
    /// Frames that the evictor made clean again.
    early: u64,
}

/// The throttle of a store.
#[derive(Debug)]
pub(crate) struct Throttle {
    word: CachePadded<AtomicU64>,
    /// When the next commit has its turn, and when to look again; nanoseconds since
    /// `origin`.
    turn: CachePadded<AtomicU64>,
    look: AtomicU64,
    origin: Instant,
    /// When the checkpoint under way began, and what was used by then.
    begun: ShortMutex<(u64, Used)>,
    /// Nanoseconds that the last checkpoint took.
    lasted: AtomicU64,
    pub(crate) commits: AtomicU64,
    pub(crate) nanos: AtomicU64,
    /// It was told that writers are slowed down.
    told: AtomicBool,
}

/// The throttle's state, for reports.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Throttling {
    /// For want of log, frames, space.
    pub(crate) causes: [bool; 3],
    /// What a commit would wait now, in nanoseconds.
    pub(crate) delay: u64,
}

impl Throttle {
    pub(crate) fn new() -> Self {
        Self {
            word: CachePadded::default(),
            turn: CachePadded::default(),
            look: AtomicU64::new(0),
            origin: now(),
            begun: ShortMutex::default(),
            lasted: AtomicU64::new(0),
            commits: AtomicU64::new(0),
            nanos: AtomicU64::new(0),
            told: AtomicBool::new(false),
        }
    }

    fn clock(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }

    /// A checkpoint begins.
    pub(crate) fn begin(&self, core: &Core) {
        *self.begun.lock() = (self.clock(), used(core));
        self.word.store(ARMED, Ordering::Relaxed);
    }

    /// It has ended: what it releases is free.
    pub(crate) fn end(&self, core: &Core) {
        let began = self.begun.lock().0;
        self.lasted.store(self.clock() - began, Ordering::Relaxed);
        self.word.store(0, Ordering::Relaxed);
        self.turn.store(0, Ordering::Relaxed);
        if self.told.swap(false, Ordering::Relaxed) {
            core.forest.events.tell(Event::Unthrottled);
        }
    }

    /// Has a commit wait for its turn, if writers are too fast. What frees space is
    /// not held up for want of space. No latch may be held, nor the gate.
    #[inline]
    pub(crate) fn pass(&self, core: &Core, frees: bool) {
        if self.word.load(Ordering::Relaxed) != 0 {
            self.wait_turn(core, frees);
        }
    }

    #[cold]
    fn wait_turn(&self, core: &Core, frees: bool) {
        let clock = self.clock();
        let look = self.look.load(Ordering::Relaxed);
        let mine = clock >= look
            && self
                .look
                .compare_exchange(look, clock + LOOK, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        let seen = self.word.load(Ordering::Relaxed);
        if mine && seen != 0 {
            let (word, cause) = self.measure(core, clock);
            // Fails if the checkpoint has ended meanwhile.
            let is = self
                .word
                .compare_exchange(seen, word, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
            // Once in a checkpoint: it may go to and fro.
            if let Some(cause) = cause.filter(|_| is)
                && !self.told.swap(true, Ordering::Relaxed)
            {
                core.forest.events.tell(Event::Throttled { cause });
            }
        }
        let word = self.word.load(Ordering::Relaxed);
        let interval = word & INTERVAL;
        if interval == 0 || frees && word >> CAUSE == ThrottleCause::Space as u64 {
            return;
        }
        let mut wait = 0;
        let _ = self
            .turn
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |turn| {
                let at = turn.max(clock);
                wait = (at - clock).min(MOST);
                // Who comes when the line is full waits as long, and does not add to it.
                (at - clock < MOST).then_some(at + interval)
            });
        if wait >= LEAST {
            let begun = now();
            thread::sleep(Duration::from_nanos(wait));
            self.commits.fetch_add(1, Ordering::Relaxed);
            let nanos = begun.elapsed().as_nanos() as u64;
            self.nanos.fetch_add(nanos, Ordering::Relaxed);
            crate::waits::note(crate::waits::THROTTLE, nanos);
        }
    }

    /// The word for now, and what it is for if writers are slowed down.
    fn measure(&self, core: &Core, clock: u64) -> (u64, Option<ThrottleCause>) {
        let (began, before) = *self.begun.lock();
        let since = used(core);
        let commits = since.commits - before.commits;
        if commits < ENOUGH {
            return (ARMED, None);
        }
        let elapsed = clock.saturating_sub(began).max(1);
        let lasted = self.lasted.load(Ordering::Relaxed);
        let left = lasted.saturating_sub(elapsed).max(lasted / 8).max(LOOK);
        let cleaned = (since.early - before.early) as u128 * u128::from(left) / u128::from(elapsed);
        let (room_log, room_frames, room_blocks) = room(core);
        let each = [
            (
                ThrottleCause::Log,
                since.log.saturating_sub(before.log),
                room_log,
            ),
            (
                ThrottleCause::Cache,
                since.frames - before.frames,
                room_frames.saturating_add(cleaned as u64),
            ),
            (
                ThrottleCause::Space,
                since.blocks - before.blocks,
                room_blocks,
            ),
        ];
        let intervals = each.map(|(cause, used, room)| {
            let needed = u128::from(used) * u128::from(left);
            let there = u128::from(commits) * u128::from(room.max(1));
            ((needed / there).min(u128::from(MOST)) as u64, cause)
        });
        let (interval, cause) = intervals.into_iter().max_by_key(|i| i.0).expect("three");
        // Writers that are slow enough by themselves are left alone.
        if interval <= elapsed / commits / 2 {
            return (ARMED, None);
        }
        (((cause as u64) << CAUSE) | ARMED | interval, Some(cause))
    }

    /// Whether and why writers wait now, and how long.
    pub(crate) fn state(&self) -> Throttling {
        let word = self.word.load(Ordering::Relaxed);
        let active = word & INTERVAL != 0;
        let is = |cause: ThrottleCause| active && word >> CAUSE == cause as u64;
        let turn = self.turn.load(Ordering::Relaxed);
        Throttling {
            causes: [
                ThrottleCause::Log,
                ThrottleCause::Cache,
                ThrottleCause::Space,
            ]
            .map(is),
            delay: if active {
                turn.saturating_sub(self.clock()).min(MOST)
            } else {
                0
            },
        }
    }
}

/// What was used since the store was opened; of the log, what it holds.
fn used(core: &Core) -> Used {
    let mut u = Used {
        log: core.log_if_started().map_or(0, |log| log.usage().used),
        early: core.evicting.written_early.load(Ordering::Relaxed),
        ..Used::default()
    };
    for w in core.forest.workers.all() {
        u.commits += w.counters.commits.get();
        u.frames += w.counters.blocks_used.get();
    }
    let counts = core.forest.pool.allocator().counts();
    u.blocks = counts.channel_blocks + counts.request_blocks;
    u
}

/// What is left of the log, of frames that may be dirty, and of blocks.
fn room(core: &Core) -> (u64, u64, u64) {
    let log = core.log_if_started().map_or(u64::MAX, |log| {
        let usage = log.usage();
        (usage.blocks * 15 / 16).saturating_sub(usage.used)
    });
    let cache = &core.forest.cache;
    let frames = (cache.frames() * 7 / 8).saturating_sub(cache.dirty_frames()) as u64;
    let space = core.forest.space_use();
    // Where a checkpoint brings less than there is, waiting for it is no use.
    let blocks = if space.pending > space.free {
        space.free
    } else {
        u64::MAX
    };
    (log, frames, blocks)
}
