//! Readers that last: seen, told of, and given up past a limit. Theirs is the error,
//! never a writer's wait.
//!
//! A view is given up by raising a floor above its commit: for want of memory that of the
//! before-images (`commit::versions`) or of its pin (`commit::pin`), for want of space
//! that of its pin, for its age that of all, by the evictor, here. From then on it holds
//! nothing: neither images nor blocks. Whatever it reads it reads before it asks for the
//! floors.

use std::sync::atomic::{AtomicU64, Ordering};

use gaur_iodriver::sync::ShortMutex;
use gaur_iodriver::sync::time::{Duration, Instant, now};

use crate::core::Core;
use crate::events::Event;
use crate::format::Csn;
use crate::options::OpenOptions;
use crate::worker::{OpenViews, ViewKey};

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
    /// What was kept for them on the device was needed for writes.
    #[error("the store is full")]
    Space,
}

/// How readers that last are dealt with.
#[derive(Debug)]
pub(crate) struct Readers {
    slow: Duration,
    limit: Option<Duration>,
    seen: ShortMutex<Seen>,
    pub(crate) given_up: AtomicU64,
}

#[derive(Debug, Default)]
struct Seen {
    looked: Option<Instant>,
    /// Of a slow reader at this commit, or before it, was told.
    slow: Option<Csn>,
}

/// Below which commits views were given up.
struct Floors<'a> {
    core: &'a Core,
    /// Of those that are not pinned.
    unpinned: Csn,
}

impl<'a> Floors<'a> {
    fn of(core: &'a Core) -> Self {
        let unpinned = core.versions.floor().max(core.forest.pins.aged());
        Self { core, unpinned }
    }

    fn given_up(&self, key: &ViewKey, of: &OpenViews) -> bool {
        key.announced
            < match of.pinned {
                None => self.unpinned,
                Some(generation) => self.core.forest.pins.floor(generation),
            }
    }
}

impl Readers {
    pub(crate) fn new(o: &OpenOptions) -> Self {
        Self {
            slow: o.slow_reader,
            limit: o.max_reader_age,
            seen: ShortMutex::default(),
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
        if core.forest.pins.were_short() {
            self.tell_given_up(core, GivenUp::Space);
        }
    }

    /// Gives up what is older than `limit`, if it holds anything.
    fn give_up(&self, core: &Core, limit: Duration) {
        // In this order: a view that opens after the look sees at least `upto`.
        let mut young = core.visible.upto();
        let mut old = false;
        for worker in core.forest.workers.all() {
            worker.visit_views(|key, view| {
                let is_old = view.newest.elapsed() > limit;
                match is_old {
                    true => old |= key.announced < young,
                    false => young = young.min(key.announced),
                }
                is_old
            });
        }
        if old {
            core.versions.raise_floor(young);
            core.forest.pins.raise_aged(young);
            // Behind the floors themselves: whoever used a freed block again, its reader
            // finds itself below.
            core.forest.shortage.give_up_below(young);
            self.tell_given_up(core, GivenUp::Age);
        }
    }

    /// Tells of the oldest reader, once, when it is slow.
    fn tell_slow(&self, core: &Core) {
        let floors = Floors::of(core);
        let mut oldest: Option<(Csn, Duration)> = None;
        for worker in core.forest.workers.all() {
            worker.visit_views(|key, view| {
                let holds = !floors.given_up(key, view);
                if holds && oldest.is_none_or(|(o, _)| key.announced < o) {
                    oldest = Some((key.announced, view.oldest.elapsed()));
                }
                !holds
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

    /// Tells of the views that were given up of which nobody was told. Never waits.
    pub(crate) fn tell_given_up(&self, core: &Core, cause: GivenUp) {
        core.forest.shortage.give_up_below(core.versions.floor());
        let floors = Floors::of(core);
        let (mut views, mut oldest) = (0, Csn::MAX);
        for worker in core.forest.workers.all() {
            worker.visit_views(|key, view| {
                if !view.told && floors.given_up(key, view) {
                    view.told = true;
                    views += view.open;
                    oldest = oldest.min(key.announced);
                }
                true
            });
        }
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
