//! Changing a node. Whoever calls these holds the node's latch or owns the page.

use super::image::NodeBuf;
use super::page::{
    CHILD_WORDS, Child, Entry, HEADER_WORDS, Page, common_prefix, entry_words, head_of,
};
use crate::format::node::{KIND_CHILD, MAGIC, NO_UPPER};
use crate::format::{BlockPtr, Csn, Generation, TreeId};

/// The fences of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) lower: Vec<u8>,
    pub(crate) upper: Option<Vec<u8>>,
}

impl Bounds {
    pub(crate) fn whole() -> Self {
        Self {
            lower: Vec::new(),
            upper: None,
        }
    }

    pub(crate) fn of(page: Page<'_>) -> Self {
        Self {
            lower: page.lower(),
            upper: page.upper(),
        }
    }
}

impl Page<'_> {
    /// Makes an empty node. The identity (address, birth) is set apart.
    pub(crate) fn init(self, level: u8, tree: TreeId, store: u64, csn: Csn, bounds: &Bounds) {
        for i in 0..HEADER_WORDS {
            self.store(i, 0);
        }
        let end = self.len_words();
        let lower_at = end - bounds.lower.len().div_ceil(8);
        self.write_bytes(lower_at, &bounds.lower);
        let (upper_len, heap, prefix) = match &bounds.upper {
            Some(upper) => {
                let at = lower_at - upper.len().div_ceil(8);
                self.write_bytes(at, upper);
                (upper.len() as u16, at, common_prefix(&bounds.lower, upper))
            }
            None => (NO_UPPER, lower_at, 0),
        };
        self.store(0, u64::from(MAGIC) | (u64::from(level) << 32));
        self.store(3, csn);
        self.store(4, u64::from(tree) | ((heap as u64) << 32));
        self.store(
            5,
            prefix as u64 | ((bounds.lower.len() as u64) << 16) | (u64::from(upper_len) << 32),
        );
        self.store(6, store);
    }

    /// Writes the node's own address and birth.
    pub(crate) fn set_identity(self, addr: u64, birth: Generation) {
        self.store(1, addr);
        self.store(2, birth.0);
    }

    /// Writes the number of the node's tree.
    pub(crate) fn set_tree(self, tree: TreeId) {
        let rest = self.load(4) & !u64::from(TreeId::MAX);
        self.store(4, rest | u64::from(tree));
    }

    pub(crate) fn set_csn(self, csn: Csn) {
        self.store(3, csn);
    }

    fn set_slots(self, n: usize) {
        self.store(0, (self.load(0) & 0xFFFF_FFFF_FFFF) | ((n as u64) << 48));
    }

    fn set_heap(self, heap: usize, garbage: usize) {
        let tree = self.load(4) & 0xFFFF_FFFF;
        self.store(4, tree | ((heap as u64) << 32) | ((garbage as u64) << 48));
    }

    fn write_bytes(self, offset: usize, bytes: &[u8]) {
        let (whole, rest) = bytes.as_chunks::<8>();
        for (i, word) in whole.iter().enumerate() {
            self.store(offset + i, u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut w = [0; 8];
            w[..rest.len()].copy_from_slice(rest);
            self.store(offset + whole.len(), u64::from_le_bytes(w));
        }
    }

    /// Whether an entry of these lengths fits, dead entries cleared away.
    pub(crate) fn fits(self, key_len: usize, value_len: usize) -> bool {
        self.free_words() > entry_words(key_len - self.prefix_len().min(key_len), value_len)
    }

    /// Inserts an entry before slot `pos`. It must fit.
    pub(crate) fn insert(self, pos: usize, key: &[u8], kind: u8, value: &[u8]) {
        let suffix = &key[self.prefix_len()..];
        let need = entry_words(suffix.len(), value.len());
        if self.contiguous_words() <= need {
            self.compact();
        }
        assert!(
            self.contiguous_words() > need,
            "an entry was inserted where it does not fit"
        );
        let at = self.put_entry(suffix, kind, value);
        let n = self.slots();
        debug_assert!(pos <= n);
        for i in (pos..n).rev() {
            self.store(HEADER_WORDS + i + 1, self.slot(i));
        }
        self.store(HEADER_WORDS + pos, head_of(suffix) | at as u64);
        self.set_slots(n + 1);
    }

    fn put_entry(self, suffix: &[u8], kind: u8, value: &[u8]) -> usize {
        let at = self.heap() - entry_words(suffix.len(), value.len());
        self.store(
            at,
            u64::from(kind) | ((suffix.len() as u64) << 16) | ((value.len() as u64) << 32),
        );
        self.write_bytes(at + 1, suffix);
        self.write_bytes(at + 1 + suffix.len().div_ceil(8), value);
        self.set_heap(at, self.garbage());
        at
    }

    /// Takes slot `pos` out.
    pub(crate) fn remove(self, pos: usize) {
        let dead = self.entry(pos).words();
        let n = self.slots();
        for i in pos + 1..n {
            self.store(HEADER_WORDS + i - 1, self.slot(i));
        }
        self.set_slots(n - 1);
        self.set_heap(self.heap(), self.garbage() + dead);
    }

    /// Gives slot `pos` another value. It must fit.
    pub(crate) fn replace(self, pos: usize, kind: u8, value: &[u8]) {
        let e = self.entry(pos);
        if e.value_len.div_ceil(8) == value.len().div_ceil(8) {
            let word = self.load(e.offset) & 0xFFFF_FF00;
            self.store(
                e.offset,
                word | u64::from(kind) | ((value.len() as u64) << 32),
            );
            self.write_bytes(e.value_offset(), value);
        } else {
            let key = self.key(pos);
            self.remove(pos);
            self.insert(pos, &key, kind, value);
        }
    }

    /// Clears dead entries away.
    fn compact(self) {
        let copy = NodeBuf::copy_of(self);
        let old = copy.page();
        let mut heap = self.heap_end();
        for i in 0..old.slots() {
            let e: Entry = old.entry(i);
            heap -= e.words();
            for w in 0..e.words() {
                self.store(heap + w, old.load(e.offset + w));
            }
            self.store(HEADER_WORDS + i, (old.slot(i) & !0xFFFF) | heap as u64);
        }
        self.set_heap(heap, 0);
    }

    /// Appends slot `i` of `from`, whose key must sort behind all that is here.
    pub(crate) fn append_from(self, from: Page<'_>, i: usize) {
        let key = from.key(i);
        let mut value = Vec::new();
        from.copy_value(i, &mut value);
        self.insert(self.slots(), &key, from.entry(i).kind, &value);
    }

    /// Inserts a child at `pos` whose keys begin at `key`; at slot 0 the key is
    /// the lower fence and is not stored.
    pub(crate) fn insert_child(self, pos: usize, key: &[u8], child: Child) {
        let key = if pos == 0 {
            &self.lower()[..self.prefix_len()]
        } else {
            key
        };
        let mut value = [0; CHILD_WORDS * 8];
        let p = child.ptr.to_words();
        for (chunk, w) in value
            .chunks_exact_mut(8)
            .zip([p[0], p[1], p[2], u64::from(child.hint)])
        {
            chunk.copy_from_slice(&w.to_le_bytes());
        }
        self.insert(pos, key, KIND_CHILD, &value);
    }

    /// Sets the child of slot `i`.
    pub(crate) fn set_child(self, i: usize, child: Child) {
        let at = self.entry(i).value_offset();
        for (w, word) in child.ptr.to_words().into_iter().enumerate() {
            self.store(at + w, word);
        }
        self.store(at + 3, u64::from(child.hint));
    }

    /// Sets the hint of slot `i` alone. A racing reader may see either.
    pub(crate) fn set_hint(self, i: usize, hint: u32) {
        self.store(self.entry(i).value_offset() + 3, u64::from(hint));
    }

    /// Sets the pointer of slot `i`, and leaves the hint.
    pub(crate) fn set_ptr(self, i: usize, ptr: BlockPtr) {
        let hint = self.child(i).hint;
        self.set_child(i, Child { ptr, hint });
    }

    /// Whether room for any separator and child is left.
    pub(crate) fn fits_child(self, separator: &[u8]) -> bool {
        self.fits(separator.len(), CHILD_WORDS * 8)
    }
}
