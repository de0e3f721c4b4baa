//! Named snapshots: what there is of them while the store is open.
//!
//! A snapshot is a generation of the whole store whose blocks are kept: its tree of trees
//! is the one that its checkpoint wrote. It is taken by the checkpoint that freezes that
//! generation, and deleted bit by bit by later ones (`writeback::retain`).

mod origin;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::format::{Csn, Generation};
use crate::writeback::catalog::Contents;
use crate::writeback::held::Held;

pub(crate) use origin::Origin;

/// Whoever holds one keeps a snapshot's blocks where they are.
#[derive(Debug, Default)]
pub(crate) struct Users(());

/// A snapshot of an open store.
#[derive(Clone, Debug)]
pub(crate) struct Saved {
    pub(crate) held: Held,
    /// One is the shelf's own.
    pub(crate) users: Arc<Users>,
    /// It was deleted and nobody uses it: it needs nothing any more but what is still on
    /// its dead list.
    pub(crate) begun: bool,
    /// Its dead list is damaged: what is on it cannot be freed.
    pub(crate) stuck: bool,
}

/// The snapshots of an open store.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    /// By generation.
    pub(crate) all: Vec<Saved>,
    /// Names of those that the next freeze takes.
    pub(crate) wanted: Vec<String>,
    /// How many trees are being loaded. Their nodes are written before the commit that makes
    /// them, so a snapshot in between would seem to have them.
    pub(crate) loading: usize,
    /// How many trees, dropped ones included of which something is left, came from the
    /// snapshot of a generation.
    dependents: BTreeMap<Generation, u64>,
}

impl Shelf {
    /// What the tree of trees says.
    pub(crate) fn open(&mut self, contents: &Contents) {
        self.all = contents
            .held
            .iter()
            .map(|held| Saved {
                begun: held.deleted,
                held: held.clone(),
                users: Arc::default(),
                stuck: false,
            })
            .collect();
        let trees = contents.trees.iter().map(|t| t.origin);
        for origin in trees.chain(contents.doomed.iter().map(|d| d.origin)) {
            self.depend(origin);
        }
    }

    /// The snapshot of that name.
    pub(crate) fn named(&self, name: &str) -> Option<&Saved> {
        self.all
            .iter()
            .find(|s| !s.held.deleted && s.held.name == name)
    }

    /// Whether a name is taken, or asked for.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.named(name).is_some() || self.wanted.iter().any(|w| w == name)
    }

    /// A tree comes from a snapshot.
    pub(crate) fn depend(&mut self, origin: Generation) {
        if origin != Generation::default() {
            *self.dependents.entry(origin).or_default() += 1;
        }
    }

    /// Nothing is left of a tree that came from a snapshot.
    pub(crate) fn leave(&mut self, origin: Generation) {
        if let Some(n) = self.dependents.get_mut(&origin) {
            *n -= 1;
            if *n == 0 {
                self.dependents.remove(&origin);
            }
        }
    }

    /// Who needs the snapshots of this generation, if anybody.
    pub(crate) fn dependent(&self, of: Generation) -> Option<String> {
        // Another of the same generation has the same blocks.
        if let Some(n) = self.dependents.get(&of) {
            return Some(format!("{n} tree(s), dropped ones included, came from it"));
        }
        let needs = |s: &&Saved| !s.begun && s.held.origins.contains(&of);
        let by = self.all.iter().find(needs)?;
        Some(format!(
            "snapshot {:?} has trees that came from it",
            by.held.name
        ))
    }

    /// Whether a checkpoint would free something of a deleted snapshot.
    pub(crate) fn has_work(&self) -> bool {
        let ready =
            |s: &Saved| s.begun && !s.stuck || s.held.deleted && Arc::strong_count(&s.users) == 1;
        self.all.iter().any(ready)
    }

    /// The generations whose blocks are kept, the oldest first.
    pub(crate) fn kept(&self) -> Vec<Generation> {
        let kept = self.all.iter().filter(|s| !s.begun);
        kept.map(|s| s.held.generation).collect()
    }

    /// A generation is frozen, the gate is closed: takes the snapshots that are asked for,
    /// and begins with the end of those that nobody uses any more.
    pub(crate) fn freeze(
        &mut self,
        generation: Generation,
        csn: Csn,
        origins: &[Generation],
        created: u64,
    ) {
        for saved in &mut self.all {
            // Nobody finds a deleted one, so nobody can come.
            saved.begun |= saved.held.deleted && Arc::strong_count(&saved.users) == 1;
        }
        let wanted = std::mem::take(&mut self.wanted);
        for name in wanted.into_iter().filter(|_| self.loading == 0) {
            self.all.push(Saved {
                held: Held {
                    generation,
                    name,
                    csn,
                    created,
                    origins: origins.to_vec(),
                    ..Held::default()
                },
                users: Arc::default(),
                begun: false,
                stuck: false,
            });
        }
    }
}
