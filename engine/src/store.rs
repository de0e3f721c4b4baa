//! The public face: stores and trees.

use std::ops::{Bound, ControlFlow, RangeBounds};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use gaur_iodriver::sync::Mutex;
use gaur_iodriver::sync::thread::{self, JoinHandle};
use gaur_iodriver::sync::time::{Duration, now};
use gaur_iodriver::{Device, DurableMethod};

use crate::alloc::{Request, Shape};
use crate::commit::batch::{BatchOp, WriteBatch, check_key, check_value};
use crate::commit::{Change, Stamp};
use crate::core::Core;
use crate::error::{Error, Result};
use crate::format::node::{KIND_EXTENT, KIND_VALUE};
use crate::format::superblock::FLAG_SPARSE;
use crate::format::{Csn, ExtentPtr};
use crate::format_plan::{FormatPlan, plan_device, plan_path};
use crate::format_store::{FormatReport, format_device, format_path};
use crate::growth::GrowReport;
use crate::inspect::bytes as in_units;
use crate::log::{Log, LogConfig, OpsBuilder, Record, record_check};
use crate::node::max_inline;
use crate::options::{Durability, FormatOptions, OpenOptions, check_cache};
use crate::recovery::{self, RecoveryReport};
use crate::report::Stats;
use crate::scan::Scan;
use crate::shortage::Claim;
use crate::stats::Wait;
use crate::tree::{Anchor, TreeState};
use crate::trim::{TrimOptions, TrimReport, trim};
use crate::worker::Worker;
use crate::writeback::catalog::MAX_NAME;
use crate::writeback::checkpoint::{self, Checkpointer};
use crate::writeback::evict;
use crate::writeback::superblock::read_pair;

/// How long [`Store::set_cache_bytes`] waits for a smaller cache to be reached.
const SHRINK_PATIENCE: Duration = Duration::from_secs(10);

/// The memory for nodes of an open store, in bytes of whole blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheBudget {
    /// What nodes may lie in now. Above `wanted` while a smaller cache is not reached.
    pub bytes: u64,
    /// What was asked for last.
    pub wanted: u64,
    /// The most that can be asked for.
    pub most: u64,
}

/// An open store. Cheap to clone; all clones and trees share it. May be used from
/// any number of threads.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("example.store");
/// use gaur::{Durability, FormatOptions, OpenOptions, Store};
///
/// // A device (/dev/nvme0n1, a partition, a loop device) or, as here, a file.
/// let options = FormatOptions { create_size: Some(64 << 20), ..Default::default() };
/// Store::format(&path, &options)?;
/// let store = Store::open(&path, &OpenOptions::default())?;
/// let tree = store.tree("inventory")?;
/// tree.put(b"apples", b"12")?;
/// assert_eq!(tree.get(b"apples")?.as_deref(), Some(&b"12"[..]));
/// store.close()?;
/// # Ok::<(), gaur::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    core: Arc<Core>,
    id: u128,
    sparse: bool,
    notes: Vec<String>,
    recovery: RecoveryReport,
    checkpointer: Mutex<Option<JoinHandle<Checkpointer>>>,
    evictor: Mutex<Option<JoinHandle<()>>>,
    /// Held while the store is closed: who closes it too waits for the first.
    closing: Mutex<()>,
}

impl Store {
    /// Makes a store at `path`, a block device or a file, and says what it did.
    /// Refuses if anything is there, unless forced.
    ///
    /// # Errors
    /// [`Error::Foreign`], [`Error::TooSmall`], [`Error::BadOption`], or
    /// [`Error::Io`]; up to then nothing was written, except after an I/O error.
    pub fn format(path: impl AsRef<Path>, options: &FormatOptions) -> Result<FormatReport> {
        format_path(path.as_ref(), options)
    }

    /// [`Store::format`] on a device that is open already.
    ///
    /// # Errors
    /// As [`Store::format`].
    pub fn format_device(device: Arc<dyn Device>, options: &FormatOptions) -> Result<FormatReport> {
        format_device(device, options, "device")
    }

    /// Says what [`Store::format`] would do: makes the same checks, and writes
    /// nothing.
    ///
    /// # Errors
    /// As [`Store::format`].
    pub fn plan_format(path: impl AsRef<Path>, options: &FormatOptions) -> Result<FormatPlan> {
        plan_path(path.as_ref(), options)
    }

    /// [`Store::plan_format`] on a device that is open already; open for reading is
    /// enough.
    ///
    /// # Errors
    /// As [`Store::format`].
    pub fn plan_format_device(
        device: Arc<dyn Device>,
        options: &FormatOptions,
    ) -> Result<FormatPlan> {
        plan_device(device.as_ref(), options, "device")
    }

    /// Opens the store at `path` and recovers it if it was not closed.
    ///
    /// # Errors
    /// [`Error::NotAStore`], [`Error::UnknownFormat`], [`Error::Damaged`],
    /// [`Error::Io`] (also if somebody else has it open), [`Error::BadOption`].
    pub fn open(path: impl AsRef<Path>, options: &OpenOptions) -> Result<Self> {
        options.check()?;
        let path = path.as_ref();
        let opened = gaur_iodriver::open(
            path,
            &gaur_iodriver::OpenOptions {
                read_only: options.read_only,
                driver: options.driver,
                ..Default::default()
            },
        )?;
        let mut store = Self::open_named(opened.device, options, &opened.name)?;
        if let Some(inner) = Arc::get_mut(&mut store.inner) {
            inner.notes.extend(opened.notes);
        }
        Ok(store)
    }

    /// [`Store::open`] on a device that is open already.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_device(device: Arc<dyn Device>, options: &OpenOptions) -> Result<Self> {
        Self::open_named(device, options, "device")
    }

    fn open_named(device: Arc<dyn Device>, options: &OpenOptions, name: &str) -> Result<Self> {
        let stored = read_pair(device.as_ref(), name, !options.read_only)?;
        let method = options
            .durable_method
            .or_else(|| DurableMethod::from_code(stored.newest.durable_method as u8))
            .unwrap_or_default();
        if stored.newest.flags & FLAG_SPARSE != 0 {
            device.treat_as_sparse();
        }
        let device = device.with_durable_method(method);
        let mut opening = recovery::begin(device.clone(), name, options)?;
        let core = opening.core.clone();

        let evictor = {
            let core = core.clone();
            let queue = device.queue(64)?;
            thread::spawn("gaur-evict", move || evict::run(&core, queue)).map_err(no_thread)?
        };
        let mut inner = Inner {
            core: core.clone(),
            id: opening.superblock.store_id,
            sparse: stored.newest.flags & FLAG_SPARSE != 0,
            notes: Vec::new(),
            recovery: RecoveryReport::default(),
            checkpointer: Mutex::new(None),
            evictor: Mutex::new(Some(evictor)),
            closing: Mutex::new(()),
        };
        // From here on dropping `inner` ends the threads.
        if options.read_only {
            recovery::replay_beside(&mut opening, options)?;
            inner.recovery = opening.report;
            let damaged = core.forest.pool.allocator().damaged_groups()?;
            inner.notes.extend(damaged.first().map(|(_, why)| {
                format!(
                    "the map of {} group(s) is damaged ({} at block {}: {}); opened for writing, \
                     the store rebuilds it from the trees when it needs it",
                    damaged.len(),
                    why.what,
                    why.place,
                    why.detail
                )
            }));
        } else {
            let tail = recovery::replay(&mut opening)?;
            inner.recovery = opening.report;
            core.forest.pool.allocator().warm_up();
            let sb = opening.superblock;
            let mut config =
                LogConfig::new(core.forest.geometry.now(), sb.store_id, sb.incarnation);
            config.buffered_interval = options.buffered_interval;
            let weak: Weak<Core> = Arc::downgrade(&core);
            let pressure = Box::new(move || {
                if let Some(core) = weak.upgrade() {
                    core.progress().ask();
                }
            });
            let head = recovery::head_of(&sb);
            core.set_log(Log::start(device.clone(), config, head, tail, pressure)?);
            let queue = device.queue(checkpoint::DEPTH as u32)?;
            let checkpointer = Checkpointer::new(sb, opening.catalog, opening.spare, queue);
            let interval = options.checkpoint_interval;
            let body = {
                let core = core.clone();
                move || checkpointer.run(&core, interval)
            };
            core.progress().serve();
            let handle = thread::spawn("gaur-checkpoint", body).map_err(no_thread)?;
            *inner.checkpointer.lock() = Some(handle);
            if inner.recovery.replayed > 0 {
                core.progress().ask();
            }
        }
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.inner.core
    }

    /// The store's identity, drawn when it was formatted.
    pub fn id(&self) -> u128 {
        self.inner.id
    }

    /// The name of the driver in use: `uring`, `psync` or `sim`.
    pub fn driver(&self) -> &'static str {
        self.core().forest.device.driver()
    }

    /// Whether reads and writes bypass the page cache (`O_DIRECT`).
    pub fn is_direct(&self) -> bool {
        self.core().forest.device.geometry().direct
    }

    /// What opening found and did.
    pub fn recovery(&self) -> &RecoveryReport {
        &self.inner.recovery
    }

    /// Whether the store lies in a sparse file, which gets its space when it is
    /// written: then a full file system stops the store.
    pub fn is_sparse(&self) -> bool {
        self.inner.sparse
    }

    /// What is not as it was asked for (another driver, no `O_DIRECT`, no discard), what of
    /// the space map was damaged and was rebuilt, or cannot be, and why the store could
    /// not grow when it last tried.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = self.inner.notes.clone();
        if !self.core().is_home() {
            return notes;
        }
        notes.extend(self.core().forest.device.notes());
        notes.extend(self.core().forest.mend.notes());
        notes.extend(self.core().forest.growth.note());
        notes.extend(self.core().forest.pool.allocator().discard_notes());
        notes
    }

    /// The tree of that name; made if there is none.
    ///
    /// # Errors
    /// As [`Store::create_tree`].
    pub fn tree(&self, name: &str) -> Result<Tree> {
        match self.open_tree(name) {
            Err(Error::NoSuchTree(_)) => match self.create_tree(name) {
                Err(Error::TreeExists(_)) => self.open_tree(name),
                other => other,
            },
            other => other,
        }
    }

    /// The tree of that name.
    ///
    /// # Errors
    /// [`Error::NoSuchTree`], [`Error::Forked`].
    pub fn open_tree(&self, name: &str) -> Result<Tree> {
        self.core().check_home()?;
        let found = self.core().trees.lock().named(name);
        match found {
            Some(state) => Ok(Tree {
                inner: self.inner.clone(),
                state,
            }),
            None => Err(Error::NoSuchTree(name.to_owned())),
        }
    }

    /// Makes a tree, durably. A name has 1 to 255 bytes.
    ///
    /// # Errors
    /// [`Error::TreeExists`], [`Error::BadOption`] for a name that cannot be, and
    /// what a commit can fail with.
    pub fn create_tree(&self, name: &str) -> Result<Tree> {
        let core = self.core();
        core.check_writable()?;
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(Error::BadOption {
                name: "tree name",
                detail: format!("{} bytes; 1 to {MAX_NAME}", name.len()),
            });
        }
        let worker = core.forest.workers.mine()?;
        let _busy = worker.begin_commit(core)?;
        let creating = core.creating.lock();
        if core.trees.lock().named(name).is_some() {
            return Err(Error::TreeExists(name.to_owned()));
        }
        // What it adds to the tree of trees is less than a block, here and in the
        // checkpointer's spare blocks.
        let mut claim = Claim::adding();
        let room = core.forest.claim(&worker, &mut claim, |urgency| {
            core.forest.pool.allocator().reserve(Request {
                blocks: 1,
                shape: Shape::Nodes,
                hint: 0,
                urgency,
            })
        })?;
        drop(claim);
        core.for_catalog.lock().extend(room);
        let id = core.next_tree.fetch_add(1, Ordering::AcqRel);
        let mut ops = OpsBuilder::new();
        ops.create_tree(id, name.as_bytes(), &[])?;
        let record = record_of(&ops, true);
        let state = Arc::new(TreeState {
            id,
            name: name.to_owned(),
            anchor: Anchor::default(),
        });
        let csn = loop {
            let inside = core.forest.workers.enter(&worker);
            match core.log().try_append(&record) {
                Ok(csn) => {
                    core.trees.lock().insert(state.clone());
                    core.visible.applied(csn);
                    break csn;
                }
                Err(crate::log::Refused::Full) => {
                    drop(inside);
                    core.progress().ask();
                    core.log().wait_space()?;
                }
                Err(_) => return Err(core.stopped_error()),
            }
        };
        // The next tree need not wait for this one's flush.
        drop(creating);
        core.log().wait_durable(csn)?;
        Ok(Tree {
            inner: self.inner.clone(),
            state,
        })
    }

    /// Names of all trees, in order; none in a forked child.
    pub fn tree_names(&self) -> Vec<String> {
        if !self.core().is_home() {
            return Vec::new();
        }
        self.core()
            .trees
            .lock()
            .all()
            .iter()
            .map(|t| t.name.clone())
            .collect()
    }

    /// Commits a batch: all of it or nothing. Returns its CSN; an empty batch draws
    /// none and returns the newest visible one.
    ///
    /// # Errors
    /// [`Error::KeyTooLong`], [`Error::ValueTooLong`], [`Error::BatchTooLarge`],
    /// [`Error::Full`], [`Error::ReadOnly`], [`Error::Closed`], [`Error::Forked`],
    /// [`Error::Stopped`]: nothing happened. [`Error::Io`] and [`Error::Damaged`]:
    /// what the commit had to read could not be read; nothing happened. [`Error::OutcomeUnknown`]: the store stopped while the
    /// commit was in flight.
    pub fn commit(&self, batch: WriteBatch, durability: Durability) -> Result<Csn> {
        let core = self.core();
        core.check_writable()?;
        if batch.is_empty() {
            return Ok(core.visible.upto());
        }
        commit_ops(core, &batch.into_sorted(), durability)
    }

    /// Waits until commit `csn` survives the loss of power.
    ///
    /// # Errors
    /// [`Error::OutcomeUnknown`] if the store stopped before; [`Error::Forked`].
    pub fn wait_durable(&self, csn: Csn) -> Result<()> {
        let core = self.core();
        core.check_home()?;
        match core.log_if_started() {
            None => Ok(()),
            Some(log) => {
                let worker = core.forest.workers.mine()?;
                worker
                    .counters
                    .waiting(Wait::Durable, || log.wait_durable(csn))
            }
        }
    }

    /// Makes all commits so far durable, and returns the last of them.
    ///
    /// # Errors
    /// [`Error::OutcomeUnknown`] if the store stopped before; [`Error::Forked`].
    pub fn flush(&self) -> Result<Csn> {
        self.core().check_home()?;
        match self.core().log_if_started() {
            None => Ok(self.core().visible.upto()),
            Some(log) => log.flush(),
        }
    }

    /// Makes a checkpoint and waits for its end; writers go on meanwhile.
    ///
    /// # Errors
    /// [`Error::Stopped`], [`Error::ReadOnly`], [`Error::Closed`].
    pub fn checkpoint(&self) -> Result<()> {
        self.core().check_writable()?;
        let done = self.core().progress().wait_for_next();
        // Closed meanwhile: the last checkpoint was another's.
        done.map_err(|e| self.core().check_open().err().unwrap_or(e))
    }

    /// Takes in what the device or file has become larger, with `bytes` after making
    /// a file at least that large: preallocated, unless the store was formatted as
    /// sparse. Returns when that is durable; commits go on meanwhile.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("grow.store");
    /// # let format = gaur::FormatOptions { create_size: Some(64 << 20), ..Default::default() };
    /// # gaur::Store::format(&path, &format).unwrap();
    /// let store = gaur::Store::open(&path, &gaur::OpenOptions::default())?;
    /// let report = store.grow(Some(96 << 20))?;
    /// assert_eq!((report.before, report.capacity), (64 << 20, 96 << 20));
    /// # Ok::<(), gaur::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::CannotGrow`] if the file system is full, or the device is a block
    /// device of fewer bytes; [`Error::BadOption`] for fewer bytes than the store
    /// has, or more than it can have. The store goes on as it is. Otherwise as
    /// [`Store::checkpoint`].
    pub fn grow(&self, bytes: Option<u64>) -> Result<GrowReport> {
        self.core().check_writable()?;
        let grown = self.core().forest.grow(bytes);
        grown.map_err(|e| match e {
            Error::Stopped(_) => self.core().check_open().err().unwrap_or(e),
            e => e,
        })
    }

    /// What [`Store::grow`] would do; changes nothing, and may be asked of a store
    /// that is open read-only. Whether the file system has the space shows only
    /// when it is taken.
    ///
    /// # Errors
    /// As [`Store::grow`].
    pub fn plan_growth(&self, bytes: Option<u64>) -> Result<GrowReport> {
        self.core().check_open()?;
        self.core().forest.plan_growth(bytes)
    }

    /// Bytes the store uses of its device or file, all told.
    pub fn capacity(&self) -> u64 {
        self.core().forest.bytes()
    }

    /// A batch that only deletes, and touches at most so many leaves, is not refused
    /// for want of space, however full the store. (The reserve is eight times as
    /// many blocks: a leaf's way down has up to five nodes, and replay after a crash
    /// has a quarter.) A larger one may get [`Error::Full`].
    pub fn delete_batch_leaves(&self) -> u64 {
        self.core().forest.pool.allocator().reserve_blocks() / 8
    }

    /// Discards all free space, as `fstrim` does, while others use the store. Begins
    /// with a checkpoint, so that what was deleted is free. `progress` is called
    /// every 0.1 s or oftener, also while the rate makes it wait, and may end it early.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("trim.store");
    /// use std::ops::ControlFlow;
    /// use gaur::{FormatOptions, OpenOptions, Store, TrimOptions};
    ///
    /// let options = FormatOptions {
    ///     create_size: Some(64 << 20),
    ///     sparse: true,
    ///     ..Default::default()
    /// };
    /// Store::format(&path, &options)?;
    /// let store = Store::open(&path, &OpenOptions::default())?;
    /// let report = store.trim(&TrimOptions::default(), |so_far| {
    ///     println!("{} of {} bytes", so_far.looked_at, so_far.size);
    ///     ControlFlow::Continue(())
    /// })?;
    /// assert!(report.discarded > 0 && report.discarded <= report.free);
    /// # Ok::<(), gaur::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Io`] with `Unsupported` if the device cannot discard, or the store is
    /// in a file that was not formatted as sparse; [`Error::ReadOnly`] unless it is a
    /// dry run; [`Error::Stopped`], [`Error::Closed`].
    pub fn trim(
        &self,
        options: &TrimOptions,
        progress: impl FnMut(&TrimReport) -> ControlFlow<()>,
    ) -> Result<TrimReport> {
        trim(self.core(), options, progress)
    }

    /// Changes the memory for nodes to `bytes`, while everything runs. More is there at
    /// once. Less is reached by eviction: waits up to ten seconds for it, and then it
    /// goes on by itself; the answer says how far it is. Writers and readers only become
    /// slower. A batch that is too wide for the smaller cache is refused, as with one
    /// that was small from the beginning. After a failed write, nodes that were on their
    /// way to the device stay where they are.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("cache.store");
    /// # let format = gaur::FormatOptions { create_size: Some(64 << 20), ..Default::default() };
    /// # gaur::Store::format(&path, &format).unwrap();
    /// let options = gaur::OpenOptions {
    ///     cache_bytes: 8 << 20,
    ///     max_cache_bytes: Some(64 << 20),
    ///     ..Default::default()
    /// };
    /// let store = gaur::Store::open(&path, &options)?;
    /// store.set_cache_bytes(64 << 20)?;
    /// let budget = store.set_cache_bytes(4 << 20)?;
    /// assert_eq!(budget.wanted, 4 << 20);
    /// assert_eq!(budget.bytes, 4 << 20);
    /// # Ok::<(), gaur::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::BadOption`] if it is less than 1 MiB or more than
    /// [`CacheBudget::most`], or if the system does not give the memory;
    /// [`Error::Closed`], [`Error::Forked`]. Nothing is changed then.
    pub fn set_cache_bytes(&self, bytes: u64) -> Result<CacheBudget> {
        let core = self.core();
        core.check_open()?;
        check_cache(bytes)?;
        let cache = &core.forest.cache;
        let frames = bytes / u64::from(core.forest.geometry.block_size);
        if frames > cache.most() as u64 {
            return Err(Error::BadOption {
                name: "cache_bytes",
                detail: format!(
                    "{}; at most {}, the max_cache_bytes the store was opened with",
                    in_units(bytes),
                    in_units(self.cache_budget().most)
                ),
            });
        }
        let frames = frames as usize;
        cache.resize(frames)?;
        let begun = now();
        // Somebody else may want something else meanwhile, and wait for it himself.
        while cache.is_shrinking() && cache.frames() == frames && !cache.has_ended() {
            // After a fail-stop what is dirty stays, and only what is clean goes.
            let patience = match core.progress().stopped() {
                Some(_) => SHRINK_PATIENCE / 10,
                None => SHRINK_PATIENCE,
            };
            if begun.elapsed() >= patience {
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(self.cache_budget())
    }

    /// The memory for nodes: what is in use, wanted and possible.
    pub fn cache_budget(&self) -> CacheBudget {
        let cache = &self.core().forest.cache;
        let bytes = |frames: usize| (frames * cache.page_bytes()) as u64;
        CacheBudget {
            bytes: bytes(cache.present()),
            wanted: bytes(cache.frames()),
            most: bytes(cache.most()),
        }
    }

    /// What the store counted since it was opened; nothing in a forked child.
    pub fn stats(&self) -> Stats {
        if !self.core().is_home() {
            return Stats::default();
        }
        Stats::of(self.core())
    }

    /// Closes the store: waits for commits under way, makes a last checkpoint, and
    /// leaves nothing to replay. Other handles get [`Error::Closed`] from now on.
    ///
    /// # Errors
    /// [`Error::Stopped`] if a write failed, now or before; then the next open
    /// recovers. [`Error::Forked`]: nothing was done.
    pub fn close(self) -> Result<()> {
        self.inner.close()
    }
}

fn no_thread(e: std::io::Error) -> Error {
    Error::BadOption {
        name: "threads",
        detail: format!("cannot start a thread: {e}"),
    }
}

fn record_of(ops: &OpsBuilder, sync: bool) -> Record<'_> {
    Record {
        ops: ops.as_bytes(),
        count: ops.count(),
        check: record_check(ops.as_bytes()),
        names_extents: ops.names_extents(),
        sync,
    }
}

/// The claim of a commit; for each of its changes, whether it is a put.
fn claim_of<'a>(puts: impl IntoIterator<Item = bool>) -> Claim<'a> {
    if puts.into_iter().any(|put| put) {
        Claim::adding()
    } else {
        Claim::freeing()
    }
}

/// Large values of a commit that has not happened yet; given back if it does not.
struct Pieces<'a> {
    core: &'a Core,
    written: Vec<Vec<u8>>,
}

impl Drop for Pieces<'_> {
    fn drop(&mut self) {
        self.written.iter().for_each(|p| self.core.drop_extents(p));
    }
}

fn commit_ops(core: &Core, ops: &[BatchOp], durability: Durability) -> Result<Csn> {
    let block_size = core.forest.geometry.block_size;
    let mut bytes = 0;
    for op in ops {
        check_key(&op.key)?;
        let len = op.value.as_ref().map_or(0, Vec::len);
        check_value(len)?;
        let stored = if len > max_inline(block_size, op.key.len()) {
            16 * ExtentPtr::SIZE
        } else {
            len
        };
        bytes += OpsBuilder::size_of(op.key.len(), stored);
    }
    let max = core.log().max_record();
    if bytes > max {
        return Err(Error::BatchTooLarge { len: bytes, max });
    }
    core.throttle
        .pass(core, ops.iter().all(|op| op.value.is_none()));
    let worker = core.forest.workers.mine()?;
    let _busy = worker.begin_commit(core)?;

    // Lives longer than the pieces: who comes next in the lane finds their space.
    let mut claim = claim_of(ops.iter().map(|op| op.value.is_some()));
    let mut pieces = Pieces {
        core,
        written: Vec::new(),
    };
    let mut large = Vec::new();
    for op in ops {
        let value = op.value.as_deref().unwrap_or(&[]);
        let inline = value.len() <= max_inline(block_size, op.key.len());
        large.push((!inline).then_some(pieces.written.len()));
        if !inline {
            pieces
                .written
                .push(core.write_extents(&worker, &mut claim, value)?);
        }
    }
    let mut encoded = OpsBuilder::new();
    let mut changes = Vec::with_capacity(ops.len());
    for (op, large) in ops.iter().zip(&large) {
        let value = match (large, &op.value) {
            (Some(i), _) => {
                let stored = &pieces.written[*i];
                let list: Vec<ExtentPtr> = crate::commit::extents(stored).collect();
                encoded.put_extents(op.tree.id, &op.key, &list)?;
                Some((KIND_EXTENT, stored.as_slice()))
            }
            (None, Some(value)) => {
                encoded.put(op.tree.id, &op.key, value)?;
                Some((KIND_VALUE, value.as_slice()))
            }
            (None, None) => {
                encoded.delete(op.tree.id, &op.key)?;
                None
            }
        };
        changes.push(Change {
            tree: &op.tree,
            key: &op.key,
            value,
        });
    }
    let sync = durability == Durability::Sync;
    let record = record_of(&encoded, sync);
    let (made, claim) = core.make(&worker, &changes, Stamp::Append(&record), claim);
    drop(changes);
    let csn = match made {
        Ok(csn) => csn,
        Err(e) => {
            drop(pieces);
            return Err(e);
        }
    };
    pieces.written.clear();
    drop(claim);
    finish(core, &worker, csn, durability)
}

fn finish(core: &Core, worker: &Worker, csn: Csn, durability: Durability) -> Result<Csn> {
    if durability == Durability::Sync {
        worker
            .counters
            .waiting(Wait::Durable, || core.log().wait_durable(csn))?;
    }
    Ok(csn)
}

impl Inner {
    fn close(&self) -> Result<()> {
        let core = &self.core;
        core.check_home()?;
        let _one = self.closing.lock();
        core.refuse_commits();
        let mut result = Ok(());
        if let Some(ended) = self.end_checkpointer() {
            let stopped = core.progress().stopped();
            let Ok(mut c) = ended else {
                let why = stopped.unwrap_or_else(|| "the checkpointer panicked".into());
                return Err(Error::Stopped(why));
            };
            result = match stopped {
                Some(why) => Err(Error::Stopped(why)),
                None => {
                    core.empty_stashes();
                    c.close(core)
                }
            };
            if let Err(e) = &result {
                core.fail(e);
                result = Err(core.stopped_error());
            }
            core.forest.unpin();
        }
        self.end_evictor();
        if let Some(log) = core.log_if_started() {
            let ended = log.shutdown().map(|_| ());
            result = result.and(ended);
        }
        core.progress().stop("the store was closed");
        core.forest.pool.allocator().shutdown();
        result
    }

    /// Ends the checkpointer thread; `None` if there is none any more.
    fn end_checkpointer(&self) -> Option<std::thread::Result<Checkpointer>> {
        let handle = self.checkpointer.lock().take()?;
        self.core.closing.store(true, Ordering::Release);
        self.core.progress().ask();
        Some(handle.join())
    }

    /// Ends the evictor, and lets go of the workers' queues, which hold the device.
    fn end_evictor(&self) {
        self.core.closing.store(true, Ordering::Release);
        self.core.forest.cache.ask_for_frames();
        if let Some(handle) = self.evictor.lock().take() {
            let _ = handle.join();
        }
        for w in self.core.forest.workers.all() {
            *w.queue.lock() = None;
        }
    }
}

impl Drop for Inner {
    /// Ends the threads without a checkpoint: what was committed is in the log, and
    /// the next open replays it.
    fn drop(&mut self) {
        if !self.core.is_home() {
            // A forked child has none of the threads, and locks may be held for ever
            // there: all of it is left as it is, nothing is sent, awaited or unlocked.
            std::mem::forget(self.core.clone());
            if let Some(evictor) = self.evictor.get_mut().take() {
                evictor.forget();
            }
            if let Some(checkpointer) = self.checkpointer.get_mut().take() {
                checkpointer.forget();
            }
            return;
        }
        self.core.refuse_commits();
        drop(self.end_checkpointer());
        self.end_evictor();
        if let Some(log) = self.core.log_if_started() {
            let _ = log.shutdown();
        }
        self.core.forest.pool.allocator().shutdown();
    }
}

/// A named, ordered map from keys to values. Cheap to clone.
///
/// Keys have up to [`MAX_KEY`](crate::MAX_KEY) bytes, values up to
/// [`MAX_VALUE`](crate::MAX_VALUE), and sort bytewise.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("tree.store");
/// # let format = gaur::FormatOptions { create_size: Some(64 << 20), ..Default::default() };
/// # gaur::Store::format(&path, &format).unwrap();
/// # let store = gaur::Store::open(&path, &gaur::OpenOptions::default()).unwrap();
/// let tree = store.tree("words")?;
/// for word in ["ant", "bee", "beetle", "cat"] {
///     tree.put_with(word.as_bytes(), b"", gaur::Durability::Buffered)?;
/// }
/// let bees: Vec<_> = tree.prefix(b"bee")?.collect::<Result<_, _>>()?;
/// assert_eq!(bees.len(), 2);
/// let last = tree.iter()?.rev().next().unwrap()?;
/// assert_eq!(last.0, b"cat");
/// # Ok::<(), gaur::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Tree {
    inner: Arc<Inner>,
    state: Arc<TreeState>,
}

impl Tree {
    pub(crate) fn state(&self) -> &Arc<TreeState> {
        &self.state
    }

    /// The tree's name.
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// The value of `key`, if it is there.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Damaged`] for this read alone,
    /// [`Error::KeyTooLong`], [`Error::Closed`], [`Error::Forked`].
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let worker = self.reading(key)?;
        self.inner.core.get(&worker, &self.state, key)
    }

    /// Whether `key` is there.
    ///
    /// # Errors
    /// As [`Tree::get`].
    pub fn contains(&self, key: &[u8]) -> Result<bool> {
        let worker = self.reading(key)?;
        self.inner.core.contains(&worker, &self.state, key)
    }

    fn reading(&self, key: &[u8]) -> Result<Arc<Worker>> {
        check_key(key)?;
        self.inner.core.check_open()?;
        self.inner.core.forest.workers.mine()
    }

    /// Sets `key` to `value`, durably, and returns the commit.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn put(&self, key: &[u8], value: &[u8]) -> Result<Csn> {
        self.put_with(key, value, Durability::Sync)
    }

    /// Sets `key` to `value` and returns the commit.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn put_with(&self, key: &[u8], value: &[u8], durability: Durability) -> Result<Csn> {
        self.one(key, Some(value), durability)
    }

    /// Removes `key`, durably, whether it is there or not, and returns the commit.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn delete(&self, key: &[u8]) -> Result<Csn> {
        self.delete_with(key, Durability::Sync)
    }

    /// Removes `key` and returns the commit.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn delete_with(&self, key: &[u8], durability: Durability) -> Result<Csn> {
        self.one(key, None, durability)
    }

    fn one(&self, key: &[u8], value: Option<&[u8]>, durability: Durability) -> Result<Csn> {
        let core = &self.inner.core;
        core.check_writable()?;
        check_key(key)?;
        if let Some(v) = value
            && v.len() > max_inline(core.forest.geometry.block_size, key.len())
        {
            let op = BatchOp {
                tree: self.state.clone(),
                key: key.to_vec(),
                value: Some(v.to_vec()),
            };
            return commit_ops(core, &[op], durability);
        }
        core.throttle.pass(core, value.is_none());
        let worker = core.forest.workers.mine()?;
        let _busy = worker.begin_commit(core)?;
        let mut ops = OpsBuilder::new();
        match value {
            Some(v) => ops.put(self.state.id, key, v)?,
            None => ops.delete(self.state.id, key)?,
        }
        let record = record_of(&ops, durability == Durability::Sync);
        let change = Change {
            tree: &self.state,
            key,
            value: value.map(|v| (KIND_VALUE, v)),
        };
        let claim = claim_of([value.is_some()]);
        let (made, claim) = core.make(&worker, &[change], Stamp::Append(&record), claim);
        drop(claim);
        let csn = made?;
        finish(core, &worker, csn, durability)
    }

    /// The records with keys in `range`, in order.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Forked`], [`Error::TooManyThreads`].
    pub fn range(&self, range: impl RangeBounds<Vec<u8>>) -> Result<Scan> {
        self.inner.core.check_open()?;
        let lower = range.start_bound().cloned();
        let upper = range.end_bound().cloned();
        Scan::new(self.inner.core.clone(), self.state.clone(), lower, upper)
    }

    /// The records whose keys begin with `prefix`, in order.
    ///
    /// # Errors
    /// As [`Tree::range`].
    pub fn prefix(&self, prefix: &[u8]) -> Result<Scan> {
        let mut end = prefix.to_vec();
        while end.last() == Some(&0xFF) {
            end.pop();
        }
        let upper = match end.last_mut() {
            Some(last) => {
                *last += 1;
                Bound::Excluded(end)
            }
            None => Bound::Unbounded,
        };
        self.range((Bound::Included(prefix.to_vec()), upper))
    }

    /// All records, in order.
    ///
    /// # Errors
    /// As [`Tree::range`].
    pub fn iter(&self) -> Result<Scan> {
        self.range(..)
    }
}
