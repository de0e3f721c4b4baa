//! A world lived through once, with all that a power cut would have left on the way.

use std::sync::Arc;

use gaur::{DiscardRate, Durability, Error, Store, Tree, TrimOptions, WriteBatch};
use gaur_iodriver::sim::{Cut, SimDisk};
use gaur_iodriver::sync::schedule::{self, End, Report};
use gaur_iodriver::sync::{thread, time::Duration};

use super::looked::{Looked, ReadSet};
use super::oracle::{Commit, Done, Expected, Whole};
use super::script::{Change, Script, Step, key, range, snapshot_name, tree_name};
use super::swarm::{Trouble, World};

/// What came of it.
#[derive(Debug)]
pub(crate) struct Lived {
    expected: Arc<Expected>,
    /// Until it was open.
    before: Arc<Expected>,
    opened: u64,
    pub(crate) cuts: Vec<Cut>,
    /// Writes and flushes until the store was formatted; those cuts may leave no store.
    /// `u64::MAX`: it never was.
    pub(crate) formatted: u64,
    pub(crate) torn: Torn,
    pub(crate) report: Report,
    /// The disk at the end.
    pub(crate) disk: SimDisk,
    pub(crate) commits: u64,
    pub(crate) full: u64,
    /// Why the store stopped, if a fault made it.
    pub(crate) stopped: Option<String>,
}

impl Lived {
    /// What a power cut at this write or flush may leave.
    pub(crate) fn expected(&self, event: u64) -> &Arc<Expected> {
        match event <= self.opened {
            true => &self.before,
            false => &self.expected,
        }
    }
}

/// When one superblock copy may be torn: by a write of it that failed, or by a failed
/// flush, until the next opening completes the pair.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Torn {
    /// It was at the beginning, up to this write or flush.
    until: u64,
    /// The write or flush that failed.
    from: u64,
}

impl Torn {
    fn of(cuts: &[Cut], from: &Beginning) -> Self {
        let event = |found: Option<&Cut>| found.map_or(u64::MAX, |c| c.event);
        let completed = |c: &&Cut| c.flush && c.site == "behind the superblocks";
        let failed = |c: &&Cut| c.fails && (c.flush || c.site.starts_with("superblock, "));
        Self {
            until: match from.torn {
                true => event(cuts.iter().find(completed)),
                false => 0,
            },
            from: event(cuts.iter().find(failed)),
        }
    }

    /// At a power cut at this write or flush.
    pub(crate) fn at(self, event: u64) -> bool {
        event <= self.until || event > self.from
    }
}

/// Where a world begins.
#[derive(Clone, Debug)]
pub(crate) struct Beginning {
    /// `None`: an empty disk.
    pub(crate) disk: Option<SimDisk>,
    /// What happened before, and the commit that the disk ends with.
    pub(crate) past: Arc<Expected>,
    pub(crate) csn: u64,
    /// One superblock copy may be torn.
    pub(crate) torn: bool,
}

impl Beginning {
    pub(crate) fn fresh() -> Self {
        Self {
            disk: None,
            past: Arc::new(Expected::empty()),
            csn: 0,
            torn: false,
        }
    }
}

/// What ended badly.
#[derive(Clone, Debug)]
pub(crate) struct Broken(pub(crate) String);

/// The end of a simulation, or why it is not what it should be.
pub(crate) fn outcome<T>(end: End<T>) -> Result<T, Broken> {
    let list = |all: Vec<schedule::Standing>| {
        let lines: Vec<String> = all.iter().map(|s| format!("  {s}")).collect();
        lines.join("\n")
    };
    match end {
        End::Done(value) => Ok(value),
        End::Panicked(message) => Err(Broken(format!("PANIC: {message}"))),
        End::Deadlock(all) => Err(Broken(format!("DEADLOCK:\n{}", list(all)))),
        End::TooLong(all) => Err(Broken(format!("NO END:\n{}", list(all)))),
    }
}

/// Lives through a world.
pub(crate) fn live(world: &World, from: &Beginning) -> Result<Lived, Broken> {
    let (disk, fresh) = match &from.disk {
        Some(disk) => (disk.snapshot(), false),
        None => (SimDisk::new(world.disk.clone()), true),
    };
    disk.record_cuts();
    let (own, w) = (disk.clone(), world.clone());
    let (end, report) = schedule::run(&world.plan, move || body(&own, &w, fresh));
    let (formatted, opened, all) = outcome(end)?.map_err(Broken)?;
    let commits = all.iter().map(|d| d.commits.len() as u64).sum();
    let full = all.iter().map(|d| d.full).sum();
    let stopped = all.iter().find_map(|d| d.stopped.clone());
    let looked: Vec<Looked> = all.iter().flat_map(|d| d.looked.clone()).collect();
    let read: Vec<ReadSet> = all.iter().flat_map(|d| d.read.clone()).collect();
    let expected = from.past.after(from.csn, all).map_err(Broken)?;
    if world.trouble != Trouble::Lying {
        let judge = |l: &Looked| l.judge(&expected);
        looked.iter().try_for_each(judge).map_err(Broken)?;
        let judge = |r: &ReadSet| r.judge(&expected);
        read.iter().try_for_each(judge).map_err(Broken)?;
    }
    let cuts = disk.take_cuts();
    Ok(Lived {
        expected: Arc::new(expected),
        before: Arc::new(from.past.beginning(from.csn)),
        opened,
        formatted,
        torn: Torn::of(&cuts, from),
        cuts,
        report,
        disk,
        commits,
        full,
        stopped,
    })
}

fn body(disk: &SimDisk, world: &World, fresh: bool) -> Result<(u64, u64, Vec<Done>), String> {
    world.faults.iter().for_each(|&f| disk.inject(f));
    let calm = matches!(world.trouble, Trouble::Calm | Trouble::Rough);
    if fresh {
        match Store::format_device(disk.device(), &world.format) {
            Ok(_) => {}
            Err(e) if calm => return Err(format!("format: {e}")),
            Err(_) => return Ok((u64::MAX, u64::MAX, Vec::new())),
        }
    }
    let formatted = if fresh { disk.stats().events } else { 0 };
    let store = match Store::open_device(disk.device(), &world.open) {
        Ok(store) => Arc::new(store),
        Err(e) if calm => return Err(format!("open: {e}")),
        Err(_) => return Ok((formatted, u64::MAX, Vec::new())),
    };
    let opened = disk.stats().events;
    let mut first = Actor::new(&store, disk, calm);
    for tree in 0..world.script.trees {
        if !first.create(tree)? {
            break;
        }
    }
    let script = Arc::new(world.script.clone());
    let mut threads = Vec::new();
    for n in 0..script.threads.len() {
        let mut actor = Actor::new(&store, disk, calm);
        let script = script.clone();
        let work = move || actor.run(&script, n).map(|()| actor.done);
        threads.push(thread::spawn("writer", work).map_err(|e| e.to_string())?);
    }
    let mut all = vec![std::mem::take(&mut first.done)];
    drop(first);
    for t in threads {
        match t.join() {
            Ok(done) => all.push(done?),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
    if calm {
        account(&store)?;
    }
    let last = all.iter().flat_map(|d| &d.commits).map(|c| c.csn).max();
    let store = Arc::into_inner(store).ok_or("a writer kept the store")?;
    if world.script.close {
        match store.close() {
            Ok(()) => disk.mark(last.unwrap_or(0)),
            Err(e) if calm => return Err(format!("close: {e}")),
            Err(_) => {}
        }
    }
    Ok((formatted, opened, all))
}

/// Where all blocks that writers took have gone, now that nobody writes.
fn account(store: &Store) -> Result<(), String> {
    let stats = store.stats();
    let get = |name| stats.get("reservations", name).unwrap_or(0);
    let taken = get("taken_from_channel") + get("taken_by_request");
    let gone = get("blocks_used") + get("blocks_returned") + get("blocks_stashed");
    match taken == gone {
        true => Ok(()),
        false => Err(format!(
            "RESERVATIONS: {taken} blocks taken, {gone} used, returned or kept"
        )),
    }
}

/// A change with its tree and key; no value: a delete.
type Named = (Tree, Vec<u8>, Option<Vec<u8>>);

/// One thread at work.
struct Actor {
    store: Arc<Store>,
    disk: SimDisk,
    /// No error is to be expected, but for a lack of space.
    calm: bool,
    trees: Vec<Option<Tree>>,
    done: Done,
}

impl Actor {
    fn new(store: &Arc<Store>, disk: &SimDisk, calm: bool) -> Self {
        Self {
            store: store.clone(),
            disk: disk.clone(),
            calm,
            trees: Vec::new(),
            done: Done::default(),
        }
    }

    fn run(&mut self, script: &Script, thread: usize) -> Result<(), String> {
        for step in &script.threads[thread] {
            let go_on = self.step(step).map_err(|e| format!("{step:?}: {e}"))?;
            if !go_on {
                break;
            }
        }
        // What the trees hold of the store.
        self.trees.clear();
        Ok(())
    }

    fn tree(&mut self, n: u8) -> Option<Tree> {
        let at = usize::from(n);
        if self.trees.len() <= at {
            self.trees.resize(at + 1, None);
        }
        if self.trees[at].is_none() {
            self.trees[at] = self.store.open_tree(&tree_name(n)).ok();
        }
        self.trees[at].clone()
    }

    /// Whether the store goes on.
    fn create(&mut self, tree: u8) -> Result<bool, String> {
        match self.store.create_tree(&tree_name(tree)) {
            Ok(_) => {
                self.done.wholes.push(Whole::Make(tree));
                Ok(true)
            }
            Err(Error::TreeExists(_)) => Ok(true),
            Err(Error::Full { .. }) => {
                self.done.full += 1;
                Ok(true)
            }
            Err(e) => {
                self.done.wholes.push(Whole::Make(tree));
                self.failed(&e)
            }
        }
    }

    /// A commit about whole trees; whether the store goes on.
    fn whole(&mut self, whole: Whole, result: Result<(), Error>) -> Result<bool, String> {
        // What was opened may be gone.
        self.trees.clear();
        match result {
            Ok(()) => {
                self.done.wholes.push(whole);
                Ok(true)
            }
            Err(Error::Full { .. } | Error::NoSuchTree(_)) => Ok(true),
            Err(e) => {
                self.done.wholes.push(whole);
                self.failed(&e)
            }
        }
    }

    /// An error that ends this thread, if one is to be expected.
    fn failed(&mut self, e: &Error) -> Result<bool, String> {
        let fits = match e {
            Error::OutcomeUnknown { .. } | Error::Stopped(_) | Error::Io(_) => !self.calm,
            // Where a disk lies, damage comes to light.
            Error::Damaged(_) => !self.calm,
            _ => false,
        };
        if !fits {
            return Err(e.to_string());
        }
        self.done.stopped.get_or_insert_with(|| e.to_string());
        Ok(false)
    }

    /// A call that says what is durable.
    fn told(&mut self, result: Result<u64, Error>) -> Result<bool, String> {
        match result {
            Ok(csn) => {
                schedule::note(csn);
                self.disk.mark(csn);
                Ok(true)
            }
            Err(e) => self.failed(&e),
        }
    }

    fn looked<T>(&mut self, result: Result<T, Error>) -> Result<bool, String> {
        match result {
            Ok(_) | Err(Error::ViewTooOld { .. }) => Ok(true),
            Err(e) => self.failed(&e),
        }
    }

    fn step(&mut self, step: &Step) -> Result<bool, String> {
        let last = self.done.commits.last().map_or(0, |c| c.csn);
        match step {
            Step::Commit {
                changes,
                sync,
                transaction,
            } => self.commit(changes, *sync, *transaction),
            Step::Checkpoint => {
                let result = self.store.checkpoint().map(|()| last);
                self.told(result)
            }
            Step::Flush => {
                let result = self.store.flush();
                self.told(result)
            }
            Step::WaitDurable => {
                let result = self.store.wait_durable(last).map(|()| last);
                self.told(result)
            }
            Step::Create(tree) => self.create(*tree),
            Step::Drop(tree) => {
                let dropped = self.store.drop_tree(&tree_name(*tree));
                self.whole(Whole::Drop(*tree), dropped)
            }
            Step::Snapshot(n) => match self.store.create_snapshot(&snapshot_name(*n)) {
                Err(Error::SnapshotExists(_) | Error::Full { .. }) => Ok(true),
                result => self.told(result.map(|s| s.csn())),
            },
            Step::Forget(n) => match self.store.delete_snapshot(&snapshot_name(*n)) {
                Err(Error::NoSuchSnapshot(_) | Error::SnapshotInUse { .. }) => Ok(true),
                result => self.told(result.map(|()| last)),
            },
            Step::Back(n) => match self.store.open_snapshot(&snapshot_name(*n)) {
                Err(Error::NoSuchSnapshot(_)) => Ok(true),
                Err(e) => self.failed(&e),
                Ok(snapshot) => {
                    let done = self.store.roll_back(&snapshot);
                    self.whole(Whole::Back(snapshot.csn()), done)
                }
            },
            Step::Trim => {
                let options = TrimOptions {
                    rate: DiscardRate::UNLIMITED,
                    dry_run: false,
                };
                let go_on = |_: &_| std::ops::ControlFlow::Continue(());
                match self.store.trim(&options, go_on) {
                    // Where the device cannot, or may not, it says so.
                    Err(Error::BadOption { .. }) => Ok(true),
                    Err(Error::Io(_)) => Ok(true),
                    result => self.looked(result),
                }
            }
            Step::Grow(bytes) => {
                let have = self.disk.device().geometry().capacity;
                if have + bytes <= 300 << 20 {
                    self.disk.set_capacity(have + bytes);
                }
                match self.store.grow(None) {
                    Ok(_) | Err(Error::CannotGrow { .. }) => Ok(true),
                    Err(e) => self.failed(&e),
                }
            }
            Step::Enlarge(bytes) => {
                let have = self.disk.device().geometry().capacity;
                match self.store.grow(Some(have + bytes)) {
                    Ok(_) | Err(Error::CannotGrow { .. }) => Ok(true),
                    Err(e) => self.failed(&e),
                }
            }
            Step::Cache(part) => {
                let bytes = self.store.cache_budget().most / 64 * part;
                match self.store.set_cache_bytes(bytes) {
                    Err(Error::BadOption { .. }) => Ok(true),
                    result => self.looked(result),
                }
            }
            Step::Scan(tree, most) => {
                let Some(opened) = self.tree(*tree) else {
                    return Ok(true);
                };
                let scan = match opened.iter() {
                    Ok(scan) => scan,
                    Err(e) => return self.failed(&e),
                };
                // One after the other, some the other way.
                let reverse = most % 3 == 0;
                match Looked::take(scan, *tree, reverse, *most as usize) {
                    Ok(looked) => {
                        self.done.looked.push(looked);
                        Ok(true)
                    }
                    Err(e) => self.looked(Err::<(), _>(e)),
                }
            }
            Step::Get(tree, n) => match self.tree(*tree) {
                None => Ok(true),
                Some(tree) => {
                    let result = tree.get(&key(*n));
                    self.looked(result)
                }
            },
            Step::Pause(us) => {
                thread::sleep(Duration::from_micros(*us));
                Ok(true)
            }
        }
    }

    /// Reads what it is about to change, and changes it.
    fn transaction(
        &mut self,
        changes: &[Change],
        all: &[Named],
        durability: Durability,
    ) -> Result<u64, Error> {
        let mut t = self.store.transaction()?;
        let mut set = ReadSet::default();
        for (change, (tree, key, value)) in changes.iter().zip(all) {
            let found = t.get(tree, key)?;
            let (Change::Put(in_tree, n, _) | Change::Delete(in_tree, n)) = *change else {
                unreachable!("a range is a commit by itself");
            };
            // Of a key that comes twice the second read is of its own write.
            if set.reads.iter().all(|r| (r.0, r.1) != (in_tree, n)) {
                set.reads.push((in_tree, n, found));
            }
            match value {
                Some(value) => t.put(tree, key, value)?,
                None => t.delete(tree, key)?,
            }
        }
        set.csn = t.commit(durability)?;
        let csn = set.csn;
        self.done.read.push(set);
        Ok(csn)
    }

    fn commit(
        &mut self,
        changes: &Arc<[Change]>,
        sync: bool,
        transaction: bool,
    ) -> Result<bool, String> {
        let durability = match sync {
            true => Durability::Sync,
            false => Durability::Buffered,
        };
        if let [Change::Range(t, a, b)] = **changes {
            let Some(tree) = self.tree(t) else {
                return Ok(true);
            };
            let result = tree.delete_range_with(range(a, b), durability);
            return self.committed(result, changes, sync, false);
        }
        let mut named: Vec<Named> = Vec::new();
        for change in changes.iter() {
            let (tree, n, value) = match change {
                Change::Put(t, n, value) => (t, n, Some(value.bytes())),
                Change::Delete(t, n) => (t, n, None),
                Change::Range(..) => unreachable!("a range is a commit by itself"),
            };
            let Some(tree) = self.tree(*tree) else {
                return Ok(true);
            };
            named.push((tree, key(*n), value));
        }
        let result = match &named[..] {
            all if transaction => self.transaction(changes, all, durability),
            [(tree, key, Some(value))] => tree.put_with(key, value, durability),
            [(tree, key, None)] => tree.delete_with(key, durability),
            all => {
                let mut batch = WriteBatch::new();
                for (tree, key, value) in all {
                    match value {
                        Some(value) => batch.put(tree, key, value),
                        None => batch.delete(tree, key),
                    };
                }
                self.store.commit(batch, durability)
            }
        };
        let adds = named.iter().any(|c| c.2.is_some());
        self.committed(result, changes, sync, adds)
    }

    /// What came of a commit; `adds`: it may be refused for want of space.
    fn committed(
        &mut self,
        result: Result<u64, Error>,
        changes: &Arc<[Change]>,
        sync: bool,
        adds: bool,
    ) -> Result<bool, String> {
        let known = |csn| Commit {
            csn,
            changes: changes.clone(),
        };
        match result {
            Ok(csn) => {
                schedule::note(csn);
                self.done.commits.push(known(csn));
                if sync {
                    self.disk.mark(csn);
                }
                Ok(true)
            }
            // Deletes always find room.
            Err(Error::Full { .. }) if adds => {
                self.done.full += 1;
                Ok(true)
            }
            // Others were faster: nothing happened.
            Err(e) if e.is_retryable() => Ok(true),
            // A batch too much for a tiny cache or log: nothing happened.
            Err(Error::BatchTooLarge { .. } | Error::BatchTooWide { .. }) => Ok(true),
            Err(e) => {
                if let Error::OutcomeUnknown { csn, .. } = e {
                    self.done.commits.push(known(csn));
                }
                self.failed(&e)
            }
        }
    }
}
