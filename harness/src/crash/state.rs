//! What a writer's keys hold: as planned, and as found in the store.

use std::collections::BTreeMap;

use gaur::{Tree, WriteBatch};

use crate::run::permute::mix;

/// The trees that the writers write to; a batch may write to both.
pub(crate) const TREES: [&str; 2] = ["crash-a", "crash-b"];

/// A key of a writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slot {
    pub(crate) tree: u8,
    pub(crate) number: u16,
}

/// What a value says of itself: who wrote it when, and how long it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) round: u32,
    pub(crate) thread: u16,
    pub(crate) seq: u64,
    pub(crate) len: u32,
}

/// One change of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Put(Slot, Stamp),
    Delete(Slot),
}

/// One commit of a writer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Commit {
    /// Its number in this writer's round, from 1 on.
    pub(crate) seq: u64,
    pub(crate) sync: bool,
    pub(crate) changes: Vec<Change>,
}

/// What all keys of a writer hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    slots: BTreeMap<Slot, Stamp>,
}

impl Slot {
    /// The key in the store.
    pub(crate) fn key(self, thread: u16) -> Vec<u8> {
        format!("{}{:05}", prefix(thread), self.number).into_bytes()
    }
}

/// What all keys of a writer begin with.
fn prefix(thread: u16) -> String {
    format!("writer-{thread:03}/")
}

impl Stamp {
    /// Bytes that the stamp itself takes of its value.
    pub(crate) const BYTES: u32 = 20;

    /// The value with this stamp under `key`: the stamp, then a stream that
    /// depends on both.
    pub(crate) fn value(self, key: &[u8]) -> Vec<u8> {
        let len = self.len.max(Self::BYTES) as usize;
        let mut value = Vec::with_capacity(len + 8);
        value.extend_from_slice(&self.round.to_le_bytes());
        value.extend_from_slice(&u32::from(self.thread).to_le_bytes());
        value.extend_from_slice(&self.seq.to_le_bytes());
        value.extend_from_slice(&self.len.to_le_bytes());
        let mut state = key
            .iter()
            .fold(mix(self.seq ^ (u64::from(self.round) << 32)), |s, &b| {
                mix(s ^ u64::from(b))
            });
        while value.len() < len {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            value.extend_from_slice(&mix(state).to_le_bytes());
        }
        value.truncate(len);
        value
    }

    /// The stamp of a value, if every byte of it is as [`value`](Self::value) made it.
    pub(crate) fn of(key: &[u8], value: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_le_bytes(value.get(at..at + 4)?.try_into().ok()?));
        let stamp = Self {
            round: word(0)?,
            thread: u16::try_from(word(4)?).ok()?,
            seq: u64::from(word(8)?) | (u64::from(word(12)?) << 32),
            len: word(16)?,
        };
        // The length first: a damaged one must not make us build gigabytes.
        (stamp.len as usize == value.len() && stamp.value(key) == value).then_some(stamp)
    }
}

impl Change {
    /// The key it changes.
    pub(crate) fn slot(self) -> Slot {
        match self {
            Self::Put(slot, _) | Self::Delete(slot) => slot,
        }
    }

    /// What it leaves there.
    pub(crate) fn stamp(self) -> Option<Stamp> {
        match self {
            Self::Put(_, stamp) => Some(stamp),
            Self::Delete(_) => None,
        }
    }
}

impl Commit {
    /// The batch that does it.
    pub(crate) fn batch(&self, trees: &[Tree], thread: u16) -> WriteBatch {
        let mut batch = WriteBatch::new();
        for change in &self.changes {
            let key = change.slot().key(thread);
            let tree = &trees[usize::from(change.slot().tree)];
            match change.stamp() {
                Some(stamp) => batch.put(tree, &key, &stamp.value(&key)),
                None => batch.delete(tree, &key),
            };
        }
        batch
    }
}

impl State {
    /// What a key holds.
    pub(crate) fn get(&self, slot: Slot) -> Option<Stamp> {
        self.slots.get(&slot).copied()
    }

    /// Makes a commit's changes.
    pub(crate) fn apply(&mut self, commit: &Commit) {
        for change in &commit.changes {
            self.set(change.slot(), change.stamp());
        }
    }

    /// Makes one change.
    pub(crate) fn set(&mut self, slot: Slot, stamp: Option<Stamp>) {
        match stamp {
            Some(stamp) => self.slots.insert(slot, stamp),
            None => self.slots.remove(&slot),
        };
    }

    /// The keys of which two states hold different things.
    pub(crate) fn differences(&self, other: &Self) -> Vec<Slot> {
        let mut slots: Vec<Slot> = self
            .slots
            .keys()
            .chain(other.slots.keys())
            .copied()
            .collect();
        slots.sort_unstable();
        slots.dedup();
        slots.retain(|&s| self.get(s) != other.get(s));
        slots
    }

    /// What a writer's keys hold in the store; says what is wrong if a key or a
    /// value is none of its.
    pub(crate) fn read(trees: &[Tree], thread: u16) -> Result<Self, String> {
        let mut state = Self::default();
        let prefix = prefix(thread);
        for (tree, name) in (0_u8..).zip(TREES) {
            for record in trees[usize::from(tree)]
                .prefix(prefix.as_bytes())
                .map_err(|e| e.to_string())?
            {
                let (key, value) = record.map_err(|e| format!("scan of {name}: {e}"))?;
                let shown = crate::text::show(&key);
                let number = std::str::from_utf8(&key[prefix.len()..])
                    .ok()
                    .and_then(|n| n.parse().ok())
                    .ok_or_else(|| format!("{name}: key {shown} was never written"))?;
                let stamp = Stamp::of(&key, &value)
                    .ok_or_else(|| format!("{name}: the value of {shown} was never written"))?;
                state.slots.insert(Slot { tree, number }, stamp);
            }
        }
        Ok(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp {
        round: 3,
        thread: 9,
        seq: 1 << 40,
        len: 77,
    };

    #[test]
    fn a_value_gives_its_stamp_back() {
        let value = STAMP.value(b"k");
        assert_eq!(value.len(), 77);
        assert_eq!(Stamp::of(b"k", &value), Some(STAMP));
        assert_eq!(Stamp::of(b"l", &value), None);
        for bit in 0..value.len() * 8 {
            let mut bad = value.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            // A flipped thread number is one that never wrote this key.
            assert!(
                Stamp::of(b"k", &bad).is_none_or(|s| s.thread != 9),
                "bit {bit}"
            );
        }
        assert_eq!(Stamp::of(b"k", &value[..76]), None);
    }

    #[test]
    fn states_differ_where_they_differ() {
        let slot = |number| Slot { tree: 0, number };
        let (mut a, mut b) = (State::default(), State::default());
        a.set(slot(1), Some(STAMP));
        a.set(slot(2), Some(STAMP));
        b.set(slot(2), Some(Stamp { seq: 1, ..STAMP }));
        b.set(slot(3), Some(STAMP));
        assert_eq!(a.differences(&b), [slot(1), slot(2), slot(3)]);
        assert_eq!(a.differences(&a.clone()), []);
    }
}
