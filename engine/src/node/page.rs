//! Reading a node in place.
//!
//! A page is a slice of atomic words: a frame in the arena, or a private buffer.
//! Every access is a relaxed atomic load or store of an aligned word, bounded by
//! the page, so that a reader whose page changes under it gets wrong values but
//! nothing worse; its latch version then tells it to throw them away.

use gaur_iodriver::sync::atomic::{AtomicU64, Ordering};
use std::cmp::Ordering as Order;

use gaur_iodriver::fault;

use super::{MAX_KEY, max_inline};
use crate::cache::prefetch_lines;
use crate::core::MAX_PIECES;
use crate::format::node::{HEADER, KIND_CHILD, KIND_EXTENT, KIND_VALUE, NO_UPPER};
use crate::format::{BlockPtr, Csn, ExtentPtr, Generation, TreeId};

/// Words of the node header.
pub(crate) const HEADER_WORDS: usize = HEADER / 8;
/// Words of the value of an inner entry: pointer and hint.
pub(crate) const CHILD_WORDS: usize = 4;

/// Words of an entry that are asked for at most; what follows the processor finds
/// by itself.
const PREFETCHED: usize = 64;

/// A node's words.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page<'a> {
    words: &'a [AtomicU64],
}

/// An entry's place: word offset, key length, value length, kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) offset: usize,
    pub(crate) kind: u8,
    pub(crate) key_len: usize,
    pub(crate) value_len: usize,
}

impl Entry {
    pub(crate) fn value_offset(self) -> usize {
        self.offset + 1 + self.key_len.div_ceil(8)
    }

    /// Words it takes in the heap.
    pub(crate) fn words(self) -> usize {
        entry_words(self.key_len, self.value_len)
    }
}

/// Words that an entry takes in the heap.
pub(crate) fn entry_words(key_len: usize, value_len: usize) -> usize {
    1 + key_len.div_ceil(8) + value_len.div_ceil(8)
}

/// A child pointer with its hint: frame number + 1, or 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Child {
    pub(crate) ptr: BlockPtr,
    pub(crate) hint: u32,
}

/// The first six bytes as a number that sorts as they do, in the high 48 bits.
#[inline]
pub(crate) fn head_of(suffix: &[u8]) -> u64 {
    be_word(suffix, 0) & !0xFFFF
}

/// Bytes `8 * i ..` of `bytes` as a big-endian word, padded with zeros.
#[inline]
fn be_word(bytes: &[u8], i: usize) -> u64 {
    match bytes.get(i * 8..i * 8 + 8) {
        Some(chunk) => u64::from_be_bytes(chunk.try_into().expect("8 bytes")),
        None => {
            let mut w = [0; 8];
            let rest = bytes.get(i * 8..).unwrap_or(&[]);
            w[..rest.len()].copy_from_slice(rest);
            u64::from_be_bytes(w)
        }
    }
}

impl<'a> Page<'a> {
    pub(crate) fn new(words: &'a [AtomicU64]) -> Self {
        debug_assert!(words.len() >= 2 * HEADER_WORDS);
        Self { words }
    }

    pub(crate) fn len_words(self) -> usize {
        self.words.len()
    }

    #[inline]
    pub(crate) fn load(self, i: usize) -> u64 {
        self.words.get(i).map_or(0, |w| w.load(Ordering::Relaxed))
    }

    #[inline]
    pub(crate) fn store(self, i: usize, word: u64) {
        self.words[i].store(word, Ordering::Relaxed);
    }

    pub(crate) fn level(self) -> u8 {
        (self.load(0) >> 32) as u8
    }

    #[inline]
    pub(crate) fn slots(self) -> usize {
        ((self.load(0) >> 48) as usize).min(self.words.len() - HEADER_WORDS)
    }

    pub(crate) fn addr(self) -> u64 {
        self.load(1)
    }

    pub(crate) fn birth(self) -> Generation {
        Generation(self.load(2))
    }

    pub(crate) fn csn(self) -> Csn {
        self.load(3)
    }

    pub(crate) fn tree(self) -> TreeId {
        self.load(4) as u32
    }

    /// Word offset of the lowest entry.
    pub(crate) fn heap(self) -> usize {
        (self.load(4) >> 32) as u16 as usize
    }

    /// Words of dead entries.
    pub(crate) fn garbage(self) -> usize {
        (self.load(4) >> 48) as usize
    }

    #[inline]
    pub(crate) fn prefix_len(self) -> usize {
        self.load(5) as u16 as usize
    }

    pub(crate) fn lower_len(self) -> usize {
        (self.load(5) >> 16) as u16 as usize
    }

    /// Length of the upper fence; `None` if there is no upper bound.
    pub(crate) fn upper_len(self) -> Option<usize> {
        let len = (self.load(5) >> 32) as u16;
        (len != NO_UPPER).then_some(usize::from(len))
    }

    /// Words between the slots and the heap, dead entries counted as free.
    pub(crate) fn free_words(self) -> usize {
        (self.heap() + self.garbage()).saturating_sub(HEADER_WORDS + self.slots())
    }

    /// Words between the slots and the heap.
    pub(crate) fn contiguous_words(self) -> usize {
        self.heap().saturating_sub(HEADER_WORDS + self.slots())
    }

    fn lower_offset(self) -> usize {
        self.words
            .len()
            .saturating_sub(self.lower_len().div_ceil(8))
    }

    fn upper_offset(self) -> usize {
        self.lower_offset()
            .saturating_sub(self.upper_len().unwrap_or(0).div_ceil(8))
    }

    /// Word offset of the first byte behind the heap.
    pub(crate) fn heap_end(self) -> usize {
        self.upper_offset()
    }

    /// Appends `len` bytes from word `offset` on to `out`.
    pub(crate) fn copy_bytes(self, offset: usize, len: usize, out: &mut Vec<u8>) {
        let len = len.min(self.words.len() * 8);
        let start = out.len();
        out.resize(start + len.next_multiple_of(8), 0);
        let words = self.words.get(offset..).unwrap_or(&[]);
        for (bytes, word) in out[start..].chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
        }
        out.truncate(start + len);
    }

    /// Copies the bytes from word `offset` on to `out`, as far as there are.
    pub(crate) fn copy_to(self, offset: usize, out: &mut [u8]) {
        let words = self.words.get(offset..).unwrap_or(&[]);
        for (bytes, word) in out.chunks_mut(8).zip(words) {
            bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes()[..bytes.len()]);
        }
    }

    /// Appends `words` words from word `offset` on to `out`, as far as there are: their
    /// bytes as they lie here.
    pub(crate) fn copy_words(self, offset: usize, words: usize, out: &mut Vec<u64>) {
        let from = offset.min(self.words.len());
        let to = offset.saturating_add(words).min(self.words.len()).max(from);
        let words = self.words[from..to].iter();
        out.extend(words.map(|w| w.load(Ordering::Relaxed).to_le()));
    }

    /// Asks the processor for the entries of these slots and for the fences, so that
    /// their misses overlap. A hint: how long an entry is, is taken from their mean.
    pub(crate) fn prefetch(self, slots: std::ops::Range<usize>) {
        prefetch_lines(&self.words[self.words.len() - 8..]);
        let all = self.heap_end().saturating_sub(self.heap());
        let mean = (all / self.slots().max(1)).min(PREFETCHED);
        for i in slots {
            let at = (self.slot(i) & 0xFFFF) as usize;
            // From the beginning of its line on.
            let end = (at + mean).min(self.words.len());
            if let Some(words) = self.words.get(at & !7..end) {
                prefetch_lines(words);
            }
        }
    }

    /// About where [`Page::search`] will end: reads no entry.
    pub(crate) fn guess(self, key: &[u8]) -> usize {
        let head = head_of(key.get(self.prefix_len()..).unwrap_or(&[]));
        let (mut low, mut high) = (0, self.slots());
        while low < high {
            let mid = (low + high) / 2;
            if self.slot(mid) & !0xFFFF < head {
                low = mid + 1;
            } else {
                high = mid;
            }
        }
        low
    }

    /// Appends what all keys here begin with, and their slots leave out, to `out`.
    pub(crate) fn copy_prefix(self, out: &mut Vec<u8>) {
        self.copy_bytes(self.lower_offset(), self.prefix_len(), out);
    }

    /// The lower fence: the least key that belongs here.
    pub(crate) fn lower(self) -> Vec<u8> {
        let mut out = Vec::new();
        self.copy_bytes(self.lower_offset(), self.lower_len(), &mut out);
        out
    }

    /// The upper fence, exclusive; `None`: no bound.
    pub(crate) fn upper(self) -> Option<Vec<u8>> {
        let len = self.upper_len()?;
        let mut out = Vec::new();
        self.copy_bytes(self.upper_offset(), len, &mut out);
        Some(out)
    }

    /// Whether `key` lies within the fences.
    pub(crate) fn covers(self, key: &[u8]) -> bool {
        let lower = self.compare(self.lower_offset(), self.lower_len(), key, 0);
        lower != Order::Greater
            && self
                .upper_len()
                .is_none_or(|len| self.compare(self.upper_offset(), len, key, 0) == Order::Greater)
    }

    /// Orders the `len` bytes at word `offset` against `key`, from word `from` on.
    #[inline]
    fn compare(self, offset: usize, len: usize, key: &[u8], from: usize) -> Order {
        let words = len.max(key.len()).div_ceil(8);
        let mine = len.div_ceil(8);
        for i in from..words {
            let a = if i < mine {
                self.load(offset + i).swap_bytes()
            } else {
                0
            };
            let b = be_word(key, i);
            if a != b {
                return a.cmp(&b);
            }
        }
        len.cmp(&key.len())
    }

    #[inline]
    pub(crate) fn slot(self, i: usize) -> u64 {
        self.load(HEADER_WORDS + i)
    }

    #[inline]
    pub(crate) fn entry(self, i: usize) -> Entry {
        self.entry_at((self.slot(i) & 0xFFFF) as usize)
    }

    #[inline]
    pub(crate) fn entry_at(self, offset: usize) -> Entry {
        let word = self.load(offset);
        Entry {
            offset,
            kind: word as u8,
            key_len: (word >> 16) as u16 as usize,
            value_len: (word >> 32) as usize,
        }
    }

    /// The first slot whose key is not less than `key`, and whether it is equal.
    /// `key` must lie within the fences.
    #[inline]
    pub(crate) fn search(self, key: &[u8]) -> (usize, bool) {
        let suffix = key.get(self.prefix_len()..).unwrap_or(&[]);
        let head = head_of(suffix);
        let (mut low, mut high) = (0, self.slots());
        while low < high {
            let mid = (low + high) / 2;
            let slot = self.slot(mid);
            let order = (slot & !0xFFFF).cmp(&head).then_with(|| {
                let e = self.entry_at((slot & 0xFFFF) as usize);
                let from = usize::from(fault!(KeyBeyondHead));
                self.compare(e.offset + 1, e.key_len, suffix, from)
            });
            match order {
                Order::Less => low = mid + 1,
                Order::Equal => return (mid, true),
                Order::Greater => high = mid,
            }
        }
        (low, false)
    }

    /// The slot of the child that covers `key`, in an inner node.
    #[inline]
    pub(crate) fn child_slot(self, key: &[u8]) -> usize {
        match self.search(key) {
            (i, true) => i,
            (i, false) => i.saturating_sub(1),
        }
    }

    /// The child of slot `i` of an inner node.
    #[inline]
    pub(crate) fn child(self, i: usize) -> Child {
        let at = self.entry(i).value_offset();
        Child {
            ptr: BlockPtr::from_words([self.load(at), self.load(at + 1), self.load(at + 2)]),
            hint: self.load(at + 3) as u32,
        }
    }

    /// The whole key of slot `i`.
    pub(crate) fn key(self, i: usize) -> Vec<u8> {
        let mut out = Vec::new();
        self.copy_key(i, &mut out);
        out
    }

    /// Appends the whole key of slot `i` to `out`.
    pub(crate) fn copy_key(self, i: usize, out: &mut Vec<u8>) {
        let e = self.entry(i);
        self.copy_bytes(self.lower_offset(), self.prefix_len(), out);
        self.copy_bytes(e.offset + 1, e.key_len, out);
    }

    /// Appends the value of slot `i` to `out`.
    pub(crate) fn copy_value(self, i: usize, out: &mut Vec<u8>) {
        let e = self.entry(i);
        self.copy_bytes(e.value_offset(), e.value_len, out);
    }

    /// Whether the bytes that fill the last word of a key are zero, on which
    /// comparing it by words relies.
    fn is_padded(self, offset: usize, len: usize) -> bool {
        let used = len % 8;
        used == 0 || self.load(offset + len / 8) >> (used * 8) == 0
    }

    /// Checks the structure of a node that came from the device: after this, later
    /// code may rely on it. `Err` says what is wrong.
    pub(crate) fn check(self) -> Result<(), &'static str> {
        let n = (self.load(0) >> 48) as usize;
        let heap = self.heap();
        let end = self.heap_end();
        if HEADER_WORDS + n > heap || heap > end || end > self.words.len() {
            return Err("slots and heap overlap");
        }
        if self.lower_len() > MAX_KEY || self.upper_len().is_some_and(|len| len > MAX_KEY) {
            return Err("a fence is longer than a key can be");
        }
        let padded = self.is_padded(self.lower_offset(), self.lower_len())
            && self.is_padded(self.upper_offset(), self.upper_len().unwrap_or(0));
        if !padded {
            return Err("a fence is not padded with zeros");
        }
        let (lower, upper) = (self.lower(), self.upper());
        if let Some(upper) = &upper {
            if *upper <= lower {
                return Err("fences are out of order");
            }
            if common_prefix(&lower, upper) != self.prefix_len() {
                return Err("the prefix is not that of the fences");
            }
        } else if self.prefix_len() != 0 {
            return Err("a prefix without an upper fence");
        }
        if (self.load(0) >> 40) as u8 != 0 || self.load(5) >> 48 != 0 || self.load(7) != 0 {
            return Err("header has bytes where none belong");
        }
        let inner = self.level() > 0;
        if inner && n == 0 {
            return Err("an inner node without children");
        }
        let mut used = 0;
        let mut last: Option<Vec<u8>> = None;
        for i in 0..n {
            let e = self.entry(i);
            if e.offset < heap
                || e.offset >= end
                || e.value_offset() + e.value_len.div_ceil(8) > end
            {
                return Err("an entry lies outside the heap");
            }
            used += e.words();
            if inner != (e.kind == KIND_CHILD) || (inner && e.value_len != CHILD_WORDS * 8) {
                return Err("an entry of a wrong kind");
            }
            if inner && self.load(e.value_offset() + 3) != 0 {
                return Err("a child pointer has bytes where none belong");
            }
            if !inner && ![KIND_VALUE, KIND_EXTENT].contains(&e.kind) {
                return Err("an entry of an unknown kind");
            }
            let pieces = e.value_len / ExtentPtr::SIZE;
            let whole = e.value_len.is_multiple_of(ExtentPtr::SIZE);
            if e.kind == KIND_EXTENT && (pieces == 0 || !whole) {
                return Err("a large value without whole pieces");
            }
            if inner && self.child(i).ptr.checksum == 0 {
                return Err("a child pointer without a checksum");
            }
            let key_len = self.prefix_len() + e.key_len;
            if key_len > MAX_KEY {
                return Err("a key is longer than it can be");
            }
            // What is longer could not be split off.
            let most = match e.kind {
                KIND_VALUE => max_inline(self.words.len() as u32 * 8, key_len),
                KIND_EXTENT => MAX_PIECES * ExtentPtr::SIZE,
                _ => CHILD_WORDS * 8,
            };
            if e.value_len > most {
                return Err("a value is longer than a node takes");
            }
            if !self.is_padded(e.offset + 1, e.key_len) {
                return Err("a key is not padded with zeros");
            }
            let key = self.key(i);
            if inner && i == 0 {
                if e.key_len != 0 {
                    return Err("the first separator is not empty");
                }
            } else if !self.covers(&key) {
                return Err("a key outside the fences");
            }
            if last.as_ref().is_some_and(|l| *l >= key) {
                return Err("keys are out of order");
            }
            if self.slot(i) & !0xFFFF != head_of(&key[self.prefix_len()..]) {
                return Err("a key head differs from its key");
            }
            last = Some(key);
        }
        if used + self.garbage() != end - heap {
            return Err("the heap does not add up");
        }
        Ok(())
    }
}

/// Length of the common prefix.
pub(crate) fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}
