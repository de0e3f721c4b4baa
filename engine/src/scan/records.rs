//! Records copied out of a leaf, all in one buffer.

use std::cell::Cell;

use crate::commit::versions::Image;
use crate::node::Page;

/// Buffers of more words than this are not kept for the next scan.
const KEPT: usize = 8 << 10;

thread_local! {
    /// The buffers of the scan that this thread ended last.
    static SPARE: Cell<Option<Records>> = const { Cell::new(None) };
}

/// Records in key order. Their bytes lie one after another in no order, so that
/// one can be added or exchanged without moving the others. Each begins at a word.
#[derive(Debug, Default)]
pub(super) struct Records {
    /// Bytes as they lie in memory.
    words: Vec<u64>,
    places: Vec<Place>,
    prefix: Vec<u8>,
}

/// Where a record lies in the buffer.
#[derive(Clone, Copy, Debug)]
struct Place {
    key: (usize, usize),
    value: (usize, usize),
    kind: u8,
}

/// The bytes given as offset and length.
fn part(words: &[u64], (at, len): (usize, usize)) -> &[u8] {
    &bytemuck::cast_slice(words)[at..at + len]
}

impl Records {
    /// Empty ones, in the buffers that [`Records::keep_spare`] left, if there are any.
    pub(super) fn spare() -> Self {
        SPARE.take().unwrap_or_default()
    }

    /// Leaves the buffers to the next scan of this thread.
    pub(super) fn keep_spare(self) {
        if self.words.capacity() <= KEPT && self.places.capacity() <= KEPT {
            // A thread that is ending keeps nothing.
            let _ = SPARE.try_with(|spare| spare.set(Some(self)));
        }
    }

    pub(super) fn clear(&mut self) {
        self.words.clear();
        self.places.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Copies these slots of a leaf.
    pub(super) fn copy(&mut self, page: Page<'_>, slots: std::ops::Range<usize>) {
        self.places.reserve(slots.len());
        self.prefix.clear();
        page.copy_prefix(&mut self.prefix);
        let prefix = self.prefix.len();
        for i in slots {
            let e = page.entry(i);
            let at = self.words.len() * 8;
            let key_len = prefix + e.key_len;
            let value = if prefix == 0 {
                // Key and value follow each other in the node, in whole words both.
                page.copy_words(e.offset + 1, e.words() - 1, &mut self.words);
                at + key_len.next_multiple_of(8)
            } else {
                self.words.resize(at / 8 + key_len.div_ceil(8), 0);
                let key = &mut bytemuck::cast_slice_mut(&mut self.words)[at..at + key_len];
                key[..prefix].copy_from_slice(&self.prefix);
                page.copy_to(e.offset + 1, &mut key[prefix..]);
                let value = self.words.len() * 8;
                page.copy_words(e.value_offset(), e.value_len.div_ceil(8), &mut self.words);
                value
            };
            // What was read beside a change may say anything.
            let end = self.words.len() * 8;
            let within = |at: usize, len: usize| (at.min(end), len.min(end - at.min(end)));
            self.places.push(Place {
                key: within(at, key_len),
                value: within(value, e.value_len),
                kind: e.kind,
            });
        }
    }

    /// Appends `bytes` and says where.
    fn append(&mut self, bytes: &[u8]) -> (usize, usize) {
        let at = self.words.len() * 8;
        self.words
            .resize(self.words.len() + bytes.len().div_ceil(8), 0);
        bytemuck::cast_slice_mut(&mut self.words)[at..at + bytes.len()].copy_from_slice(bytes);
        (at, bytes.len())
    }

    pub(super) fn key(&self, i: usize) -> &[u8] {
        part(&self.words, self.places[i].key)
    }

    /// Kind and stored value.
    pub(super) fn value(&self, i: usize) -> (u8, &[u8]) {
        let p = self.places[i];
        (p.kind, part(&self.words, p.value))
    }

    /// How many records, from the first on, have keys of which this holds; of those
    /// behind them it must not.
    pub(super) fn partition(&self, mut holds: impl FnMut(&[u8]) -> bool) -> usize {
        self.places
            .partition_point(|p| holds(part(&self.words, p.key)))
    }

    /// Keeps the records with keys of which this holds.
    pub(super) fn retain(&mut self, mut holds: impl FnMut(&[u8]) -> bool) {
        let words = &self.words;
        self.places.retain(|p| holds(part(words, p.key)));
    }

    /// Keeps the records of this range.
    pub(super) fn keep(&mut self, range: std::ops::Range<usize>) {
        self.places.truncate(range.end);
        self.places.drain(..range.start);
    }

    /// Makes the record of `key` what `image` says; `None`: there is none.
    pub(super) fn set(&mut self, key: &[u8], image: Image) {
        let i = self.partition(|k| k < key);
        let found = i < self.len() && self.key(i) == key;
        let Some((kind, value)) = image else {
            if found {
                self.places.remove(i);
            }
            return;
        };
        let place = Place {
            key: self.append(key),
            value: self.append(&value),
            kind,
        };
        if found {
            self.places[i] = place;
        } else {
            self.places.insert(i, place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_stay_in_order_however_they_come() {
        let mut r = Records::default();
        for key in [b"m", b"c", b"x", b"c"] {
            r.set(key, Some((1, key.repeat(3))));
        }
        r.set(b"x", None);
        r.set(b"q", None);
        r.set(b"m", Some((2, b"new".to_vec())));
        let all: Vec<_> = (0..r.len()).map(|i| (r.key(i), r.value(i))).collect();
        assert_eq!(
            all,
            [(&b"c"[..], (1, &b"ccc"[..])), (&b"m"[..], (2, &b"new"[..]))]
        );
        r.keep(1..2);
        assert_eq!((r.len(), r.key(0)), (1, &b"m"[..]));
        r.clear();
        assert_eq!(r.len(), 0);
    }
}
