//! Asking the processor for the nodes on many ways at once, so that their cache
//! misses overlap: *group prefetching* (Chen, Ailamaki, Gibbons and Mowry, 2004).
//!
//! A descent is a chain of misses, each known only when the one before is there.
//! The ways of several keys do not depend on each other: taken level by level, the
//! misses of one level are under way together.

use super::{Forest, Parent, TreeState};
use crate::cache::FrameId;

/// Keys whose ways are taken together: more than a core's misses in flight, so
/// that each has come when its turn is.
pub(crate) const GROUP: usize = 16;
/// More levels than a tree has.
const LEVELS: usize = 12;

impl Forest {
    /// Brings the inner nodes and leaves on the ways to at most [`GROUP`] keys into
    /// the processor's caches. Only a hint: what it reads may be changing, is used
    /// for nothing but the next hint, and nodes that are not in memory stay there.
    pub(crate) fn warm<'a>(&self, keys: impl Iterator<Item = (&'a TreeState, &'a [u8])> + Clone) {
        let mut at = [None; GROUP];
        for (at, (tree, _)) in at.iter_mut().zip(keys.clone()) {
            *at = self.toward(tree.anchor.child().hint, true);
        }
        for _ in 0..LEVELS {
            let mut deeper = false;
            let mut last = None;
            for (at, (_, key)) in at.iter_mut().zip(keys.clone()) {
                let Some(id) = at.take() else {
                    continue;
                };
                let page = self.cache.page(id);
                if page.level() == 0 {
                    self.cache.prefetch_leaf(id);
                    continue;
                }
                let hint = page.child(page.child_slot(key)).hint;
                // Neighbours in key order often share a node.
                *at = self.toward(hint, last != Some(hint));
                last = Some(hint);
                deeper |= at.is_some();
            }
            if !deeper {
                break;
            }
        }
    }

    /// Asks for the node beside the one below `parent`, which a scan comes to next.
    pub(crate) fn warm_sibling(&self, parent: Parent, before: bool) {
        let Some(frame) = parent.frame else {
            return;
        };
        let page = self.cache.page(frame);
        let slot = match before {
            true => parent.slot.checked_sub(1),
            false => Some(parent.slot + 1).filter(|s| *s < page.slots()),
        };
        if let Some(slot) = slot {
            self.toward(page.child(slot).hint, true);
        }
    }

    /// The frame that a hint names; asks for its beginning.
    fn toward(&self, hint: u32, ask: bool) -> Option<FrameId> {
        let id = hint.checked_sub(1)?;
        if hint as usize > self.cache.known() {
            return None;
        }
        if ask {
            self.cache.prefetch(id);
        }
        Some(id)
    }
}
