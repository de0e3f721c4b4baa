//! The parts of an open store, put together.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use gaur_iodriver::sync::time::Duration;
use gaur_iodriver::sync::{Home, Mutex, ShortMutex, thread};

use crate::commit::versions::Versions;
use crate::commit::view::{Reads, View};
use crate::commit::visible::Visible;
use crate::error::{Error, Result};
use crate::events::Event;
use crate::format::{Csn, Run, TreeId};
use crate::log::{History, Log};
use crate::merging::Merging;
use crate::node::Child;
use crate::options::OpenOptions;
use crate::overlay::{Added, Overlay};
use crate::progress::Progress;
use crate::readers::Readers;
use crate::saved::{Origin, Shelf};
use crate::throttle::Throttle;
use crate::tree::{Forest, TreeState};
use crate::writeback::checkpoint::CheckpointCounters;
use crate::writeback::evict::EvictCounters;
use crate::writeback::reclaim::ReclaimCounters;

/// The most pieces a large value may lie in.
pub(crate) const MAX_PIECES: usize = 16;

/// An open store without its threads.
#[derive(Debug)]
pub(crate) struct Core {
    /// The process that opened the store.
    home: Home,
    pub(crate) forest: Forest,
    log: OnceLock<Log>,
    overlay: OnceLock<Overlay>,
    /// The log of a store that is only read, and where it ends.
    read_only_log: OnceLock<(History, u64)>,
    pub(crate) visible: Visible,
    pub(crate) versions: Versions,
    pub(crate) readers: Readers,
    pub(crate) trees: ShortMutex<Trees>,
    /// The named snapshots.
    pub(crate) shelf: ShortMutex<Shelf>,
    /// Held while a tree is created, renamed or dropped, so that a name is given once.
    pub(crate) creating: Mutex<()>,
    pub(crate) next_tree: AtomicU32,
    /// Blocks that new trees brought for the next tree of trees.
    pub(crate) for_catalog: ShortMutex<Vec<Run>>,
    pub(crate) read_only: bool,
    /// The store's threads end.
    pub(crate) closing: AtomicBool,
    pub(crate) throttle: Throttle,
    pub(crate) merging: Merging,
    pub(crate) evicting: EvictCounters,
    pub(crate) checkpointing: CheckpointCounters,
    pub(crate) reclaiming: ReclaimCounters,
}

/// The trees by name and by id.
#[derive(Debug, Default)]
pub(crate) struct Trees {
    by_name: BTreeMap<String, Arc<TreeState>>,
    by_id: BTreeMap<TreeId, Arc<TreeState>>,
    /// Dropped in this generation: without a name, but nodes that say its number may have
    /// to be written.
    dropped: Vec<Arc<TreeState>>,
}

impl Trees {
    pub(crate) fn insert(&mut self, tree: Arc<TreeState>) {
        self.by_name.insert(tree.name().to_string(), tree.clone());
        self.by_id.insert(tree.id, tree);
    }

    /// The tree is no more; its nodes are still to be freed.
    pub(crate) fn drop_tree(&mut self, tree: &Arc<TreeState>, csn: Csn) {
        tree.set_dropped(csn);
        self.by_name.remove(&*tree.name());
        self.dropped.push(tree.clone());
    }

    /// A range was cut out of a tree: that is as a tree without a name, to be freed.
    pub(crate) fn detach(&mut self, part: Arc<TreeState>) {
        self.dropped.push(part);
    }

    /// How many trees were dropped, and ranges cut out, in this generation.
    pub(crate) fn dropped(&self) -> usize {
        self.dropped.len()
    }

    /// The trees dropped since the last time.
    pub(crate) fn take_dropped(&mut self) -> Vec<Arc<TreeState>> {
        let dropped = std::mem::take(&mut self.dropped);
        for tree in &dropped {
            // What was cut out has the number of a tree that is there still.
            if self
                .by_id
                .get(&tree.id)
                .is_some_and(|t| Arc::ptr_eq(t, tree))
            {
                self.by_id.remove(&tree.id);
            }
        }
        dropped
    }

    /// Does what the log says of the trees of a store that is only read.
    pub(crate) fn change(&mut self, added: &Added) {
        self.by_id.retain(|id, _| !added.dropped.contains(id));
        for (id, name) in &added.renamed {
            if let Some(tree) = self.by_id.get(id) {
                tree.rename(name);
            }
        }
        for (id, name, from) in &added.created {
            self.by_id.insert(*id, Arc::new(state_of(*id, name, *from)));
        }
        let trees = self.by_id.values();
        self.by_name = trees.map(|t| (t.name().to_string(), t.clone())).collect();
    }

    pub(crate) fn rename(&mut self, tree: &Arc<TreeState>, name: &str) {
        self.by_name.remove(&*tree.name());
        tree.rename(name);
        self.by_name.insert(name.to_owned(), tree.clone());
    }

    pub(crate) fn named(&self, name: &str) -> Option<Arc<TreeState>> {
        self.by_name.get(name).cloned()
    }

    pub(crate) fn numbered(&self, id: TreeId) -> Option<Arc<TreeState>> {
        self.by_id.get(&id).cloned()
    }

    /// All trees, by name.
    pub(crate) fn all(&self) -> Vec<Arc<TreeState>> {
        self.by_name.values().cloned().collect()
    }
}

/// A tree as it begins.
pub(crate) fn state_of(id: TreeId, name: &str, from: Option<Origin>) -> TreeState {
    let Some(from) = from else {
        return TreeState::empty(id, name);
    };
    let root = Child {
        ptr: from.root,
        hint: 0,
    };
    TreeState::new(id, name, root, from.large).begun_as(from.generation)
}

impl Core {
    pub(crate) fn new(
        forest: Forest,
        applied: Csn,
        next_tree: TreeId,
        options: &OpenOptions,
    ) -> Self {
        Self {
            home: Home::here(),
            forest,
            log: OnceLock::new(),
            overlay: OnceLock::new(),
            read_only_log: OnceLock::new(),
            visible: Visible::new(applied),
            versions: Versions::new(options.version_memory),
            readers: Readers::new(options),
            trees: ShortMutex::default(),
            shelf: ShortMutex::default(),
            creating: Mutex::new(()),
            next_tree: AtomicU32::new(next_tree),
            for_catalog: ShortMutex::default(),
            read_only: options.read_only,
            closing: AtomicBool::new(false),
            throttle: Throttle::new(),
            merging: Merging::new(),
            evicting: EvictCounters::default(),
            checkpointing: CheckpointCounters::default(),
            reclaiming: ReclaimCounters::default(),
        }
    }

    /// The log; there is one as soon as recovery is over.
    pub(crate) fn log(&self) -> &Log {
        self.log
            .get()
            .expect("the log starts before the first commit")
    }

    /// The log, if recovery is over and the store is open for writing.
    pub(crate) fn log_if_started(&self) -> Option<&Log> {
        self.log.get()
    }

    pub(crate) fn set_log(&self, log: Log) {
        self.log.set(log).expect("the log starts once");
    }

    /// What the log changes, of a store that is only read and was not closed.
    pub(crate) fn overlay(&self) -> Option<&Overlay> {
        self.overlay.get()
    }

    pub(crate) fn set_overlay(&self, overlay: Overlay) {
        self.overlay.set(overlay).expect("the log is read once");
    }

    pub(crate) fn read_only_log(&self) -> Option<&(History, u64)> {
        self.read_only_log.get()
    }

    pub(crate) fn set_read_only_log(&self, log: (History, u64)) {
        self.read_only_log.set(log).expect("the log is read once");
    }

    pub(crate) fn progress(&self) -> &Progress {
        &self.forest.progress
    }

    /// Adds a tree that the log makes.
    pub(crate) fn add_tree(&self, id: TreeId, name: &str, from: Option<Origin>) {
        self.trees.lock().insert(Arc::new(state_of(id, name, from)));
        self.note_numbers([id]);
        if let Some(from) = from {
            self.shelf.lock().depend(from.generation);
        }
    }

    /// These trees' numbers are given out.
    pub(crate) fn note_numbers(&self, ids: impl IntoIterator<Item = TreeId>) {
        for id in ids {
            let next = id.saturating_add(1);
            self.next_tree.fetch_max(next, Ordering::AcqRel);
        }
    }

    /// The last commit that drew its number.
    pub(crate) fn last_drawn(&self) -> Csn {
        self.log
            .get()
            .map_or_else(|| self.visible.upto(), Log::last_csn)
    }

    /// Opens a view of all commits until now, in the calling thread's worker.
    pub(crate) fn view(&self) -> Result<Arc<View>> {
        self.open_view(true)
    }

    /// The same for one whose reads will be validated.
    pub(crate) fn view_to_validate(&self) -> Result<Arc<View>> {
        self.open_view(false)
    }

    fn open_view(&self, lasting: bool) -> Result<Arc<View>> {
        let worker = self.forest.workers.mine()?;
        let view = View::open(worker, &self.visible, lasting, || self.last_drawn());
        Ok(Arc::new(view))
    }

    /// An error if the view was given up. Ask after what was kept for it was read.
    pub(crate) fn check_view(&self, view: &View) -> Result<()> {
        let csn = view.csn();
        let lost = csn < self.forest.pins.aged()
            || match view.reads(&self.forest.pins) {
                Reads::Running => csn < self.versions.floor(),
                Reads::Frozen(pin) => csn < pin.floor(),
                Reads::Nothing => true,
            };
        match lost {
            true => Err(Error::ViewTooOld { csn }),
            false => Ok(()),
        }
    }

    /// Whether to read again what was found damaged: not all of the frozen generation was
    /// on the device. Waits until it is; nothing may be held.
    pub(crate) fn is_written_now(&self, reads: Reads<'_>) -> bool {
        while reads.is_unwritten() {
            if self.progress().stopped().is_some() {
                return false;
            }
            thread::sleep(Duration::from_micros(50));
        }
        true
    }

    /// The tree in which a view that reads so finds what it sees of `tree`, but for images;
    /// `None`: it sees no tree.
    pub(crate) fn seen<'a>(
        &self,
        tree: &'a Arc<TreeState>,
        reads: Reads<'a>,
    ) -> Option<&'a Arc<TreeState>> {
        match reads {
            Reads::Frozen(pin) if !tree.is_frozen() => match pin.tree(tree.id) {
                // Dropped ones stay as long as somebody sees them.
                None if tree.was_dropped(pin.cut) => Some(tree),
                frozen => frozen,
            },
            _ => Some(tree),
        }
    }

    /// Fail-stop: after a failed write or flush nothing more is promised.
    pub(crate) fn fail(&self, why: &Error) {
        let why = match why {
            Error::Stopped(why) => why.clone(),
            why => why.to_string(),
        };
        if let Some(log) = self.log.get() {
            log.stop(why.clone());
        }
        if self.progress().stop(&why) {
            self.forest.events.tell(Event::Stopped { why });
        }
    }

    /// Hands an error on, and sees that who comes next gets it too if it means that one of
    /// the store's threads is gone.
    pub(crate) fn spread(&self, e: Error) -> Error {
        if matches!(e, Error::Stopped(_)) && !self.closing.load(Ordering::Acquire) {
            self.fail(&e);
        }
        e
    }

    /// Fail-stop if the calling thread, one of the store's own, panics: nobody would
    /// do its work, and others wait for that.
    pub(crate) fn fail_if_panicking(&self, who: &str) {
        if thread::is_panicking() {
            self.fail(&Error::Stopped(format!("{who} panicked")));
        }
    }

    /// Whether the calling process is the one that opened the store. In a forked child
    /// nothing of the store may be touched: any lock may be held for ever there.
    pub(crate) fn is_home(&self) -> bool {
        self.home.is_here()
    }

    /// Refuses in a forked child.
    pub(crate) fn check_home(&self) -> Result<()> {
        if self.is_home() {
            Ok(())
        } else {
            Err(Error::Forked)
        }
    }

    /// Refuses if the store takes no commits.
    pub(crate) fn check_writable(&self) -> Result<()> {
        if self.read_only {
            return Err(Error::ReadOnly);
        }
        self.check_open()?;
        // Before anything is read for it: a stopped store says so at once.
        match self.log_if_started() {
            Some(log) if log.has_stopped() => Err(self.stopped_error()),
            _ => Ok(()),
        }
    }

    /// Refuses if the store was closed, and in a forked child.
    pub(crate) fn check_open(&self) -> Result<()> {
        self.check_home()?;
        if self.refuses_commits() {
            return Err(Error::Closed);
        }
        Ok(())
    }

    /// Whether the store was closed.
    pub(crate) fn refuses_commits(&self) -> bool {
        self.forest.workers.refuses_commits()
    }

    /// Takes no further commit and waits for those under way.
    pub(crate) fn refuse_commits(&self) {
        self.forest.workers.refuse_commits();
    }

    /// Gives back the extents of a value whose commit did not happen.
    pub(crate) fn drop_extents(&self, pieces: &[u8]) {
        let block_size = self.forest.geometry.block_size;
        let runs = crate::commit::extents(pieces)
            .map(|e| e.run(block_size))
            .collect();
        self.forest.pool.allocator().give_back(runs);
    }
}
