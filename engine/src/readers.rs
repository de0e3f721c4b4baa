//! Readers that last: seen, told of, and given up past a limit. Theirs is the error,
//! never a writer's wait.
//!
//! A view is given up by raising the floor of the before-images above its commit
//! (`commit::versions`): for want of memory by whoever keeps images, for its age by the
//! evictor, here. From then on it holds nothing: neither images nor the blocks of
//! deleted large values. Whatever it reads it reads before it asks for the floor.

use std::sync::atomic::{AtomicU64, Ordering};

use gaur_iodriver::sync::ShortMutex;
use gaur_iodriver::sync::time::{Duration, Instant, now};

use crate::core::Core;
use crate::events::Event;
use crate::format::Csn;
use crate::options::OpenOptions;

/// Between two looks at the views' ages.
const LOOK: Duration = Duration::from_millis(10);

/// Why readers were given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GivenUp {
    /// They were older than [`OpenOptions::max_reader_age`].
    #[error("too old")]
    Age,
    /// What was overwritten meanwhile took more than [`OpenOptions::version_memory`].
    #[error("too much was overwritten meanwhile")]
    Memory,
}

/// How readers that last are dealt with.
#[derive(Debug)]
pub(crate) struct Readers {
    slow: Duration,
    limit: Option<Duration>,
    seen: ShortMutex<Seen>,
    /// While the floor is not above this, no view was given up of which nobody was told.
    next: AtomicU64,
    pub(crate) given_up: AtomicU64,
}

#[derive(Debug, Default)]
struct Seen {
    looked: Option<Instant>,
    /// Of a slow reader at this commit, or before it, was told.
    slow: Option<Csn>,
    /// Of views below this was told that they were given up.
    floor: Csn,
}

impl Readers {
    pub(crate) fn new(o: &OpenOptions) -> Self {
        Self {
            slow: o.slow_reader,
            limit: o.max_reader_age,
            seen: ShortMutex::default(),
            next: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
        }
    }

    /// The evictor looks at the ages.
    pub(crate) fn look(&self, core: &Core) {
        {
            let mut seen = self.seen.lock();
            if seen.looked.is_some_and(|at| at.elapsed() < LOOK) {
                return;
            }
            seen.looked = Some(now());
        }
        self.tell_slow(core);
        if let Some(limit) = self.limit {
            self.give_up(core, limit);
        }
    }

    /// Gives up what is older than `limit`, if it holds anything.
    fn give_up(&self, core: &Core, limit: Duration) {
        // In this order: a view that opens after the look sees at least `upto`.
        let mut young = core.visible.upto();
        let mut old = false;
        for worker in core.forest.workers.all() {
            worker.visit_views(|csn, view| {
                let is_old = view.newest.elapsed() > limit;
                match is_old {
                    true => old |= csn < young,
                    false => young = young.min(csn),
                }
                is_old
            });
        }
        if old {
            core.versions.raise_floor(young);
            self.floor_rose(core, GivenUp::Age);
        }
    }

    /// Tells of the oldest reader, once, when it is slow.
    fn tell_slow(&self, core: &Core) {
        let floor = core.versions.floor();
        let mut oldest: Option<(Csn, Duration)> = None;
        for worker in core.forest.workers.all() {
            worker.visit_views(|csn, view| {
                if csn >= floor && oldest.is_none_or(|(o, _)| csn < o) {
                    oldest = Some((csn, view.oldest.elapsed()));
                }
                csn < floor
            });
        }
        let Some((csn, age)) = oldest.filter(|(_, age)| *age > self.slow) else {
            return;
        };
        let mut seen = self.seen.lock();
        if seen.slow.is_some_and(|told| csn <= told) {
            return;
        }
        seen.slow = Some(csn);
        drop(seen);
        core.forest.events.tell(Event::SlowReader {
            csn,
            age,
            behind: core.visible.upto().saturating_sub(csn),
            kept_bytes: core.versions.bytes() as u64,
            pinned_blocks: core.forest.pinned_blocks(),
        });
    }

    /// Tells of the views that are below the floor now and were not. Never waits.
    pub(crate) fn floor_rose(&self, core: &Core, cause: GivenUp) {
        let floor = core.versions.floor();
        // Behind the floor itself: whoever used a freed block again, its reader finds
        // itself below.
        core.forest.shortage.give_up_below(floor);
        if floor <= self.next.load(Ordering::Relaxed) {
            return;
        }
        let mut seen = self.seen.lock();
        let (mut views, mut oldest, mut next) = (0, Csn::MAX, core.visible.upto());
        for worker in core.forest.workers.all() {
            worker.visit_views(|csn, view| {
                if csn >= floor {
                    next = next.min(csn);
                } else if csn >= seen.floor {
                    views += view.open;
                    oldest = oldest.min(csn);
                }
                csn < floor
            });
        }
        seen.floor = seen.floor.max(floor);
        self.next.store(next, Ordering::Relaxed);
        drop(seen);
        if views > 0 {
            self.given_up.fetch_add(views, Ordering::Relaxed);
            core.forest.events.tell(Event::ReadersGivenUp {
                views,
                oldest,
                cause,
            });
        }
    }
}
