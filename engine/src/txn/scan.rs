//! Scans in a transaction: what was committed, with its own writes in their places.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::btree_map;
use std::sync::Arc;

use super::reads::{Bounds, Noted, Reads};
use super::writes::Pending;
use super::{Isolation, Transaction};
use crate::error::Result;
use crate::format::TreeId;
use crate::scan::Scan;
use crate::tree::TreeState;

type Record = (Vec<u8>, Vec<u8>);

/// An ordered walk over a range of a tree as a transaction sees it. Ends for good after
/// an error. Errors are those of a [`Scan`].
#[derive(Debug)]
pub struct TransactionScan<'t> {
    transaction: &'t Transaction,
    /// What was committed.
    scan: Scan,
    /// Its next record, and whether there is none.
    base: Option<Record>,
    base_over: bool,
    /// The transaction's own writes, and the next of them.
    pending: btree_map::Range<'t, Vec<u8>, Pending>,
    own: Option<(&'t Vec<u8>, &'t Pending)>,
    /// How many writes there are in the tree.
    writes: usize,
    reverse: bool,
    keys_only: bool,
    left: usize,
    note: Note<'t>,
}

/// Tells the transaction, when the scan ends, what was read of the range. Until then all of
/// it counts.
#[derive(Debug)]
struct Note<'t> {
    /// `None`: reads are not validated.
    reads: Option<(&'t RefCell<Reads>, Noted)>,
    tree: TreeId,
    bounds: Bounds,
    reverse: bool,
    /// The last key returned, if there was one.
    last: Vec<u8>,
    any: bool,
    /// It came to the end, or failed somewhere.
    whole: bool,
}

impl Drop for Note<'_> {
    fn drop(&mut self) {
        let Some((reads, noted)) = self.reads.filter(|_| !self.whole) else {
            return;
        };
        let last = std::ops::Bound::Included(std::mem::take(&mut self.last));
        let read = self.any.then(|| match self.reverse {
            false => Bounds {
                lower: self.bounds.lower.clone(),
                upper: last,
            },
            true => Bounds {
                lower: last,
                upper: self.bounds.upper.clone(),
            },
        });
        reads.borrow_mut().narrow(self.tree, noted, read);
    }
}

impl<'t> TransactionScan<'t> {
    pub(crate) fn new(
        transaction: &'t Transaction,
        tree: &Arc<TreeState>,
        bounds: Bounds,
    ) -> Result<Self> {
        let core = transaction.store.core();
        core.check_open()?;
        let (lower, upper) = (bounds.lower.clone(), bounds.upper.clone());
        let view = transaction.view.clone();
        let scan = Scan::at(core.clone(), tree.clone(), view, lower, upper)?;
        // Where nothing can be, nothing is looked for.
        let looked_in = match bounds.is_empty() {
            true => Bounds {
                lower: std::ops::Bound::Included(Vec::new()),
                upper: std::ops::Bound::Excluded(Vec::new()),
            },
            false => bounds.clone(),
        };
        let validated =
            transaction.options.isolation == Isolation::Serializable && !bounds.is_empty();
        let reads = validated.then(|| {
            let noted = transaction.reads.borrow_mut().range(tree, bounds.clone());
            (&transaction.reads, noted)
        });
        Ok(Self {
            transaction,
            scan,
            base: None,
            base_over: false,
            pending: transaction.writes.range(tree.id, &looked_in),
            own: None,
            writes: transaction.writes.keys(tree.id),
            reverse: false,
            keys_only: false,
            left: usize::MAX,
            note: Note {
                reads,
                tree: tree.id,
                bounds,
                reverse: false,
                last: Vec::new(),
                any: false,
                whole: false,
            },
        })
    }

    /// The same scan from the other end. Call it before the first record is taken.
    #[must_use]
    pub fn rev(mut self) -> Self {
        self.scan = self.scan.rev();
        self.reverse = !self.reverse;
        self.note.reverse = self.reverse;
        self
    }

    /// The same scan, which ends after `records` records.
    #[must_use]
    pub fn limit(mut self, records: usize) -> Self {
        self.left = records;
        // Each own write hides one committed record at most.
        self.scan = self.scan.limit(records.saturating_add(self.writes));
        self
    }

    /// The same scan with empty values: large ones are not read.
    #[must_use]
    pub fn keys_only(mut self) -> Self {
        self.scan = self.scan.keys_only();
        self.keys_only = true;
        self
    }

    fn step(&mut self) -> Result<Option<Record>> {
        loop {
            if self.left == 0 {
                return Ok(None);
            }
            if self.base.is_none() && !self.base_over {
                self.base = self.scan.next().transpose()?;
                self.base_over = self.base.is_none();
            }
            if self.own.is_none() {
                self.own = match self.reverse {
                    false => self.pending.next(),
                    true => self.pending.next_back(),
                };
            }
            let order = match (&self.base, &self.own) {
                (None, None) => {
                    self.note.whole = true;
                    return Ok(None);
                }
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((base, _)), Some((own, _))) => match self.reverse {
                    false => base.cmp(own),
                    true => (*own).cmp(base),
                },
            };
            let next = match order {
                Ordering::Less => self.base.take(),
                Ordering::Equal | Ordering::Greater => {
                    if order == Ordering::Equal {
                        self.base = None;
                    }
                    self.own.take().and_then(|(key, value)| {
                        let value = value.as_ref()?;
                        let value = match self.keys_only {
                            false => value.clone(),
                            true => Vec::new(),
                        };
                        Some((key.clone(), value))
                    })
                }
            };
            // What the transaction deleted is passed over.
            if let Some(record) = next {
                self.left -= 1;
                self.note.any = true;
                self.note.last.clear();
                self.note.last.extend_from_slice(&record.0);
                return Ok(Some(record));
            }
        }
    }
}

impl Iterator for TransactionScan<'_> {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        match self.transaction.noting(step) {
            Ok(record) => record.map(Ok),
            Err(e) => {
                self.left = 0;
                self.note.whole = true;
                Some(Err(e))
            }
        }
    }
}
