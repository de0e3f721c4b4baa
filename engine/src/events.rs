//! What happens in a store, told as it happens.
//!
//! Whoever tells never waits: a listener that does not keep up misses events, and is
//! told how many. Without listeners an event costs a load.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use gaur_iodriver::sync::ShortMutex;
use gaur_iodriver::sync::channel::{self, Receiver, Sender, TrySendError};
use gaur_iodriver::sync::time::Duration;

use crate::error::Result;
use crate::format::{Csn, Generation};
use crate::inspect::bytes;
use crate::readers::GivenUp;
use crate::store::Store;
use crate::throttle::ThrottleCause;

/// Something that happened in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A checkpoint has ended: what it wrote is durable, and what it freed is free.
    Checkpoint {
        /// Its generation.
        generation: Generation,
        /// The last commit that is in it.
        csn: Csn,
        /// Nodes that it wrote.
        nodes: u64,
        /// How long it took.
        took: Duration,
        /// How long of that commits could not be made.
        frozen: Duration,
    },
    /// Writers are slowed down, until [`Event::Unthrottled`], so that a checkpoint can keep
    /// up with them.
    Throttled {
        /// What is short.
        cause: ThrottleCause,
    },
    /// Writers are slowed down no more: the checkpoint has ended.
    Unthrottled,
    /// The store has become larger.
    Grown {
        /// Bytes before.
        before: u64,
        /// Bytes now.
        capacity: u64,
    },
    /// The store could not be made larger, and goes on as it is.
    GrowthFailed {
        /// Why not.
        why: String,
    },
    /// The oldest snapshot, transaction, scan or cursor is open for longer than
    /// [`OpenOptions::slow_reader`](crate::OpenOptions::slow_reader). Told once of each.
    SlowReader {
        /// The commit it looks at, or one shortly before it.
        csn: Csn,
        /// How long it is open.
        age: Duration,
        /// Commits since.
        behind: u64,
        /// Memory kept for it and all others, in bytes.
        kept_bytes: u64,
        /// Blocks kept for it and all others.
        pinned_blocks: u64,
    },
    /// Snapshots, transactions, scans or cursors were given up, and get
    /// [`Error::ViewTooOld`](crate::Error::ViewTooOld).
    ReadersGivenUp {
        /// How many.
        views: u64,
        /// The commit that the oldest looks at, or one shortly before it.
        oldest: Csn,
        /// Why.
        cause: GivenUp,
    },
    /// A write or flush failed: the store makes no more commits until it is reopened.
    Stopped {
        /// What failed.
        why: String,
    },
    /// The store was closed. This is the last event.
    Closed,
}

impl Event {
    /// What kind of event it is, in one word: `checkpoint`, `throttled` …
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Checkpoint { .. } => "checkpoint",
            Self::Throttled { .. } => "throttled",
            Self::Unthrottled => "unthrottled",
            Self::Grown { .. } => "grown",
            Self::GrowthFailed { .. } => "growth_failed",
            Self::SlowReader { .. } => "slow_reader",
            Self::ReadersGivenUp { .. } => "readers_given_up",
            Self::Stopped { .. } => "stopped",
            Self::Closed => "closed",
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checkpoint {
                generation,
                csn,
                nodes,
                took,
                frozen,
            } => write!(
                f,
                "checkpoint of generation {generation}, up to commit {csn}: {nodes} nodes in \
                 {took:?}, {frozen:?} of them frozen"
            ),
            Self::Throttled { cause } => write!(f, "writers are slowed down for want of {cause}"),
            Self::Unthrottled => f.write_str("writers are slowed down no more"),
            Self::Grown { before, capacity } => {
                let (before, capacity) = (bytes(*before), bytes(*capacity));
                write!(f, "the store has grown from {before} to {capacity}")
            }
            Self::GrowthFailed { why } => f.write_str(why),
            Self::SlowReader {
                csn,
                age,
                behind,
                kept_bytes,
                pinned_blocks,
            } => write!(
                f,
                "a reader of commit {csn} is open for {age:?}, {behind} commits behind; {} and \
                 {pinned_blocks} blocks are kept for readers",
                bytes(*kept_bytes)
            ),
            Self::ReadersGivenUp {
                views,
                oldest,
                cause,
            } => write!(
                f,
                "{views} reader(s), the oldest of commit {oldest}, were given up: {cause}"
            ),
            Self::Stopped { why } => write!(f, "the store has stopped: {why}"),
            Self::Closed => f.write_str("the store was closed"),
        }
    }
}

/// The events of a store, from [`Store::events`]. As an iterator it waits for the next,
/// and ends when the store was closed, or its last handle dropped, and all events were
/// taken.
#[derive(Debug)]
pub struct Events {
    receiver: Receiver<Event>,
    missed: Arc<AtomicU64>,
}

impl Events {
    /// The next event, if there is one by now.
    pub fn try_next(&self) -> Option<Event> {
        self.receiver.try_recv().ok()
    }

    /// The next event; waits for it at most so long.
    pub fn next_within(&self, timeout: Duration) -> Option<Event> {
        self.receiver.recv_timeout(timeout).ok()
    }

    /// Events that were lost because there was no room for them.
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        self.receiver.recv().ok()
    }
}

impl Store {
    /// The store's events from now on. Of those that are not taken up to `capacity` are
    /// kept, at least one; what comes then is counted ([`Events::missed`]) and lost: the
    /// store waits for nobody.
    ///
    /// # Errors
    /// [`Error::Closed`](crate::Error::Closed), [`Error::Forked`](crate::Error::Forked).
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("events.store");
    /// # let format = gaur::FormatOptions { create_size: Some(64 << 20), ..Default::default() };
    /// # gaur::Store::format(&path, &format).unwrap();
    /// # let store = gaur::Store::open(&path, &gaur::OpenOptions::default()).unwrap();
    /// use gaur::Event;
    ///
    /// let events = store.events(100)?;
    /// let watch = std::thread::spawn(move || {
    ///     for event in events {
    ///         if let Event::Stopped { why } = &event {
    ///             eprintln!("wake somebody: {why}");
    ///         }
    ///         println!("{event}");
    ///     }
    /// });
    /// store.tree("t")?.put(b"k", b"v")?;
    /// store.close()?;
    /// watch.join().unwrap();
    /// # Ok::<(), gaur::Error>(())
    /// ```
    pub fn events(&self, capacity: usize) -> Result<Events> {
        self.core().check_open()?;
        Ok(self.core().forest.events.listen(capacity))
    }
}

#[derive(Debug)]
struct Listener {
    sender: Sender<Event>,
    missed: Arc<AtomicU64>,
}

/// Who listens to a store.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    /// The store, for `tracing`.
    #[cfg(feature = "tracing")]
    store: u64,
    listeners: ShortMutex<Vec<Listener>>,
    any: AtomicBool,
}

impl Hub {
    #[cfg_attr(not(feature = "tracing"), expect(unused_variables))]
    pub(crate) fn new(store: u64) -> Self {
        Self {
            #[cfg(feature = "tracing")]
            store,
            ..Self::default()
        }
    }

    pub(crate) fn listen(&self, capacity: usize) -> Events {
        let (sender, receiver) = channel::bounded(capacity.max(1));
        let missed = Arc::new(AtomicU64::new(0));
        let events = Events {
            receiver,
            missed: missed.clone(),
        };
        self.listeners.lock().push(Listener { sender, missed });
        self.any.store(true, Ordering::Relaxed);
        events
    }

    /// Tells all who listen. Never waits; allowed under a latch.
    pub(crate) fn tell(&self, event: Event) {
        #[cfg(feature = "tracing")]
        trace(&event, self.store);
        if !self.any.load(Ordering::Relaxed) {
            return;
        }
        let mut listeners = self.listeners.lock();
        listeners.retain(|l| match l.sender.try_send(event.clone()) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                l.missed.fetch_add(1, Ordering::Relaxed);
                true
            }
            Err(TrySendError::Disconnected(_)) => false,
        });
        self.any.store(!listeners.is_empty(), Ordering::Relaxed);
    }

    /// Tells that the store was closed, and nothing more.
    pub(crate) fn end(&self) {
        self.tell(Event::Closed);
        self.listeners.lock().clear();
    }
}

#[cfg(feature = "tracing")]
fn trace(event: &Event, store: u64) {
    macro_rules! at {
        ($level:ident) => {
            tracing::event!(
                target: "gaur",
                tracing::Level::$level,
                store = crate::trace::store(store),
                kind = event.kind(),
                "{event}"
            )
        };
    }
    match event {
        Event::Checkpoint { .. } => at!(DEBUG),
        Event::Throttled { .. } | Event::Unthrottled => at!(INFO),
        Event::Grown { .. } | Event::Closed => at!(INFO),
        Event::GrowthFailed { .. } => at!(WARN),
        Event::SlowReader { .. } | Event::ReadersGivenUp { .. } => at!(WARN),
        Event::Stopped { .. } => at!(ERROR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_keep_up_misses_events_and_holds_nobody_up() {
        let hub = Hub::default();
        let (slow, quick, gone) = (hub.listen(2), hub.listen(9), hub.listen(1));
        drop(gone);
        let event = |n: u64| Event::Grown {
            before: n,
            capacity: n + 1,
        };
        for n in 0..5 {
            hub.tell(event(n));
        }
        assert_eq!(hub.listeners.lock().len(), 2);
        hub.end();
        hub.tell(event(9));
        assert_eq!((slow.missed(), quick.missed()), (4, 0));
        assert_eq!(slow.collect::<Vec<_>>(), [event(0), event(1)]);
        let mut all: Vec<_> = (0..5).map(event).collect();
        all.push(Event::Closed);
        assert_eq!(quick.try_next(), Some(event(0)));
        assert_eq!(quick.collect::<Vec<_>>(), all[1..]);
    }
}
