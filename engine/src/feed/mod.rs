//! Change feeds: the commits of a store, one after the other, from a CSN on.
//!
//! A feed reads the log on the device, behind the log thread, and only what is durable. It
//! keeps nothing of the store alive and holds up nobody: what happens when it is slow is
//! its own error ([`crate::log`], `history`; large values: [`open`]).

pub(crate) mod open;
mod record;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use gaur_iodriver::sync::time::{Duration, now};

use crate::core::Core;
use crate::error::{Error, Result};
use crate::format::log::{LogHeader, RecordHeader};
use crate::format::node::KIND_EXTENT;
use crate::format::{Csn, TreeId};
use crate::log::{FIRST_RECORD, History, LogPlace, Past, Reach, Watch};
use crate::store::Store;
use open::Place;

pub use record::{FeedCommit, FeedOp};

/// How a feed is read. `Default` suits most.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct FeedOptions {
    /// Space that may be kept for this feed, in bytes: large values that were deleted or
    /// replaced by commits that it has not come to. `None`: a sixteenth of the store.
    pub held_values: Option<u64>,
}

impl FeedOptions {
    /// With so many bytes for [`FeedOptions::held_values`].
    pub fn held_values(bytes: u64) -> Self {
        Self {
            held_values: Some(bytes),
        }
    }
}

/// The commits of a store in the order of their numbers, from [`Store::changes`]: each
/// when it is durable, whole, none left out and none twice.
///
/// As an iterator it waits for the next commit, and ends when the store is closed. An
/// error is the last that it gives. It keeps the store neither open nor from checkpoints,
/// and no writer ever waits for it. It may lag as far behind as the log is long, whatever
/// checkpoints truncate: the log is a ring, and what was truncated lies there until it is
/// overwritten.
#[derive(Debug)]
pub struct ChangeFeed {
    shared: Arc<Shared>,
    watch: Arc<Watch>,
    past: Past,
    /// The last commit that was given out.
    at: Csn,
    /// What to read next.
    next: LogPlace,
    /// The log block read last, and where in it the next record is.
    block: Option<(LogHeader, usize)>,
    over: bool,
}

/// What a feed and its commits share.
#[derive(Debug)]
struct Shared {
    core: Weak<Core>,
    place: Arc<Place>,
    /// Values of commits after this one were kept from the moment they were written.
    since: Csn,
    ended: AtomicBool,
}

impl Drop for ChangeFeed {
    fn drop(&mut self) {
        self.shared.let_go();
    }
}

impl Shared {
    /// Whether nothing that this commit wrote can have been used again.
    fn keeps(&self, csn: Csn) -> bool {
        let done_with = csn <= self.place.at.load(Ordering::SeqCst);
        let holds = self.place.holds() && !self.ended.load(Ordering::SeqCst);
        holds && csn > self.since && !done_with
    }

    fn let_go(&self) {
        if self.ended.swap(true, Ordering::SeqCst) {
            return;
        }
        // In a forked child a lock may be held for ever.
        if let Some(core) = self.core.upgrade().filter(|core| core.is_home()) {
            core.forest.feeds.remove(&self.place);
        }
    }
}

impl Core {
    /// The log, to be read again; none before recovery is over.
    fn history(&self) -> Result<&History> {
        self.log_if_started()
            .map(|log| &**log.history())
            .or_else(|| self.read_only_log().map(|(history, _)| history))
            .ok_or(Error::Closed)
    }

    /// How far the log reaches.
    fn log_reach(&self) -> Reach {
        match (self.log_if_started(), self.read_only_log()) {
            (Some(log), _) => log.reach(),
            (None, Some((_, end))) => Reach {
                next: *end,
                durable: *end,
            },
            (None, None) => Reach {
                next: 0,
                durable: 0,
            },
        }
    }
}

impl Store {
    /// The commits after `after`, as far as they are durable, and then each that follows.
    /// With 0 from the first commit on, if the log still has it. Of a store that is open
    /// read-only: those that are there.
    ///
    /// Whoever wants a copy of the store that follows it takes a snapshot, copies what it
    /// shows, and goes on behind [`Snapshot::csn`](crate::Snapshot::csn). After a restart
    /// go on behind the last commit that was dealt with.
    ///
    /// # Errors
    /// [`Error::ChangesGone`]: the log does not have all of them any more, and says which
    /// commit is the oldest there. [`Error::BadOption`] if the store has not come to
    /// `after`. [`Error::Io`], [`Error::Damaged`], [`Error::Closed`], [`Error::Forked`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("changes.store");
    /// # let format = gaur::FormatOptions { create_size: Some(64 << 20), ..Default::default() };
    /// # gaur::Store::format(&path, &format).unwrap();
    /// # let store = gaur::Store::open(&path, &gaur::OpenOptions::default()).unwrap();
    /// use std::time::Duration;
    /// use gaur::{FeedOp, FeedOptions};
    ///
    /// let stock = store.tree("stock")?;
    /// let mut feed = store.changes(store.snapshot()?.csn(), &FeedOptions::default())?;
    /// let csn = stock.put(b"apples", b"12")?;
    /// let commit = feed.next_within(Duration::from_secs(60))?.unwrap();
    /// assert_eq!((commit.csn(), commit.len()), (csn, 1));
    /// for op in commit.iter() {
    ///     let FeedOp::Put { tree, key, value } = op else { continue };
    ///     assert_eq!((tree, key, value), (stock.id(), &b"apples"[..], &b"12"[..]));
    /// }
    /// # Ok::<(), gaur::Error>(())
    /// ```
    pub fn changes(&self, after: Csn, options: &FeedOptions) -> Result<ChangeFeed> {
        let core = self.core();
        core.check_open()?;
        let last = core.last_drawn();
        if after > last {
            return Err(Error::BadOption {
                name: "after",
                detail: format!("commit {after}; the newest is {last}"),
            });
        }
        let history = core.history()?;
        let sixteenth = core.forest.bytes() / 16;
        let feeds = &core.forest.feeds;
        let place = feeds.add(after, options.held_values.unwrap_or(sixteenth));
        // Behind that: what a commit after this one frees is kept.
        let since = core.last_drawn();
        let mut feed = ChangeFeed {
            shared: Arc::new(Shared {
                core: Arc::downgrade(core),
                place,
                since,
                ended: AtomicBool::new(false),
            }),
            watch: history.watch.clone(),
            past: history.reader(),
            at: after,
            next: LogPlace::default(),
            block: None,
            over: false,
        };
        feed.next = history.find(&mut feed.past, after, || core.log_reach())?;
        // So that who comes too late hears it now.
        while feed.next.next_csn <= after + 1 && feed.step(core)? {}
        Ok(feed)
    }
}

impl ChangeFeed {
    /// The last commit that it gave out; at first the one that it was opened behind.
    pub fn csn(&self) -> Csn {
        self.at
    }

    /// Whether it gives nothing more: the store was closed, all of a store that is only
    /// read was given, or there was an error.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// The next commit; waits for it at most so long. `None`: there was none, or the feed
    /// [is over](ChangeFeed::is_over). What was given out before counts as dealt with:
    /// its large values are kept no more.
    ///
    /// # Errors
    /// [`Error::ChangesGone`]: it fell so far behind that the log has come round to where
    /// it was. [`Error::Io`], [`Error::Damaged`], [`Error::Stopped`] when the store has
    /// stopped and all that was durable was given, [`Error::Forked`]. The feed is over.
    pub fn next_within(&mut self, timeout: Duration) -> Result<Option<FeedCommit>> {
        self.next_until(Some(timeout))
    }

    fn next_until(&mut self, timeout: Option<Duration>) -> Result<Option<FeedCommit>> {
        if self.over {
            return Ok(None);
        }
        let found = self.wait_next(timeout);
        if found.is_err() {
            self.end();
        }
        found
    }

    fn wait_next(&mut self, timeout: Option<Duration>) -> Result<Option<FeedCommit>> {
        let begun = now();
        let until = timeout.and_then(|timeout| begun.checked_add(timeout));
        loop {
            // Before the look: what is durable by now is found.
            let over = self.watch.is_over();
            let Some(core) = self.shared.core.upgrade() else {
                self.end();
                return Ok(None);
            };
            core.check_home()?;
            if core.refuses_commits() {
                self.end();
                return Ok(None);
            }
            core.forest.feeds.advance(&self.shared.place, self.at);
            if let Some(commit) = self.read_next(&core)? {
                return Ok(Some(commit));
            }
            if core.read_only {
                self.end();
                return Ok(None);
            }
            if over {
                return Err(core.stopped_error());
            }
            // It may be the last to hold this.
            drop(core);
            if until.is_some_and(|until| now() >= until) {
                return Ok(None);
            }
            self.watch.wait(self.at, until);
        }
    }

    fn end(&mut self) {
        self.over = true;
        self.shared.let_go();
    }

    /// The next commit, if it is durable.
    fn read_next(&mut self, core: &Core) -> Result<Option<FeedCommit>> {
        loop {
            if let Some((header, at)) = self.block {
                if let Some((record, ops)) = self.past.record(&header, at) {
                    self.block = Some((header, at + RecordHeader::SIZE + ops.len()));
                    if record.csn <= self.at {
                        continue;
                    }
                    self.at = record.csn;
                    return Ok(Some(FeedCommit {
                        csn: record.csn,
                        count: record.ops,
                        ops: ops.to_vec(),
                        of: Arc::downgrade(&self.shared),
                    }));
                }
                self.block = None;
            }
            if !self.step(core)? {
                return Ok(None);
            }
        }
    }

    /// Reads the next log block; false if it is not durable yet.
    fn step(&mut self, core: &Core) -> Result<bool> {
        let here = self.next.position;
        self.shared.place.position.store(here, Ordering::Relaxed);
        let reach = core.log_reach();
        if here >= reach.durable {
            return Ok(false);
        }
        match self.past.read(self.next, reach.durable) {
            Ok(Some((header, behind))) => {
                self.block = Some((header, FIRST_RECORD));
                self.next = behind;
                Ok(true)
            }
            other => {
                // What was found wrong may have been overwritten by now.
                let history = core.history()?;
                let reach = core.log_reach();
                if history.is_over(here, reach) {
                    core.forest.feeds.overtaken.fetch_add(1, Ordering::Relaxed);
                    return Err(history.gone(self.at, reach));
                }
                other?;
                Err(self.past.damage(here).into())
            }
        }
    }
}

impl Iterator for ChangeFeed {
    type Item = Result<FeedCommit>;

    /// As [`ChangeFeed::next_within`], however long it takes.
    fn next(&mut self) -> Option<Self::Item> {
        self.next_until(None).transpose()
    }
}

/// A value that lies in blocks of its own, as long as they are kept.
#[derive(Clone)]
pub struct LargeValue<'a> {
    csn: Csn,
    tree: TreeId,
    key: &'a [u8],
    pieces: &'a [u8],
    of: &'a Weak<Shared>,
}

impl fmt::Debug for LargeValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LargeValue")
            .field("csn", &self.csn)
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}

impl LargeValue<'_> {
    /// Its length in bytes.
    pub fn bytes(&self) -> u64 {
        crate::commit::extents(self.pieces).map(|e| e.bytes).sum()
    }

    /// Reads it. It is there for sure until the feed is asked for the next commit, if the
    /// feed was opened before it was deleted or replaced, and
    /// [`FeedOptions::held_values`] and the space in the store sufficed.
    ///
    /// # Errors
    /// [`Error::ValueGone`]: its blocks were used again. [`Error::Io`],
    /// [`Error::Damaged`]; [`Error::Closed`], also when the feed was dropped.
    pub fn read(&self) -> Result<Vec<u8>> {
        let shared = self.of.upgrade().ok_or(Error::Closed)?;
        let core = shared.core.upgrade().ok_or(Error::Closed)?;
        core.check_open()?;
        let gone = Error::ValueGone { csn: self.csn };
        let Some(tree) = core.trees.lock().numbered(self.tree) else {
            return Err(gone);
        };
        let read = core.read_extents(&tree, self.pieces);
        if !matches!(read, Err(Error::Damaged(_))) || shared.keeps(self.csn) {
            return read;
        }
        // It is damage only if the tree still names these blocks.
        let worker = core.forest.workers.mine()?;
        match core.lookup(&worker, &tree, self.key)? {
            Some((KIND_EXTENT, pieces)) if pieces == self.pieces => read,
            _ => Err(gone),
        }
    }
}
