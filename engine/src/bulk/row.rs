//! One level of a tree that is built: the entries of the node that is being filled.
//!
//! A node's upper fence is known only with the entry behind its last, and with the fence its
//! prefix, and with that its size. It grows with each entry. So an entry is taken in, and the node
//! is complete without it as soon as it would not fit with it.

use crate::format::{BlockPtr, TreeId};
use crate::node::{Bounds, CHILD_WORDS, HEADER_WORDS, Page, common_prefix, entry_words};

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Where the key begins; the value follows.
    at: usize,
    key_len: usize,
    value_len: usize,
    kind: u8,
}

/// The entries of a level from the last complete node on.
#[derive(Debug)]
pub(super) struct Row {
    level: u8,
    /// Words of a node to be filled.
    limit: usize,
    lower: Vec<u8>,
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    /// The prefix for which `key_words` was counted.
    prefix: usize,
    key_words: usize,
    value_words: usize,
    /// Nodes that were completed.
    nodes: u64,
}

/// A node that is complete: of so many entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Done {
    entries: usize,
    /// It is the last of its level.
    last: bool,
    only: bool,
}

impl Done {
    /// Whether it is its level's only node.
    pub(super) fn is_root(self) -> bool {
        self.only
    }
}

impl Row {
    pub(super) fn new(level: u8, limit: usize) -> Self {
        Self {
            level,
            limit,
            lower: Vec::new(),
            bytes: Vec::new(),
            entries: Vec::new(),
            prefix: 0,
            key_words: 0,
            value_words: 0,
            nodes: 0,
        }
    }

    fn key(&self, i: usize) -> &[u8] {
        let e = &self.entries[i];
        &self.bytes[e.at..e.at + e.key_len]
    }

    fn value(&self, i: usize) -> &[u8] {
        let e = &self.entries[i];
        &self.bytes[e.at + e.key_len..][..e.value_len]
    }

    /// Words that the key of entry `i` takes behind a prefix.
    fn words_of_key(&self, i: usize, key_len: usize, prefix: usize) -> usize {
        match self.level > 0 && i == 0 {
            true => 0,
            false => (key_len - prefix).div_ceil(8),
        }
    }

    /// Words of a node of all entries with this upper fence.
    fn words(&mut self, upper: Option<&[u8]>) -> usize {
        let prefix = upper.map_or(0, |upper| common_prefix(&self.lower, upper));
        if prefix != self.prefix {
            self.prefix = prefix;
            self.key_words = (0..self.entries.len())
                .map(|i| self.words_of_key(i, self.entries[i].key_len, prefix))
                .sum();
        }
        let fences = self.lower.len().div_ceil(8) + upper.map_or(0, |u| u.len().div_ceil(8));
        HEADER_WORDS + fences + self.entries.len() + self.key_words + self.value_words
    }

    /// Takes an entry in. If the node is complete without the last one before it, says so; that node
    /// must be built and passed before the next is added.
    pub(super) fn add(&mut self, key: &[u8], kind: u8, value: &[u8]) -> Option<Done> {
        let mut done = None;
        let n = self.entries.len();
        if n > 0 {
            let upper = &key[..self.fence(self.key(n - 1), key)];
            // One entry always fits.
            if n > 1 && self.words(Some(upper)) > self.limit {
                done = Some(Done {
                    entries: n - 1,
                    last: false,
                    only: false,
                });
            }
        }
        let at = self.bytes.len();
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        self.key_words += self.words_of_key(n, key.len(), self.prefix.min(key.len()));
        self.value_words += entry_words(0, value.len());
        self.entries.push(Entry {
            at,
            key_len: key.len(),
            value_len: value.len(),
            kind,
        });
        done
    }

    /// The next of the nodes that hold what is left; `None` if nothing is.
    pub(super) fn rest(&mut self) -> Option<Done> {
        let n = self.entries.len();
        if n == 0 {
            return None;
        }
        // Without an upper fence there is no prefix: the keys may not fit then.
        let last = n == 1 || self.words(None) <= self.limit;
        Some(Done {
            entries: if last { n } else { n - 1 },
            last,
            only: last && self.nodes == 0,
        })
    }

    /// The upper fence of a complete node.
    fn upper(&self, done: &Done) -> Option<&[u8]> {
        (!done.last).then(|| {
            let next = self.key(done.entries);
            &next[..self.fence(self.key(done.entries - 1), next)]
        })
    }

    /// Bytes of `next` that will do as a fence between it and `key`.
    fn fence(&self, key: &[u8], next: &[u8]) -> usize {
        match self.level {
            0 => common_prefix(key, next) + 1,
            // A child begins at its own lower fence.
            _ => next.len(),
        }
    }

    /// Builds a complete node. Its place is not known yet.
    pub(super) fn build(&self, done: &Done, page: Page<'_>, tree: TreeId, store: u64) {
        let bounds = Bounds {
            lower: self.lower.clone(),
            upper: self.upper(done).map(<[u8]>::to_vec),
        };
        // Commit 0: whatever view may read the tree may read it as it is.
        page.init(self.level, tree, store, 0, &bounds);
        for i in 0..done.entries {
            let key = match self.level > 0 && i == 0 {
                true => &self.lower[..page.prefix_len()],
                false => self.key(i),
            };
            page.insert(i, key, self.entries[i].kind, self.value(i));
        }
    }

    /// Passes a node that was built; returns its lower fence.
    pub(super) fn pass(&mut self, done: &Done) -> Vec<u8> {
        let upper = self.upper(done).map(<[u8]>::to_vec).unwrap_or_default();
        let lower = std::mem::replace(&mut self.lower, upper);
        let from = match self.entries.get(done.entries) {
            Some(next) => next.at,
            None => self.bytes.len(),
        };
        self.bytes.drain(..from);
        self.entries.drain(..done.entries);
        self.entries.iter_mut().for_each(|e| e.at -= from);
        self.nodes += 1;
        self.value_words = self
            .entries
            .iter()
            .map(|e| entry_words(0, e.value_len))
            .sum();
        // Of no prefix, so that the words of keys are counted anew.
        self.prefix = usize::MAX;
        lower
    }
}

/// What an inner node stores of a child.
pub(super) fn child(ptr: BlockPtr) -> [u8; CHILD_WORDS * 8] {
    let mut out = [0; CHILD_WORDS * 8];
    for (bytes, word) in out.chunks_exact_mut(8).zip(ptr.to_words()) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    out
}
