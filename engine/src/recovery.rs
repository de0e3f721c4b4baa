//! Opening: from the superblock to a store that takes commits.
//!
//! 1. Read the superblocks and take the newer. For writing: take a new incarnation
//!    and complete the pair, the copy that is behind first.
//! 2. Load the tree of trees and the map's index. Nothing else is read; the cost
//!    does not depend on the size of the store.
//! 3. Read the log once and mark the extents it names, so that nothing is put over
//!    them; then read it again and replay. The log region bounds both.
//! 4. Seal the log's end and go on behind it. Until then nothing was written but the
//!    superblocks, so a crash during recovery leaves what it found.
//!
//! Read-only, step 3 is another: the log's changes are held beside the trees
//! (`overlay`), under the same conditions.

use std::sync::Arc;

use gaur_iodriver::sync::thread;
use gaur_iodriver::sync::time::{Duration, now};
use gaur_iodriver::sync::within;
use gaur_iodriver::{Delayed, Device, IoBuf, fault};

use crate::alloc::{AllocConfig, Allocator, MapRoot};
use crate::cache::Cache;
use crate::commit::range::KeyRange;
use crate::commit::{Change, Stamp};
use crate::core::Core;
use crate::error::{Damage, Error, Result};
use crate::format::node::{KIND_EXTENT, KIND_VALUE};
use crate::format::pointer::ADDR_BITS;
use crate::format::superblock::{FLAG_CLEAN, FLAG_SPARSE, Superblock};
use crate::format::{BlockPtr, CATALOG, Csn, Geometry, Run, TreeId};
use crate::growth::Growth;
use crate::log::{History, LogHead, LogOp, LogPlace, LogReader, LogTail, Ops};
use crate::node::{Child, NodeBuf, load_image};
use crate::options::OpenOptions;
use crate::overlay::{self, Beside, Rules, bad_record};
use crate::pool::Pool;
use crate::saved::Origin;
use crate::shortage::Claim;
use crate::trace::span;
use crate::tree::{Forest, TreeState};
use crate::worker::Worker;
use crate::writeback::catalog::Contents;
use crate::writeback::checkpoint::reserve_catalog;
use crate::writeback::doomed::Doomed;
use crate::writeback::mend::Mend;
use crate::writeback::superblock::{read_pair, write_pair};

/// How often a commit is tried again with what was reclaimed. Each try may leave nodes
/// that are written and left again, so without a bound this might never end.
const RECLAIMS: u32 = 64;

/// What opening found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Whether the store had been closed cleanly.
    pub clean: bool,
    /// Commits replayed from the log.
    pub replayed: u64,
    /// The last commit there is.
    pub last_csn: Csn,
    /// Superblock copies that were damaged or behind, and why; completed unless
    /// the store was opened read-only.
    pub superblocks_behind: Vec<(u32, String)>,
    /// Nanoseconds that reading and replaying the log took.
    pub replay_nanos: u64,
    /// Operations in the replayed commits; read-only opens count them.
    pub operations: u64,
    /// Read-only: keys that the log changes, and about how many bytes of memory
    /// its changes take.
    pub changes: (u64, u64),
    /// Read-only with [`OpenOptions::salvage`]: the damage because of which part of
    /// the log or of the tree of trees is not seen.
    pub left_out: Vec<Damage>,
}

/// A store on its way to being open.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) core: Arc<Core>,
    pub(crate) superblock: Superblock,
    pub(crate) catalog: Vec<Run>,
    /// Blocks that the first checkpoint needs, taken before replay takes any.
    pub(crate) spare: Vec<Run>,
    /// What is left of dropped trees.
    pub(crate) doomed: Vec<Doomed>,
    pub(crate) report: RecoveryReport,
}

/// Steps 1 and 2.
pub(crate) fn begin(device: Arc<dyn Device>, name: &str, o: &OpenOptions) -> Result<Opening> {
    let _site = within("recovery");
    o.check()?;
    let pair = read_pair(device.as_ref(), name, !o.read_only)?;
    let mut sb = pair.newest;
    let geometry = geometry_of(&sb, device.as_ref())?;
    let clean = sb.flags & FLAG_CLEAN != 0;
    sb.incarnation += u32::from(!fault!(IncarnationNotTaken));
    if !o.read_only || fault!(ReadOnlyWrites) {
        sb.flags &= !FLAG_CLEAN;
        let first = pair.behind.first().map_or(0, |b| b.0);
        let flush = || Ok(device.flush()?);
        write_pair(device.as_ref(), &geometry, &sb, first, &flush)?;
    }

    let mut alloc_config = AllocConfig::new(geometry, sb.store_id);
    alloc_config.discard = o.discard && !o.read_only;
    alloc_config.discard_rate = o.discard_rate;
    // A preallocated file keeps its space.
    alloc_config.may_discard = device.geometry().is_block_device || sb.flags & FLAG_SPARSE != 0;
    alloc_config.map_memory = o.map_memory;
    alloc_config.spread = o.allocator_spread;
    #[cfg(feature = "experiment-cow")]
    {
        alloc_config.experiment = o.experiment;
    }
    let alloc_device = match o.allocator_delay {
        Some(delay) => Delayed::new(device.clone(), delay),
        None => device.clone(),
    };
    let alloc = Arc::new(Allocator::start(
        &alloc_device,
        MapRoot::of(&sb),
        alloc_config,
    )?);
    let frames = |bytes: u64| (bytes / u64::from(sb.block_size)) as usize;
    let most = frames(o.most_cache_bytes());
    let cache = Cache::new(frames(o.cache_bytes), most, sb.block_size as usize)?;
    let mut forest = Forest::new(
        device,
        geometry,
        &sb,
        cache,
        Pool::new(
            alloc,
            #[cfg(feature = "experiment-cow")]
            o.experiment.mode,
        ),
        Mend::new(sb),
    );
    forest.growth = Growth::new(o, sb.flags & FLAG_SPARSE != 0);
    let core = Core::new(forest, sb.cut, sb.next_tree, o);

    let mut contents = Contents::default();
    let mut catalog = Vec::new();
    let mut left_out = o.salvage.then(Vec::new);
    if !sb.catalog().is_null() {
        let reader = CatalogReader {
            device: core.forest.device.as_ref(),
            geometry,
            store: sb.store_id as u64,
        };
        reader.read(
            sb.catalog(),
            sb.catalog_level as u8,
            &mut contents,
            &mut catalog,
            &mut left_out,
        )?;
    }
    contents.place_held(&sb)?;
    core.shelf.lock().open(&contents);
    for e in contents.trees {
        let root = Child {
            ptr: e.root,
            hint: 0,
        };
        let tree = TreeState::new(e.id, &e.name, root, e.large).begun_as(e.origin);
        core.trees.lock().insert(Arc::new(tree));
    }
    core.reclaiming.begin(contents.doomed.len());
    let report = RecoveryReport {
        clean,
        superblocks_behind: pair.behind,
        left_out: left_out.unwrap_or_default(),
        ..RecoveryReport::default()
    };
    Ok(Opening {
        core: Arc::new(core),
        superblock: sb,
        catalog,
        spare: Vec::new(),
        doomed: contents.doomed,
        report,
    })
}

/// The store's geometry, checked against the device.
pub(crate) fn geometry_of(sb: &Superblock, device: &dyn Device) -> Result<Geometry> {
    let geometry = Geometry {
        block_size: sb.block_size,
        capacity: sb.capacity,
        log_blocks: sb.log_blocks,
    };
    let cannot = |detail: &str| Err(Damage::new("superblock", 0, detail).into());
    if sb.capacity >> ADDR_BITS != 0 || sb.capacity == 0 {
        return cannot("has a capacity or log length that cannot be");
    }
    if sb.map_slot > 1 || sb.map_untouched > 1 || sb.catalog_level > u32::from(u8::MAX) {
        return cannot("has a slot or level that cannot be");
    }
    // Counters from which one more is taken: no store comes near these.
    let far = |n: u64| n >= 1 << 62;
    if far(sb.cut) || far(sb.log_head) || far(sb.log_durable) || sb.incarnation == u32::MAX {
        return cannot("has a commit, log position or incarnation that cannot be");
    }
    if sb.generation().incarnation() > sb.incarnation || sb.map_generation > sb.generation {
        return cannot("has a generation that cannot be");
    }
    let need = geometry.byte(sb.capacity);
    let have = device.geometry().capacity;
    if need > have {
        return Err(Error::Shrunk { need, have });
    }
    if !geometry.can_be() {
        return cannot("has a capacity or log length that cannot be");
    }
    Ok(geometry)
}

/// Reads the tree of trees, without a cache.
pub(crate) struct CatalogReader<'a> {
    pub(crate) device: &'a dyn Device,
    pub(crate) geometry: Geometry,
    pub(crate) store: u64,
}

impl CatalogReader<'_> {
    /// Collects what is below `ptr`, and the blocks they lie in. What is damaged
    /// is an error, or, if there is a list for it, noted there and left out.
    pub(crate) fn read(
        &self,
        ptr: BlockPtr,
        level: u8,
        contents: &mut Contents,
        blocks: &mut Vec<Run>,
        left_out: &mut Option<Vec<Damage>>,
    ) -> Result<()> {
        match (self.node(ptr, level, contents, blocks, left_out), left_out) {
            (Err(Error::Damaged(damage)), Some(list)) => list.push(damage),
            (Err(Error::Io(e)), Some(list)) => {
                let damage = Damage::new("node", ptr.addr, e.to_string());
                list.push(damage.in_tree(CATALOG));
            }
            (done, _) => done?,
        }
        Ok(())
    }

    fn node(
        &self,
        ptr: BlockPtr,
        level: u8,
        contents: &mut Contents,
        blocks: &mut Vec<Run>,
        left_out: &mut Option<Vec<Damage>>,
    ) -> Result<()> {
        let out = |what| Damage::new("node pointer", ptr.addr, what).in_tree(CATALOG);
        if ptr.len != 1 || ptr.flags != 0 || !self.geometry.is_data(ptr.run()) {
            return Err(out("points outside the data area").into());
        }
        let mut buf = IoBuf::zeroed(self.geometry.block_size as usize);
        self.device
            .read_at(self.geometry.byte(ptr.addr), &mut buf)?;
        let node = NodeBuf::new(buf.len() / 8);
        let page = node.page();
        load_image(&buf, ptr, self.store, Some(CATALOG), Some(level), page)?;
        blocks.push(ptr.run());
        for i in 0..page.slots() {
            if level > 0 {
                self.read(page.child(i).ptr, level - 1, contents, blocks, left_out)?;
            } else {
                let mut value = Vec::new();
                page.copy_value(i, &mut value);
                contents.add(&page.key(i), &value, ptr.addr)?;
            }
        }
        Ok(())
    }
}

/// A reader of the log behind the checkpoint of `sb`.
pub(crate) fn log_reader(device: &Arc<dyn Device>, sb: &Superblock) -> Result<LogReader> {
    LogReader::new(
        device.clone(),
        Geometry {
            block_size: sb.block_size,
            capacity: sb.capacity,
            log_blocks: sb.log_blocks,
        },
        sb.store_id,
        head_of(sb),
        sb.cut,
        sb.log_durable,
    )
}

pub(crate) fn head_of(sb: &Superblock) -> LogHead {
    LogHead {
        position: sb.log_head,
        chain: sb.log_chain,
    }
}

/// Where the log begins that is to be replayed.
pub(crate) fn first_place(sb: &Superblock) -> LogPlace {
    LogPlace {
        position: sb.log_head,
        chain: sb.log_chain,
        next_csn: sb.cut + 1,
    }
}

/// A reader of the log behind what was opened.
fn open_log(opening: &Opening) -> Result<LogReader> {
    let reader = log_reader(&opening.core.forest.device, &opening.superblock)?;
    Ok(if opening.report.clean {
        reader.closed_cleanly()
    } else {
        reader
    })
}

/// The conditions for replaying, with the trees there are.
fn rules_of(core: &Core) -> Rules {
    let trees = core.trees.lock().all();
    let names: Vec<_> = trees.iter().map(|t| (t.id, t.name())).collect();
    let trees = names.iter().map(|(id, name)| (*id, &**name));
    Rules::new(core.forest.geometry.now(), trees, core.shelf.lock().kept())
}

/// Step 3 of a read-only open.
pub(crate) fn replay_beside(opening: &mut Opening, o: &OpenOptions) -> Result<()> {
    let begun = now();
    let core = opening.core.clone();
    let how = Beside {
        memory: o.replay_memory,
        salvage: o.salvage,
        unknown_trees: !opening.report.left_out.is_empty(),
    };
    let cut = opening.superblock.cut;
    let mut reader = open_log(opening)?;
    let added = overlay::read(&mut reader, &mut rules_of(&core), cut, how)?;
    core.trees.lock().change(&added);
    core.note_numbers(added.created.iter().map(|c| c.0));
    for (.., from) in &added.created {
        let origin = from.map(|f| f.generation).unwrap_or_default();
        core.shelf.lock().depend(origin);
    }
    for csn in cut + 1..=added.last_csn {
        core.visible.applied(csn);
    }
    let report = &mut opening.report;
    report.replayed = added.commits;
    report.operations = added.ops;
    report.last_csn = added.last_csn;
    report.changes = added.overlay.size();
    report.left_out.extend(added.damage);
    if report.changes.0 > 0 {
        core.set_overlay(added.overlay);
    }
    let sb = &opening.superblock;
    let device = core.forest.device.clone();
    let history = History::of_closed(device, core.forest.geometry.now(), sb.store_id)?;
    history.note(first_place(sb));
    core.set_read_only_log((history, reader.position()));
    report.replay_nanos = begun.elapsed().as_nanos() as u64;
    Ok(())
}

/// Step 3. The evictor runs already.
pub(crate) fn replay(opening: &mut Opening) -> Result<LogTail> {
    let _site = within("replay");
    let _span = span!("replay", opening.core.forest.store);
    let begun = now();
    let core = &opening.core;
    let block_size = core.forest.geometry.block_size;

    let mut rules = rules_of(core);
    let mut named = Vec::new();
    let mut reader = open_log(opening)?;
    while let Some(record) = reader.next_record()? {
        for op in Ops::new(record.ops) {
            let op = op.map_err(|e| bad_record(record.csn, e))?;
            rules.check(&op).map_err(|e| bad_record(record.csn, &e))?;
            match op {
                LogOp::PutExtent { extents, .. } => {
                    named.extend(extents.iter().map(|e| e.run(block_size)));
                }
                LogOp::LoadTree { runs, .. } => named.extend(runs.iter()),
                _ => {}
            }
        }
    }
    if !named.is_empty() && !fault!(ExtentsNotMarked) {
        core.forest.pool.allocator().mark_used(named)?;
    }

    // If there is no space for it, the log may free some.
    let hint = opening.superblock.catalog_addr;
    let _ = reserve_catalog(core, &mut opening.spare, hint, opening.doomed.len());

    let worker = core.forest.workers.mine()?;
    let mut replayed = 0;
    let mut reader = open_log(opening)?;
    while let Some(record) = reader.next_record()? {
        replay_record(core, &worker, record.csn, record.ops)?;
        replayed += 1;
    }
    let tail = reader.tail().expect("the log was read to its end");
    opening.report.replayed = replayed;
    opening.report.last_csn = tail.last_csn;
    opening.report.replay_nanos = begun.elapsed().as_nanos() as u64;
    Ok(tail)
}

/// Gives back the blocks of nodes that replay made and left again: of a small cache
/// nodes are written early, and each that changes once more gets another block.
/// While a store runs these come back with a checkpoint. Here there is none, but
/// nobody reads beside the replay, and no superblock names them: they are free as
/// soon as nothing is on its way to them. Returns how many blocks that were.
fn reclaim(core: &Core, worker: &Worker) -> usize {
    let passed = worker.journal.lock().take_passed();
    // Nobody else writes meanwhile, so the evictor finds frames enough and ends.
    while core.evicting.in_flight.count(core.forest.running()) > 0
        && core.progress().stopped().is_none()
    {
        thread::sleep(Duration::from_micros(50));
    }
    let blocks = passed.len();
    core.forest.pool.allocator().give_back(passed);
    blocks
}

fn replay_record(core: &Core, worker: &Worker, csn: Csn, ops: &[u8]) -> Result<()> {
    let mut trees: Vec<Arc<TreeState>> = Vec::new();
    let mut items = Vec::new();
    let tree = |id: TreeId| {
        core.trees
            .lock()
            .numbered(id)
            .ok_or_else(|| bad_record(csn, &format!("names tree {id}, which there is not")))
    };
    for op in Ops::new(ops) {
        match op.map_err(|e| bad_record(csn, e))? {
            LogOp::CreateTree {
                tree: id,
                name,
                options,
            } => {
                let name = std::str::from_utf8(name)
                    .map_err(|_| bad_record(csn, "a tree's name is not UTF-8"))?;
                let from = Origin::decode(options).map_err(|why| bad_record(csn, why))?;
                core.add_tree(id, name, from);
            }
            LogOp::DropTree { tree: id, .. } => {
                let tree = tree(id)?;
                core.trees.lock().drop_tree(&tree, csn);
                core.reclaiming.begin(1);
            }
            LogOp::LoadTree {
                tree: id,
                name,
                root,
                runs,
            } => {
                let name = std::str::from_utf8(name)
                    .map_err(|_| bad_record(csn, "a tree's name is not UTF-8"))?;
                core.add_tree(id, name, Some(Origin::loaded(root)));
                worker.journal.lock().loaded.extend(runs.iter());
            }
            LogOp::RenameTree { tree: id, name } => {
                let name = std::str::from_utf8(name)
                    .map_err(|_| bad_record(csn, "a tree's name is not UTF-8"))?;
                let tree = tree(id)?;
                core.trees.lock().rename(&tree, name);
            }
            LogOp::Put {
                tree: id,
                key,
                value,
            } => {
                trees.push(tree(id)?);
                items.push((key, Some((KIND_VALUE, value))));
            }
            LogOp::PutExtent {
                tree: id,
                key,
                extents,
            } => {
                trees.push(tree(id)?);
                items.push((key, Some((KIND_EXTENT, extents.as_bytes()))));
            }
            LogOp::DeleteRange {
                tree: id,
                lower,
                upper,
            } => {
                let (tree, range) = (tree(id)?, KeyRange { lower, upper });
                return replay_until_there_is_space(core, worker, |claim| {
                    core.delete_range(worker, &tree, range, Stamp::Replay(csn), claim)
                        .0
                });
            }
            LogOp::Delete { tree: id, key } => {
                trees.push(tree(id)?);
                items.push((key, None));
            }
        }
    }
    let changes: Vec<Change<'_>> = trees
        .iter()
        .zip(items)
        .map(|(tree, (key, value))| Change { tree, key, value })
        .collect();
    if changes.is_empty() {
        core.visible.applied(csn);
    } else {
        replay_until_there_is_space(core, worker, |claim| {
            core.make(worker, &changes, Stamp::Replay(csn), claim).0
        })?;
    }
    Ok(())
}

/// Makes a commit again, as often as that frees what it needs.
fn replay_until_there_is_space<'a>(
    core: &'a Core,
    worker: &Worker,
    mut make: impl FnMut(Claim<'a>) -> Result<Csn>,
) -> Result<()> {
    let mut tries = 0;
    loop {
        match make(Claim::replaying()) {
            Ok(_) => return Ok(()),
            Err(Error::Full { .. }) if tries < RECLAIMS && reclaim(core, worker) > 0 => {
                tries += 1;
            }
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
mod tests;
