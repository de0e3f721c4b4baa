//! What a check found.

use crate::format::superblock::Superblock;
use crate::format::{BlockNo, Csn, Generation, Run, TreeId};
use crate::log::{LogHead, LogTail};

/// What [`check`](super::check()) found: plain data, to be printed or encoded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CheckReport {
    /// Whether nothing is wrong: there is no problem.
    pub clean: bool,
    /// What is wrong, in the order it was found; no more than
    /// [`CheckOptions::max_problems`](super::CheckOptions::max_problems).
    pub problems: Vec<Problem>,
    /// Problems beyond those in `problems`.
    pub problems_left_out: u64,
    /// Where every block is.
    pub blocks: Blocks,
    /// The tree of trees first, then the trees by name.
    pub trees: Vec<TreeFacts>,
    /// The named snapshots, the oldest first.
    pub snapshots: Vec<SnapshotFacts>,
    /// The log behind the checkpoint.
    pub log: LogFacts,
    /// What recovery would make of all that.
    pub recovery: RecoveryFacts,
    /// Both superblock copies.
    pub superblocks: Vec<SuperblockFacts>,
    /// The newer superblock, which everything was checked against.
    pub superblock: Superblock,
    /// What is worth knowing and no damage, in sentences.
    pub notes: Vec<String>,
    /// Bytes read.
    pub bytes_read: u64,
    /// Nanoseconds it took.
    pub nanos: u64,
}

impl CheckReport {
    /// All problems, those left out included.
    pub fn problem_count(&self) -> u64 {
        self.problems.len() as u64 + self.problems_left_out
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong: `node`, `large value`, `map block`, `map index`, `log block`,
    /// `superblock`, `catalog entry`, `node pointer`, `space` …
    pub what: &'static str,
    /// Its block number.
    pub place: BlockNo,
    /// The tree it belongs to, where there is one, and its name.
    pub tree: Option<(TreeId, String)>,
    /// What is wrong with it.
    pub detail: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at block {}", self.what, self.place)?;
        if let Some((id, name)) = &self.tree {
            write!(f, " of tree {name:?} ({id})")?;
        }
        write!(f, ": {}", self.detail)
    }
}

/// Every block of the store, by what it is, in the checkpointed state: `metadata +
/// log + nodes + extents + kept + free + unaccounted + unknown = total`. What was handed
/// out since the checkpoint is free in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Blocks {
    /// All blocks.
    pub total: u64,
    /// Superblocks, map and index blocks, and what is kept free for them.
    pub metadata: u64,
    /// The log region.
    pub log: u64,
    /// Nodes that a tree reaches, the tree of trees included.
    pub nodes: u64,
    /// Blocks of large values that a tree reaches.
    pub extents: u64,
    /// Blocks that named snapshots have, and no tree.
    pub kept: u64,
    /// Free in the map, and nothing reaches them.
    pub free: u64,
    /// In use in the map, and nothing reaches them.
    pub unaccounted: u64,
    /// Nothing reaches them, and the map of their group is damaged.
    pub unknown: u64,
    /// Of `nodes`, `extents` and `kept`: free in the map.
    pub reached_but_free: u64,
    /// Times that a block was reached again.
    pub doubly_used: u64,
    /// Of `free`: extents that commits in the log name.
    pub named_by_log: u64,
}

/// What a tree is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TreeFacts {
    /// Its name; `(tree of trees)` for that.
    pub name: String,
    /// Its number.
    pub id: TreeId,
    /// It is what is left of a dropped tree, or of ranges deleted from one, on its way to
    /// be free.
    pub left: bool,
    /// Records in it.
    pub records: u64,
    /// Leaves that verify.
    pub leaves: u64,
    /// Nodes above the leaves that verify.
    pub inner: u64,
    /// Levels; 0 if it is empty.
    pub depth: u32,
    /// Bytes of all keys, whole.
    pub key_bytes: u64,
    /// Bytes of all values, large ones included.
    pub value_bytes: u64,
    /// Large values.
    pub large_values: u64,
    /// Bytes of the blocks that large values lie in.
    pub extent_bytes: u64,
    /// Bytes free in its leaves.
    pub free_bytes: u64,
    /// The newest commit in it.
    pub newest_csn: Csn,
}

/// A named snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotFacts {
    /// Its name.
    pub name: String,
    /// The generation whose trees it has.
    pub generation: Generation,
    /// Its last commit.
    pub csn: Csn,
    /// When it was taken, in seconds since 1970.
    pub created: u64,
    /// Whether it was deleted, and what it had is being freed.
    pub deleted: bool,
    /// Blocks on its dead list: that it has and nothing newer.
    pub dead_blocks: u64,
    /// Blocks that the list itself takes.
    pub list_blocks: u64,
}

/// The log behind the checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogFacts {
    /// Where reading began.
    pub head: LogHead,
    /// Where it ends; `None` if it is damaged before its end.
    pub tail: Option<LogTail>,
    /// Blocks of the region.
    pub region: u64,
    /// Commits that the next open replays.
    pub commits_to_replay: u64,
    /// Operations in them.
    pub ops: u64,
    /// The last commit there is, that of the checkpoint if the log is empty.
    pub last_csn: Csn,
    /// The highest incarnation in it; 0 if it is empty.
    pub incarnation: u32,
    /// The position up to which the superblock says it is durable.
    pub durable: u64,
    /// Extents that its commits name.
    pub extents: Vec<Run>,
}

/// The state that recovery would leave. All else in a report is as it lies there:
/// the checkpoint, and the log behind it, not replayed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryFacts {
    /// Commits it would replay; 0 if there is nothing to recover.
    pub commits: u64,
    /// Operations in them.
    pub operations: u64,
    /// The last commit there would be.
    pub last_csn: Csn,
    /// Keys they change.
    pub changes: u64,
    /// About how many bytes of memory the changes take: what a read-only open needs.
    pub memory: u64,
    /// Names of the trees they make.
    pub created: Vec<String>,
    /// Names of the trees they drop.
    pub dropped: Vec<String>,
    /// Whether the changes were compared with the trees; if not, `changes`,
    /// `created`, `dropped` and `trees` are not known.
    pub verified: bool,
    /// The trees there would be, by name.
    pub trees: Vec<RecoveredTree>,
    /// Why recovery would fail, if damage stands in its way. Not foreseen is
    /// whether it finds the space it needs.
    pub fails: Option<String>,
}

/// A tree as recovery would leave it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveredTree {
    /// Its name.
    pub name: String,
    /// Its number.
    pub id: TreeId,
    /// Its records; `None` if part of it is damaged.
    pub records: Option<u64>,
}

/// One superblock copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuperblockFacts {
    /// 0 or 1.
    pub copy: u32,
    /// Its block number.
    pub place: BlockNo,
    /// What it says, if it verifies.
    pub decoded: Option<Superblock>,
    /// Why it is not the newest, if it is not.
    pub behind: Option<String>,
}
