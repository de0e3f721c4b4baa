//! The way down, without latches: each node is read at a version that is
//! validated before what was read from it is used.

use std::sync::Arc;

use super::{Forest, Parent, TreeState};
use crate::cache::{FrameId, Version};
use crate::format::{BlockPtr, Generation};
use crate::node::{Child, Page};

/// Where a descent ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Found {
    /// The tree has no node; the anchor was seen at this version.
    Empty(Version),
    /// The node wanted.
    Node(At),
    /// A descent for writing met a node that must be copied first.
    Shared(At),
    /// The next node is not in memory.
    Missing {
        parent: Parent,
        ptr: BlockPtr,
        level: Option<u8>,
    },
}

/// A node in memory, and what points to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    pub(crate) parent: Parent,
    pub(crate) frame: FrameId,
    pub(crate) version: Version,
    pub(crate) ptr: BlockPtr,
    pub(crate) level: u8,
}

/// What a look at a child found.
enum Look {
    /// The child, at this version.
    There(FrameId, Version),
    /// It is not in memory.
    Missing,
    /// Its parent has changed.
    Changed,
}

/// How the target of a descent is named.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Toward<'k> {
    /// The node that covers the key.
    Key(&'k [u8]),
    /// The node that covers the greatest key less than this; without: the
    /// greatest of all.
    Before(Option<&'k [u8]>),
}

impl Toward<'_> {
    /// The slot of an inner node through which the way goes on.
    #[inline]
    pub(super) fn slot(self, page: Page<'_>) -> usize {
        match self {
            Self::Key(key) => page.child_slot(key),
            Self::Before(Some(key)) => page.search(key).0.saturating_sub(1),
            Self::Before(None) => page.slots().saturating_sub(1),
        }
    }
}

impl Forest {
    /// Goes down to `level`. With `writing`, stops at the first node that a writer
    /// of that generation must copy.
    #[inline]
    pub(crate) fn descend(
        &self,
        tree: &TreeState,
        toward: Toward<'_>,
        level: u8,
        writing: Option<Generation>,
    ) -> Found {
        'restart: loop {
            let version = tree.anchor.latch.version();
            let mut child = tree.anchor.child();
            if !tree.anchor.latch.validate(version) {
                continue;
            }
            if child.ptr.is_null() {
                return Found::Empty(version);
            }
            let mut parent = Parent {
                frame: None,
                version,
                slot: 0,
            };
            let mut expected = None;
            loop {
                let missing = Found::Missing {
                    parent,
                    ptr: child.ptr,
                    level: expected,
                };
                let (id, version) = match self.look(tree, parent, child) {
                    Look::There(id, version) => (id, version),
                    Look::Missing => return missing,
                    Look::Changed => continue 'restart,
                };
                let frame = self.cache.frame(id);
                let page = self.cache.page(id);
                let at_level = page.level();
                let at = At {
                    parent,
                    frame: id,
                    version,
                    ptr: child.ptr,
                    level: at_level,
                };
                if writing.is_some_and(|g| !frame.writable(g)) {
                    if !frame.latch.validate(version) {
                        continue 'restart;
                    }
                    return Found::Shared(at);
                }
                if at_level <= level {
                    if !frame.latch.validate(version) {
                        continue 'restart;
                    }
                    return Found::Node(at);
                }
                let slot = toward.slot(page);
                child = page.child(slot);
                if !frame.latch.validate(version) {
                    continue 'restart;
                }
                parent = Parent {
                    frame: Some(id),
                    version,
                    slot,
                };
                expected = Some(at_level - 1);
            }
        }
    }

    /// The node in this frame, found in the tree or in what was cut out of it, with the
    /// tree where it is. The gate is passed.
    pub(crate) fn locate(
        &self,
        tree: Arc<TreeState>,
        frame: FrameId,
        level: u8,
        lower: &[u8],
    ) -> Option<(Arc<TreeState>, At)> {
        let find = |tree: &TreeState| match self.descend(tree, Toward::Key(lower), level, None) {
            Found::Node(at) if at.frame == frame => Some(at),
            _ => None,
        };
        if let Some(at) = find(&tree) {
            return Some((tree, at));
        }
        let mut parts = tree.cuts.all().into_iter();
        parts.find_map(|part| Some((part.tree.clone(), find(&part.tree)?)))
    }

    /// Looks at a child that was read from its parent.
    #[inline]
    fn look(&self, tree: &TreeState, parent: Parent, child: Child) -> Look {
        if child.hint == 0 || child.hint as usize > self.cache.known() {
            return Look::Missing;
        }
        let id = child.hint - 1;
        self.cache.prefetch(id);
        let frame = self.cache.frame(id);
        let version = frame.latch.version();
        let holds = frame.holds(child.ptr);
        // The parent still names this child now, after the child's version was taken:
        // from here on the child's version alone decides.
        if !self.parent_latch(tree, parent).validate(parent.version) {
            return Look::Changed;
        }
        match holds {
            true => Look::There(id, version),
            false => Look::Missing,
        }
    }

    /// The node beside the one that `parent` named, at the same level and under the
    /// same parent: the one `before` it or the one behind it. `None`: there is none,
    /// it is not in memory, or the parent has changed since.
    pub(crate) fn beside(&self, tree: &TreeState, parent: Parent, before: bool) -> Option<At> {
        let page = self.cache.page(parent.frame?);
        let slot = match before {
            true => parent.slot.checked_sub(1)?,
            false => Some(parent.slot + 1).filter(|s| *s < page.slots())?,
        };
        let parent = Parent { slot, ..parent };
        let child = page.child(slot);
        match self.look(tree, parent, child) {
            Look::There(frame, version) => Some(At {
                parent,
                frame,
                version,
                ptr: child.ptr,
                level: self.cache.page(frame).level(),
            }),
            Look::Missing | Look::Changed => None,
        }
    }

    /// The keys below a node that is not in memory, from the first to before the
    /// second; `None` if what pointed to it has changed since.
    pub(crate) fn range_of(
        &self,
        tree: &TreeState,
        missing: Found,
    ) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
        let Found::Missing { parent, .. } = missing else {
            unreachable!("only of a missing node")
        };
        let range = self.fences(tree, parent);
        let stands = self.parent_latch(tree, parent).validate(parent.version);
        stands.then_some(range)
    }

    /// The fences of the child that `parent` is about; right if the parent's version
    /// still stands afterwards.
    pub(super) fn fences(&self, tree: &TreeState, parent: Parent) -> Fences {
        match parent.frame {
            None => {
                let bounds = tree.anchor.bounds();
                (bounds.lower, bounds.upper)
            }
            Some(frame) => fences_of(self.cache.page(frame), parent.slot),
        }
    }
}

/// A node's lower fence, and its upper one if there is one.
pub(super) type Fences = (Vec<u8>, Option<Vec<u8>>);

/// The fences of the child in a slot.
pub(super) fn fences_of(page: Page<'_>, slot: usize) -> Fences {
    let lower = match slot {
        0 => page.lower(),
        slot => page.key(slot),
    };
    let next = slot + 1;
    let upper = if next < page.slots() {
        Some(page.key(next))
    } else {
        page.upper()
    };
    (lower, upper)
}
