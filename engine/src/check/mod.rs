//! Checking a store: everything that is durable is read, verified and accounted
//! for. Nothing is written.
//!
//! The order: both superblock copies; the index of the space map; the tree of trees
//! and every tree, node by node; every large value; the log behind the checkpoint;
//! at last each group's map block beside what was reached in it.
//!
//! That is the store as it lies there. What recovery would leave is verified on the
//! way (`recovered`): the log's changes are read first, and compared with the leaves.
//!
//! A problem ends nothing but what lies below it: a damaged node costs its subtree,
//! a damaged map block the account of its group, and the rest is still checked.
//! Memory: a bitmap for each group in use (4 KiB for 126 MiB of the device, twice
//! where there are large values), reads in flight, and what the log changes.

mod account;
mod ledger;
mod loaded;
mod log;
mod pieces;
mod recovered;
mod report;
mod saved;
mod trees;

use std::path::Path;
use std::sync::Arc;

use gaur_iodriver::sync::time::now;
use gaur_iodriver::{Device, DriverChoice};

use crate::alloc::MapView;
use crate::error::{Damage, Result};
use crate::format::superblock::{FLAG_CLEAN, Superblock};
use crate::format::{CATALOG, Generation, Geometry, TreeId};
use crate::recovery::geometry_of;
use crate::walk::Walker;
use crate::writeback::superblock::{Pair, facts, read_pair};

use self::ledger::Ledger;
use self::pieces::Pieces;
use self::recovered::Recovered;
pub use self::report::{
    Blocks, CheckReport, LogFacts, Problem, RecoveredTree, RecoveryFacts, SnapshotFacts,
    SuperblockFacts, TreeFacts,
};
pub(crate) use self::trees::brief;

/// How to check. `Default` suits most.
#[derive(Clone)]
pub struct CheckOptions {
    /// Whether to read large values and verify them. Without it only their places
    /// are accounted for.
    pub values: bool,
    /// Which driver to use.
    pub driver: DriverChoice,
    /// Reads in flight; at least 1.
    pub depth: u32,
    /// Problems kept in the report; further ones are only counted.
    pub max_problems: usize,
    /// The most memory, in bytes, for what the log of a store that was not closed
    /// changes; above it, the state that recovery would leave is not verified.
    pub replay_memory: u64,
    /// Is called now and then, from the checking thread.
    pub progress: Option<ProgressFn>,
}

/// Called with how far a check is.
pub type ProgressFn = Arc<dyn Fn(&CheckProgress) + Send + Sync>;

/// How far a check is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckProgress {
    /// `trees`, `large values`, `log` or `map`.
    pub phase: &'static str,
    /// Blocks that were reached so far.
    pub reached: u64,
    /// Blocks that the map says are in use, metadata and log left out.
    pub expected: u64,
}

impl Default for CheckOptions {
    fn default() -> Self {
        Self {
            values: true,
            driver: DriverChoice::Auto,
            depth: 64,
            max_problems: 1000,
            replay_memory: crate::options::REPLAY_MEMORY,
            progress: None,
        }
    }
}

impl std::fmt::Debug for CheckOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CheckOptions")
            .field("values", &self.values)
            .field("driver", &self.driver)
            .field("depth", &self.depth)
            .field("max_problems", &self.max_problems)
            .field("replay_memory", &self.replay_memory)
            .finish_non_exhaustive()
    }
}

/// Checks the store at `path`, which is opened read-only. Damage is in the report;
/// only what makes checking impossible is an error.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("check.store");
/// # let format = gaur::FormatOptions { create_size: Some(64 << 20), ..Default::default() };
/// # gaur::Store::format(&path, &format).unwrap();
/// let report = gaur::check(&path, &gaur::CheckOptions::default())?;
/// assert!(report.clean, "{:?}", report.problems);
/// # Ok::<(), gaur::Error>(())
/// ```
///
/// # Errors
/// [`Error::NotAStore`](crate::Error::NotAStore),
/// [`Error::UnknownFormat`](crate::Error::UnknownFormat),
/// [`Error::Damaged`](crate::Error::Damaged) if neither superblock verifies or they
/// contradict the device, [`Error::Io`](crate::Error::Io) if it cannot be opened or
/// read at all, or somebody has it open for writing.
pub fn check(path: impl AsRef<Path>, options: &CheckOptions) -> Result<CheckReport> {
    let opened = gaur_iodriver::open(
        path.as_ref(),
        &gaur_iodriver::OpenOptions {
            read_only: true,
            driver: options.driver,
            ..Default::default()
        },
    )?;
    let mut report = run(&opened.device, &opened.name, options)?;
    report.notes.extend(opened.notes);
    Ok(report)
}

/// [`check()`] on a device that is open already. Nobody may write to it meanwhile.
///
/// # Errors
/// As [`check()`].
pub fn check_device(device: Arc<dyn Device>, options: &CheckOptions) -> Result<CheckReport> {
    run(&device, "device", options)
}

fn run(device: &Arc<dyn Device>, name: &str, options: &CheckOptions) -> Result<CheckReport> {
    let begun = now();
    let read_before = device.counters().read_bytes;
    let pair = read_pair(device.as_ref(), name, false)?;
    let sb = pair.newest;
    let geometry = geometry_of(&sb, device.as_ref())?;
    let mut checker = Checker {
        device: device.clone(),
        geometry,
        sb,
        options,
        report: CheckReport {
            superblock: sb,
            ..CheckReport::default()
        },
        ledger: Ledger::new(geometry),
        pieces: Pieces::new(device.as_ref(), geometry, options)?,
        reached: 0,
        told: 0,
        damaged_nodes: 0,
        snapshots: Vec::new(),
        recovered: Recovered::default(),
        loaded: Default::default(),
    };
    checker.superblocks(&pair);
    let map = MapView::read(device.as_ref(), geometry, &sb)?;
    checker.map_index(&map);
    let mut walker = Walker::new(device.as_ref(), geometry, &sb, options.depth)?;
    checker.add_tree(CATALOG, trees::CATALOG_NAME.to_owned(), false);
    let mut contents = walker.catalog(&sb, &mut checker)?;
    if let Err(damage) = contents.place_held(&sb) {
        checker.problem(damage);
        contents.held.retain(|h| !h.catalog.is_null());
    }
    let kept = contents.held.iter().filter(|h| !h.deleted);
    checker.snapshots = kept.map(|h| h.generation).collect();
    let entries = &contents.trees;
    checker.catalog(&contents);
    checker.read_changes(entries)?;
    walker.walk(Walker::roots(&sb, &contents), &mut checker)?;
    checker.held(&contents, &mut walker)?;
    checker.verify_pieces()?;
    checker.log(entries)?;
    checker.judge_recovery(entries);
    checker.account(&map)?;
    let mut report = checker.report;
    report.clean = report.problem_count() == 0;
    report.bytes_read = device.counters().read_bytes.saturating_sub(read_before);
    report.nanos = begun.elapsed().as_nanos() as u64;
    Ok(report)
}

/// A check under way.
#[derive(Debug)]
struct Checker<'a> {
    device: Arc<dyn Device>,
    geometry: Geometry,
    sb: Superblock,
    options: &'a CheckOptions,
    report: CheckReport,
    ledger: Ledger,
    pieces: Pieces,
    /// Blocks reached, and how many of them the progress was told of.
    reached: u64,
    told: u64,
    damaged_nodes: u64,
    /// Generations of the snapshots.
    snapshots: Vec<Generation>,
    recovered: Recovered,
    /// Records in trees that the log loads.
    loaded: std::collections::BTreeMap<TreeId, u64>,
}

/// Blocks between two calls of the progress function.
const STEP: u64 = 1024;

impl Checker<'_> {
    fn problem(&mut self, damage: Damage) {
        if self.report.problems.len() >= self.options.max_problems {
            self.report.problems_left_out += 1;
            return;
        }
        let tree = damage.tree.map(|id| (id, self.name_of(id)));
        self.report.problems.push(Problem {
            what: damage.what,
            place: damage.place,
            tree,
            detail: damage.detail,
        });
    }

    fn note(&mut self, note: impl Into<String>) {
        self.report.notes.push(note.into());
    }

    fn name_of(&self, id: TreeId) -> String {
        let tree = self.report.trees.iter().find(|t| t.id == id);
        tree.map_or_else(String::new, |t| t.name.clone())
    }

    /// More blocks were reached.
    fn progress(&mut self, phase: &'static str, blocks: u64) {
        self.reached += blocks;
        let due = self.reached >= self.told + STEP || blocks == 0;
        if let Some(tell) = &self.options.progress
            && due
        {
            self.told = self.reached;
            let free = self.sb.map_free + self.sb.log_blocks + 3 * self.geometry.groups();
            tell(&CheckProgress {
                phase,
                reached: self.reached,
                expected: self.geometry.capacity.saturating_sub(free),
            });
        }
    }

    fn superblocks(&mut self, pair: &Pair) {
        self.report.superblocks = facts(self.device.as_ref(), pair);
        for f in self.report.superblocks.clone() {
            let (Some(why), decoded) = (f.behind, f.decoded) else {
                continue;
            };
            match decoded {
                None => self.problem(Damage::new("superblock", f.place, why)),
                Some(sb) if sb.store_id != self.sb.store_id => {
                    let detail = "the two copies are of different stores";
                    self.problem(Damage::new("superblock", f.place, detail));
                }
                Some(_) => self.note(format!(
                    "superblock copy {} is {why}; the next open for writing completes it",
                    f.copy
                )),
            }
        }
        if self.sb.flags & FLAG_CLEAN == 0 {
            self.note("the store was not closed; the next open replays the log");
        }
    }
}
