//! The feeds that are open: how far each is, and what is kept for them.
//!
//! A feed needs no hold on the log. What it does hold are the blocks of large values that
//! commits behind it deleted or replaced: they are not used again while it may come to the
//! commit that wrote them. That is bounded ([`FeedOptions::held_values`]), and ends before
//! a writer is refused for want of space. Then the feed goes on, and only who asks it for
//! such a value is told that it is gone.
//!
//! [`FeedOptions::held_values`]: super::FeedOptions::held_values

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use gaur_iodriver::sync::ShortMutex;

use crate::format::Csn;
use crate::tree::Forest;
use crate::worker::Freed;

/// Nothing is held.
const NOTHING: u64 = u64::MAX;

/// One open feed.
#[derive(Debug)]
pub(crate) struct Place {
    /// The last commit that its consumer is done with.
    pub(super) at: AtomicU64,
    /// Position in the log of what it reads next.
    pub(super) position: AtomicU64,
    /// What commits after `at` freed is kept for it.
    holds: AtomicBool,
    /// How many bytes of that, at most.
    most: u64,
}

impl Place {
    /// Whether nothing that commits after `at` freed was used again since it was opened.
    /// To be asked after what was read was found wrong.
    pub(super) fn holds(&self) -> bool {
        self.holds.load(Ordering::SeqCst)
    }
}

/// All open feeds of a store.
#[derive(Debug)]
pub(crate) struct Feeds {
    open: ShortMutex<Vec<Arc<Place>>>,
    /// Least `at` of those that hold something.
    oldest: AtomicU64,
    /// Feeds that the log overtook, and those whose large values were let go of.
    pub(super) overtaken: AtomicU64,
    let_go: AtomicU64,
}

impl Default for Feeds {
    fn default() -> Self {
        Self {
            open: ShortMutex::default(),
            oldest: AtomicU64::new(NOTHING),
            overtaken: AtomicU64::new(0),
            let_go: AtomicU64::new(0),
        }
    }
}

/// What the statistics say of the open feeds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FeedFacts {
    pub(crate) open: u64,
    /// Of the one that is furthest behind: its last commit, and its position.
    pub(crate) oldest: Option<(Csn, u64)>,
    pub(crate) overtaken: u64,
    pub(crate) let_go: u64,
}

impl Feeds {
    /// A feed that is behind commit `at` opens. What is freed from now on by commits after
    /// `at` is kept for it.
    pub(super) fn add(&self, at: Csn, most: u64) -> Arc<Place> {
        let place = Arc::new(Place {
            at: AtomicU64::new(at),
            position: AtomicU64::new(0),
            holds: AtomicBool::new(true),
            most,
        });
        let mut open = self.open.lock();
        open.push(place.clone());
        self.see(&open);
        place
    }

    pub(super) fn remove(&self, place: &Arc<Place>) {
        let mut open = self.open.lock();
        open.retain(|p| !Arc::ptr_eq(p, place));
        self.see(&open);
    }

    /// The consumer is done with all up to `at`.
    pub(super) fn advance(&self, place: &Place, at: Csn) {
        let before = place.at.swap(at, Ordering::SeqCst);
        if self.oldest.load(Ordering::SeqCst) == before {
            self.see(&self.open.lock());
        }
    }

    fn see(&self, open: &[Arc<Place>]) {
        let holding = open.iter().filter(|p| p.holds());
        let oldest = holding.map(|p| p.at.load(Ordering::SeqCst)).min();
        self.oldest
            .store(oldest.unwrap_or(NOTHING), Ordering::SeqCst);
    }

    /// The commit after which nothing that is freed is used again, for the feeds' sake.
    pub(crate) fn oldest(&self) -> Option<Csn> {
        Some(self.oldest.load(Ordering::SeqCst)).filter(|&csn| csn != NOTHING)
    }

    /// Lets go of what is held for those feeds for which that is too much. True if there
    /// were any.
    fn let_go(&self, too_much: impl Fn(&Place) -> bool) -> bool {
        if self.oldest().is_none() {
            return false;
        }
        let open = self.open.lock();
        let mut any = 0;
        for place in open.iter().filter(|p| p.holds() && too_much(p)) {
            place.holds.store(false, Ordering::SeqCst);
            any += 1;
        }
        self.see(&open);
        self.let_go.fetch_add(any, Ordering::Relaxed);
        any > 0
    }

    pub(crate) fn facts(&self) -> FeedFacts {
        let open = self.open.lock();
        let place = |p: &Arc<Place>| {
            let at = p.at.load(Ordering::Relaxed);
            (at, p.position.load(Ordering::Relaxed))
        };
        FeedFacts {
            open: open.len() as u64,
            oldest: open.iter().map(place).min(),
            overtaken: self.overtaken.load(Ordering::Relaxed),
            let_go: self.let_go.load(Ordering::Relaxed),
        }
    }
}

impl Forest {
    /// Sees that not more is kept for feeds than each may have kept; `pinned` is all that
    /// is kept.
    pub(crate) fn bound_feeds(&self, pinned: &[(Csn, Freed)]) {
        let size = u64::from(self.geometry.block_size);
        self.feeds.let_go(|place| {
            let at = place.at.load(Ordering::SeqCst);
            let freed = pinned.iter().filter(|(csn, _)| *csn > at);
            let bytes: u64 = freed.map(|(_, f)| u64::from(f.run.len) * size).sum();
            bytes > place.most
        });
    }

    /// Keeps nothing for feeds any more. True if something was.
    pub(crate) fn let_feeds_go(&self) -> bool {
        self.feeds.let_go(|_| true)
    }
}
