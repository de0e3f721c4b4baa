//! Merging operands into what keys hold.

use std::sync::{Arc, OnceLock};

#[cfg(doc)]
use super::Store;
use super::Tree;
use super::commit::{commit_ops_if, finish};
use crate::commit::batch::{BatchOp, Step, WriteBatch, check_key};
use crate::commit::condition::Condition;
use crate::core::Core;
use crate::error::{Error, Result};
use crate::format::Csn;
use crate::merging::{MergeOperator, Merging, Waiting, apply};
use crate::options::Durability;
use crate::read::Entry;

impl Tree {
    /// Sets the tree's merge operator, for as long as the store is open: each who opens it
    /// sets his own. It takes the place of one that was set before.
    pub fn set_merge_operator(&self, operator: impl MergeOperator + 'static) {
        let merging = &self.inner.core.merging;
        merging.set(self.state.id, Arc::new(operator));
    }

    /// Merges `operand` into what `key` holds, by the tree's merge operator, and returns the commit. It is
    /// as [`Tree::update`], for many who change one key at once: those who meet there become one commit
    /// instead of failing each other. Reads and scans see the merged value.
    ///
    /// # Errors
    /// [`Error::NoMergeOperator`]. [`Error::Merge`]: the operator refused this operand, or
    /// panicked; nothing happened. What [`Store::commit`] and [`Tree::get`] can fail with.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("merge.store");
    /// # let format = gaur::FormatOptions { create_size: Some(64 << 20), ..Default::default() };
    /// # gaur::Store::format(&path, &format).unwrap();
    /// # let store = gaur::Store::open(&path, &gaur::OpenOptions::default()).unwrap();
    /// let hits = store.tree("hits")?;
    /// hits.set_merge_operator(|_key: &[u8], current: Option<&[u8]>, operand: &[u8]| {
    ///     let number = |b: &[u8]| b.try_into().map(u64::from_le_bytes).map_err(|e| format!("{e}"));
    ///     let sum = number(current.unwrap_or(&[0; 8]))? + number(operand)?;
    ///     Ok(Some(sum.to_le_bytes().to_vec()))
    /// });
    /// for _ in 0..3 {
    ///     hits.merge(b"/", &2u64.to_le_bytes(), gaur::Durability::Buffered)?;
    /// }
    /// assert_eq!(hits.get(b"/")?.unwrap(), 6u64.to_le_bytes());
    /// # Ok::<(), gaur::Error>(())
    /// ```
    pub fn merge(&self, key: &[u8], operand: &[u8], durability: Durability) -> Result<Csn> {
        let core = &self.inner.core;
        core.check_writable()?;
        check_key(key)?;
        let operator = core.merging.operator(&self.state)?;
        let stripe = core.merging.stripe(Merging::number(self.state.id, key));
        let mine = Arc::new(Waiting {
            tree: self.state.id,
            key: key.to_vec(),
            operand: operand.to_vec(),
            done: OnceLock::new(),
        });
        stripe.bring(mine.clone());
        {
            let _lead = stripe.lead();
            if mine.done.get().is_none() {
                self.merge_all(&*operator, key, &stripe.take(self.state.id, key));
            }
        }
        // Somebody took it and did not come to its end.
        let panicked = || Err(Error::Stopped("whoever merged for others panicked".into()));
        let csn = mine.done.get().cloned().unwrap_or_else(panicked)?;
        let worker = core.forest.workers.mine()?;
        finish(core, &worker, csn, durability)
    }

    /// Makes operands for one key one commit, and tells each what came of it. It is not waited for.
    fn merge_all(&self, operator: &dyn MergeOperator, key: &[u8], all: &[Arc<Waiting>]) {
        let made = self.try_merge_all(operator, key, all);
        let too_long = matches!(made, Err(Error::ValueTooLong { .. }));
        if too_long && all.len() > 1 {
            // Each alone, so that the one that is too much is told.
            all.iter()
                .for_each(|w| self.merge_all(operator, key, std::slice::from_ref(w)));
            return;
        }
        for waiting in all {
            // Who was refused was told so.
            let _ = waiting.done.set(made.clone());
        }
    }

    fn try_merge_all(
        &self,
        operator: &dyn MergeOperator,
        key: &[u8],
        all: &[Arc<Waiting>],
    ) -> Result<Csn> {
        let core = &self.inner.core;
        loop {
            let worker = self.reading(key)?;
            let now = core.current(&worker, &self.state, key)?;
            let mut value = now.value().map(<[u8]>::to_vec);
            for waiting in all.iter().filter(|w| w.done.get().is_none()) {
                match apply(
                    operator,
                    &self.state,
                    key,
                    value.as_deref(),
                    &waiting.operand,
                ) {
                    Ok(merged) => value = merged,
                    Err(e) => {
                        let _ = waiting.done.set(Err(e));
                    }
                }
            }
            if value.as_deref() == now.value() {
                return Ok(core.visible.upto());
            }
            let holds = Condition::Holds(&now.entry);
            match self.one(key, value.as_deref(), Durability::Buffered, Some(holds)) {
                Err(Error::Conflict(_)) => {}
                made => return made,
            }
        }
    }
}

/// Commits a batch that merges.
pub(super) fn commit_merging(
    core: &Core,
    batch: &WriteBatch,
    durability: Durability,
) -> Result<Csn> {
    let keys = batch.steps();
    let merges = |steps: &[Step<'_>]| steps.iter().any(|s| matches!(s, Step::Merge(_)));
    let mut numbers: Vec<usize> = keys
        .iter()
        .filter(|(.., steps)| merges(steps))
        .map(|(tree, key, _)| Merging::number(tree.id, key))
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    for (_, key, _) in &keys {
        check_key(key)?;
    }
    let worker = core.forest.workers.mine()?;
    let csn = {
        // In the order of their numbers, so that nobody waits in a circle.
        let _leads: Vec<_> = numbers
            .iter()
            .map(|n| core.merging.stripe(*n).lead())
            .collect();
        loop {
            let mut values: Vec<Option<Vec<u8>>> = Vec::with_capacity(keys.len());
            let mut holds: Vec<Option<Option<Entry>>> = Vec::with_capacity(keys.len());
            for (tree, key, steps) in &keys {
                let (mut value, mut held) = (None, None);
                if matches!(steps[0], Step::Merge(_)) {
                    let now = core.current(&worker, tree, key)?;
                    held = Some(now.entry.clone());
                    value = now.into_value();
                }
                for step in steps {
                    value = match step {
                        Step::Set(new) => new.map(<[u8]>::to_vec),
                        Step::Merge(operand) => {
                            let operator = core.merging.operator(tree)?;
                            apply(&*operator, tree, key, value.as_deref(), operand)?
                        }
                    };
                }
                values.push(value);
                holds.push(held);
            }
            let ops: Vec<BatchOp<'_>> = keys
                .iter()
                .zip(&values)
                .map(|((tree, key, _), value)| BatchOp {
                    tree,
                    key,
                    value: value.as_deref(),
                })
                .collect();
            let condition = Condition::Hold(&holds);
            match commit_ops_if(core, &ops, Durability::Buffered, Some(condition)) {
                Err(Error::Conflict(_)) => {}
                made => break made?,
            }
        }
    };
    finish(core, &worker, csn, durability)
}
