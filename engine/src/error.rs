//! Errors by cause. Each says what happened, where, and what to do.

use std::ops::Bound;

use gaur_iodriver::signature::in_words;
use gaur_iodriver::{IoError, IoErrorKind, Signature};

use crate::format::{BlockNo, Csn, TreeId};
use crate::inspect::bytes;

/// The result of the engine's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The device failed. After a failed read, that read alone; a failed write or
    /// flush also stops the store (see [`Error::Stopped`]).
    #[error("{}{cause}", doing(.0), cause = .0)]
    Io(#[source] IoError),

    /// A block does not say what it must say.
    #[error("{0}")]
    Damaged(Damage),

    /// No space for this operation. Nothing of it was done.
    #[error(
        "the store is full: {needed} block(s) needed, {free} free{}; delete something, or grow the device",
        held(*.pinned)
    )]
    Full {
        /// Blocks the operation needs. For a batch of deletes: those it could not get
        /// at last; smaller batches need less.
        needed: u64,
        /// Blocks free, the reserve for deletes and checkpoints left out. Not less
        /// than `needed`: they lie in too many pieces for a large value.
        free: u64,
        /// Blocks of deleted large values that open scans still look at: they are
        /// free when those scans end.
        pinned: u64,
    },

    /// An earlier write or flush failed, so nothing more can be promised.
    #[error("the store has stopped after a failed write: {0}; reopen it to recover")]
    Stopped(String),

    /// The commit was in flight when a write or flush failed: after reopening it
    /// may be there or not, whole in either case.
    #[error("outcome of commit {csn} unknown: {cause}; reopen the store and look")]
    OutcomeUnknown {
        /// The commit.
        csn: Csn,
        /// What failed.
        cause: String,
    },

    /// The key is longer than the store can hold.
    #[error("key of {len} bytes is too long; at most {max} bytes")]
    KeyTooLong {
        /// Its length in bytes.
        len: usize,
        /// The longest possible.
        max: usize,
    },

    /// The value is longer than the store can hold.
    #[error("value of {len} bytes is too long; at most {max} bytes")]
    ValueTooLong {
        /// Its length in bytes.
        len: u64,
        /// The longest possible.
        max: u64,
    },

    /// A record of a bulk load does not come behind the one before it. It was not added.
    #[error("{0}; sort them, each key once")]
    OutOfOrder(Box<OutOfOrder>),

    /// The tree has no merge operator. Nothing was done.
    #[error("tree {0:?} has no merge operator; set one (set_merge_operator)")]
    NoMergeOperator(String),

    /// A merge operator refused an operand, or panicked. Nothing was done.
    #[error("{0}")]
    Merge(Box<MergeRefused>),

    /// What a value was to be read from failed, or ended before the value did. Nothing
    /// was changed.
    #[error("the value's source failed after {read} of {len} bytes: {detail}")]
    Source {
        /// Bytes that it gave.
        read: u64,
        /// The value's length.
        len: u64,
        /// What failed; `UnexpectedEof` if it ended.
        kind: std::io::ErrorKind,
        /// In words.
        detail: String,
    },

    /// The batch is larger than one commit may be.
    #[error("batch of {len} bytes is too large; at most {max} bytes, so split it")]
    BatchTooLarge {
        /// Bytes it would take in the log.
        len: usize,
        /// The most possible.
        max: usize,
    },

    /// The batch touches more leaves than the cache can hold for it.
    #[error("the batch touches more than {max} nodes; split it, or give the store a larger cache")]
    BatchTooWide {
        /// The most nodes a batch may touch with this cache.
        max: usize,
    },

    /// The store was not closed, and what its log changes takes more memory than a
    /// read-only open may use for it.
    #[error(
        "reading this store as recovery would leave it needs up to {needed} bytes of memory for what its log changes, and {max} are allowed; allow more (replay_memory), or open it once for writing, which recovers it"
    )]
    ReplayMemory {
        /// Bytes that will do.
        needed: u64,
        /// Bytes allowed.
        max: u64,
    },

    /// There is no store here.
    #[error("{}", not_a_store(path, detail, signatures))]
    NotAStore {
        /// The device or file.
        path: String,
        /// What was found.
        detail: String,
        /// What is there instead, as far as it is known.
        signatures: Vec<Signature>,
    },

    /// A store of a format version or with features this code does not know.
    #[error("this store needs a newer gaur: {0}")]
    UnknownFormat(String),

    /// Formatting would destroy what is there.
    #[error(
        "{path}: {detail}; nothing was written. {} (--force) to format it all the same",
        if signatures.is_empty() { "Use force" } else { "Erase that first (wipefs -a), or use force" }
    )]
    Foreign {
        /// The device or file.
        path: String,
        /// What was found.
        detail: String,
        /// All that was recognised; empty for a store of ours and for data of an
        /// unknown kind.
        signatures: Vec<Signature>,
    },

    /// The device is too small.
    #[error(
        "{} are too few for a store, which needs {}; nothing was written. \
         Use a larger device, or give a file a larger size",
        bytes(*have),
        bytes(*need)
    )]
    TooSmall {
        /// Its size in bytes.
        have: u64,
        /// The least size in bytes.
        need: u64,
    },

    /// The store could not be made larger. It goes on as it is, with nothing lost.
    #[error(
        "the store cannot grow to {}: {cause}; it goes on at {}",
        bytes(*wanted),
        bytes(*have)
    )]
    CannotGrow {
        /// Its size in bytes.
        have: u64,
        /// The size in bytes that was asked for.
        wanted: u64,
        /// What stood in the way; its kind is `NoSpace` if the file system is full.
        cause: IoError,
    },

    /// The device is smaller than the store on it.
    #[error(
        "the store has {}, the device only {}: it was made smaller, or copied in part; give it its size back",
        bytes(*need),
        bytes(*have)
    )]
    Shrunk {
        /// Bytes the store uses.
        need: u64,
        /// Bytes there are.
        have: u64,
    },

    /// An option has a value it cannot have.
    #[error("bad option {name}: {detail}")]
    BadOption {
        /// The option.
        name: &'static str,
        /// Why not, and what it may be.
        detail: String,
    },

    /// The store was opened for reading only.
    #[error("the store was opened read-only; open it for writing")]
    ReadOnly,

    /// There is no tree of this name.
    #[error("no tree named {0:?}; create it first")]
    NoSuchTree(String),

    /// A tree of this name exists.
    #[error("a tree named {0:?} exists already")]
    TreeExists(String),

    /// The tree was dropped while a handle to it was held.
    #[error("tree {0:?} was dropped; open or create one of that name anew")]
    TreeDropped(String),

    /// There is no snapshot of this name.
    #[error("no snapshot named {0:?}")]
    NoSuchSnapshot(String),

    /// A snapshot of this name exists.
    #[error("a snapshot named {0:?} exists already")]
    SnapshotExists(String),

    /// The snapshot cannot be deleted, because something came from it.
    #[error("snapshot {name:?} cannot be deleted: {by}; drop that first")]
    SnapshotInUse {
        /// Its name.
        name: String,
        /// What needs it.
        by: String,
    },

    /// The tree is a snapshot's, which does not change.
    #[error("tree {0:?} is of a snapshot and does not change; write to a clone of it")]
    FrozenTree(String),

    /// A commit that came between changed what the transaction depends on. Nothing of
    /// the transaction was done. Run it again.
    #[error("{0}; run the transaction again")]
    Conflict(Box<Conflict>),

    /// The savepoint is not one of this transaction's, or was released or passed over.
    #[error("no such savepoint in this transaction; it was released, or rolled back over")]
    NoSuchSavepoint,

    /// The tree belongs to another store than what it was used with.
    #[error("tree {0:?} belongs to another store")]
    OtherStore(String),

    /// A record of a typed tree is not of the tree's types. Only this record is meant.
    #[error("{0}; read it as bytes, or with the types that it was written with")]
    WrongType(Box<WrongType>),

    /// A reader lasted so long that the before-images it needs were given up for
    /// memory. Start it again.
    #[error("the view at commit {csn} is too old; start again")]
    ViewTooOld {
        /// The commit it looked at.
        csn: Csn,
    },

    /// A change feed asked for commits that the log does not have any more.
    #[error(
        "the commits after {after} are no more in the log, whose oldest is {oldest}; read the store anew and go on behind what was read"
    )]
    ChangesGone {
        /// The commit behind which the feed was.
        after: Csn,
        /// The oldest commit that was still there.
        oldest: Csn,
    },

    /// The blocks of a large value that a change feed tells of were used again, since it
    /// was deleted or replaced.
    #[error("the large value that commit {csn} put is gone; a later commit says what is there now")]
    ValueGone {
        /// The commit that put it.
        csn: Csn,
    },

    /// More threads use the store at once than it has places for.
    #[error("more than {max} threads use the store at once; let some end first")]
    TooManyThreads {
        /// How many can.
        max: usize,
    },

    /// The caller ended it early, as it may.
    #[error("interrupted {0}")]
    Interrupted(String),

    /// The store was closed.
    #[error("the store was closed")]
    Closed,

    /// The calling process is a forked child of the one that opened the store.
    #[error(
        "this process was forked from the one that opened the store, to which it belongs; \
         open the store here when that one has closed it"
    )]
    Forked,
}

impl Error {
    /// Whether it says nothing but that others were faster, or that it took too long: the
    /// same transaction may well succeed when it is run again.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Conflict(_) | Self::ViewTooOld { .. })
    }
}

/// What a transaction failed on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("commit {csn} changed the key {} of tree {tree:?}, {on}", shown(key))]
pub struct Conflict {
    /// The name of the tree.
    pub tree: String,
    /// The key that was changed.
    pub key: Vec<u8>,
    /// The commit that changed it, or a later one.
    pub csn: Csn,
    /// How the transaction depends on it.
    pub on: ConflictOn,
}

/// How a transaction depends on a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConflictOn {
    /// It read the key.
    #[error("which the transaction read")]
    Read,
    /// It read a range in which the key lies.
    #[error("in a range that the transaction read")]
    Range {
        /// Where the range begins.
        lower: Bound<Vec<u8>>,
        /// Where it ends.
        upper: Bound<Vec<u8>>,
    },
    /// It writes the key, and the first committer wins (snapshot isolation).
    #[error("which the transaction writes too")]
    Write,
}

/// An operand that was not merged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the merge operator of tree {tree:?} refused an operand for {}: {why}",
    shown(key)
)]
pub struct MergeRefused {
    /// The name of the tree.
    pub tree: String,
    /// The key.
    pub key: Vec<u8>,
    /// Why, in the operator's words.
    pub why: String,
}

/// Two keys of a bulk load that do not ascend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the records for tree {tree:?} are not in order: {} comes behind {}",
    shown(key),
    shown(last)
)]
pub struct OutOfOrder {
    /// The name of the tree.
    pub tree: String,
    /// The last key that was added.
    pub last: Vec<u8>,
    /// The key that came then, and is not greater.
    pub key: Vec<u8>,
}

/// A record that is not of the types that a [`TypedTree`](crate::TypedTree) has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the {part} of record {} of tree {tree:?} encodes no {expected}",
    shown(key)
)]
pub struct WrongType {
    /// The name of the tree.
    pub tree: String,
    /// The record's key.
    pub key: Vec<u8>,
    /// Which part of the record.
    pub part: Part,
    /// The type it should be of, as [`std::any::type_name`] says it.
    pub expected: &'static str,
}

/// A part of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Part {
    /// The key.
    #[error("key")]
    Key,
    /// The value.
    #[error("value")]
    Value,
}

/// A key in a message.
fn shown(key: &[u8]) -> String {
    const MOST: usize = 64;
    let cut = if key.len() > MOST { "…" } else { "" };
    format!("\"{}{cut}\"", key[..key.len().min(MOST)].escape_ascii())
}

/// What an I/O error interrupted. An open that is refused is no failure of I/O.
fn doing(e: &IoError) -> &'static str {
    match e.what {
        "open" => "",
        _ => "input/output failed: ",
    }
}

fn not_a_store(path: &str, detail: &str, signatures: &[Signature]) -> String {
    if signatures.is_empty() {
        return format!("{path}: no gaur store here ({detail}); `gaur format` makes one");
    }
    let what = in_words(signatures);
    format!("{path}: holds {what}, no gaur store; nothing was written. Is it the right device?")
}

/// Says that open scans hold space.
fn held(pinned: u64) -> String {
    match pinned {
        0 => String::new(),
        n => format!(", {n} held by open scans until they end"),
    }
}

/// A block that is not what it must be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("damage in {what}{} at block {place}: {detail}; `gaur check` lists all there is", .tree.map(|t| format!(" of tree {t}")).unwrap_or_default())]
pub struct Damage {
    /// What the block is: `node`, `map block`, `superblock`, `log block` …
    pub what: &'static str,
    /// Its block number.
    pub place: BlockNo,
    /// The tree, where there is one.
    pub tree: Option<TreeId>,
    /// What is wrong.
    pub detail: String,
}

impl Damage {
    /// Damage found in `what` at `place`.
    pub fn new(what: &'static str, place: BlockNo, detail: impl Into<String>) -> Self {
        Self {
            what,
            place,
            tree: None,
            detail: detail.into(),
        }
    }

    /// The same, in a tree.
    pub fn in_tree(mut self, tree: TreeId) -> Self {
        self.tree = Some(tree);
        self
    }
}

impl From<IoError> for Error {
    fn from(e: IoError) -> Self {
        match e.kind {
            IoErrorKind::Forked => Self::Forked,
            _ => Self::Io(e),
        }
    }
}

impl From<Damage> for Error {
    fn from(d: Damage) -> Self {
        Self::Damaged(d)
    }
}

#[cfg(test)]
mod tests;
