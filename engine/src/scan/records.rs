//! Records copied out of a leaf, all in one buffer.

use crate::commit::versions::Image;
use crate::node::Page;

/// Records in key order. Their bytes lie one after another in no order, so that
/// one can be added or exchanged without moving the others.
#[derive(Debug, Default)]
pub(super) struct Records {
    bytes: Vec<u8>,
    places: Vec<Place>,
}

/// Where a record lies in the buffer: the value follows the key.
#[derive(Clone, Copy, Debug)]
struct Place {
    at: usize,
    key_len: usize,
    value_len: usize,
    kind: u8,
}

impl Records {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.places.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Copies these slots of a leaf.
    pub(super) fn copy(&mut self, page: Page<'_>, slots: std::ops::Range<usize>) {
        for i in slots {
            let at = self.bytes.len();
            page.copy_key(i, &mut self.bytes);
            let value = self.bytes.len();
            page.copy_value(i, &mut self.bytes);
            self.places.push(Place {
                at,
                key_len: value - at,
                value_len: self.bytes.len() - value,
                kind: page.entry(i).kind,
            });
        }
    }

    pub(super) fn key(&self, i: usize) -> &[u8] {
        let p = self.places[i];
        &self.bytes[p.at..p.at + p.key_len]
    }

    /// Kind and stored value.
    pub(super) fn value(&self, i: usize) -> (u8, &[u8]) {
        let p = self.places[i];
        let at = p.at + p.key_len;
        (p.kind, &self.bytes[at..at + p.value_len])
    }

    /// How many records, from the first on, have keys of which this holds; of those
    /// behind them it must not.
    pub(super) fn partition(&self, mut holds: impl FnMut(&[u8]) -> bool) -> usize {
        self.places
            .partition_point(|p| holds(&self.bytes[p.at..p.at + p.key_len]))
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
            at: self.bytes.len(),
            key_len: key.len(),
            value_len: value.len(),
            kind,
        };
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(&value);
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
