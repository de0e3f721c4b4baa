//! Merge operators, and merges of one key that become one commit.
//!
//! An operator is the user's code, so it runs with no latch held: what a key holds is read, the
//! operands are merged with it, and the commit is made if it still holds that. So that those who merge
//! into one key do not fail each other, one of them leads: it takes what all who wait
//! have brought, in order, and makes it one commit. The others wait for a lock of the *stripe* that
//! the key falls into, never for a latch.
//!
//! The log has the result, as of any put: neither a replay nor a reader needs the operator.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};

use gaur_iodriver::sync::{Mutex, MutexGuard, ShortMutex};

use crate::error::{Error, MergeRefused, Result};
use crate::format::{Csn, TreeId, checksum};
use crate::tree::TreeState;

const STRIPES: usize = 64;

/// Merges operands into values: counters, sets, logs that grow.
///
/// It must depend on nothing but what it is given, and may be called any number of times for one
/// operand. Each operand is merged exactly once into the value that is committed, and in the order of
/// commits. It runs without any latch, but others who merge into the same key wait for it: it should be
/// quick. It must not use the store.
///
/// Any closure of this form is one:
///
/// ```
/// # use gaur::MergeOperator;
/// let append = |_key: &[u8], current: Option<&[u8]>, operand: &[u8]| {
///     Ok(Some([current.unwrap_or_default(), operand].concat()))
/// };
/// assert_eq!(append.merge(b"k", Some(b"a"), b"b"), Ok(Some(b"ab".to_vec())));
/// ```
pub trait MergeOperator: Send + Sync {
    /// What `key` is to hold, `None` to remove it, after `operand`; `current` is what it holds.
    ///
    /// # Errors
    /// Why this operand cannot be merged: [`Error::Merge`] says so to whoever brought it, and nothing of it
    /// happens.
    fn merge(
        &self,
        key: &[u8],
        current: Option<&[u8]>,
        operand: &[u8],
    ) -> Result<Option<Vec<u8>>, String>;
}

impl<F> MergeOperator for F
where
    F: Fn(&[u8], Option<&[u8]>, &[u8]) -> Result<Option<Vec<u8>>, String> + Send + Sync,
{
    fn merge(
        &self,
        key: &[u8],
        current: Option<&[u8]>,
        operand: &[u8],
    ) -> Result<Option<Vec<u8>>, String> {
        self(key, current, operand)
    }
}

/// An operand that waits to be merged.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) tree: TreeId,
    pub(crate) key: Vec<u8>,
    pub(crate) operand: Vec<u8>,
    /// What came of it.
    pub(crate) done: OnceLock<Result<Csn>>,
}

/// Where those meet who merge into the same key.
#[derive(Debug, Default)]
pub(crate) struct Stripe {
    waiting: ShortMutex<Vec<Arc<Waiting>>>,
    lead: Mutex<()>,
}

impl Stripe {
    /// Brings an operand.
    pub(crate) fn bring(&self, waiting: Arc<Waiting>) {
        self.waiting.lock().push(waiting);
    }

    /// Waits to lead. No latch may be held.
    pub(crate) fn lead(&self) -> MutexGuard<'_, ()> {
        self.lead.lock()
    }

    /// Takes all operands for this key, in the order in which they came.
    pub(crate) fn take(&self, tree: TreeId, key: &[u8]) -> Vec<Arc<Waiting>> {
        let mut waiting = self.waiting.lock();
        let same = |w: &Arc<Waiting>| w.tree == tree && w.key == key;
        let (mine, others) = waiting.drain(..).partition(same);
        *waiting = others;
        mine
    }
}

/// The operators of a store's trees, and those who merge.
pub(crate) struct Merging {
    operators: ShortMutex<BTreeMap<TreeId, Arc<dyn MergeOperator>>>,
    stripes: [Stripe; STRIPES],
}

impl std::fmt::Debug for Merging {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let operators = self.operators.lock().len();
        f.debug_struct("Merging")
            .field("operators", &operators)
            .finish_non_exhaustive()
    }
}

impl Merging {
    pub(crate) fn new() -> Self {
        Self {
            operators: ShortMutex::default(),
            stripes: std::array::from_fn(|_| Stripe::default()),
        }
    }

    pub(crate) fn set(&self, tree: TreeId, operator: Arc<dyn MergeOperator>) {
        self.operators.lock().insert(tree, operator);
    }

    /// The stripe of a key, by its number.
    pub(crate) fn number(tree: TreeId, key: &[u8]) -> usize {
        (checksum::block(key, u64::from(tree), 0) % STRIPES as u64) as usize
    }

    pub(crate) fn stripe(&self, number: usize) -> &Stripe {
        &self.stripes[number]
    }

    /// The operator of a tree.
    pub(crate) fn operator(&self, tree: &TreeState) -> Result<Arc<dyn MergeOperator>> {
        let found = self.operators.lock().get(&tree.id).cloned();
        found.ok_or_else(|| Error::NoMergeOperator(tree.name().to_string()))
    }
}

/// Merges an operand. A panic of the operator is a refusal.
pub(crate) fn apply(
    operator: &dyn MergeOperator,
    tree: &TreeState,
    key: &[u8],
    current: Option<&[u8]>,
    operand: &[u8],
) -> Result<Option<Vec<u8>>> {
    let merge = || operator.merge(key, current, operand);
    let merged = catch_unwind(AssertUnwindSafe(merge));
    let merged = merged.unwrap_or_else(|_| Err("the operator panicked".into()));
    merged.map_err(|why| {
        Error::Merge(Box::new(MergeRefused {
            tree: tree.name().to_string(),
            key: key.to_vec(),
            why,
        }))
    })
}
