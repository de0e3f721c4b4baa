//! What the tree of trees says of a named snapshot.

use super::catalog::{Fields, Item, NO_NAME, put_pointer};
use crate::format::{BlockPtr, Csn, Generation};

/// What follows [`NO_NAME`] in the key of a snapshot.
const KIND: u8 = b's';
/// Flag: it is being deleted.
const FLAG_DELETED: u32 = 1;
/// The most snapshots that trees of one snapshot may have come from.
pub(crate) const MAX_ORIGINS: usize = 64;

/// A named snapshot. Stored, with the key 255, `s`, its generation in 8 bytes, most
/// significant first, and its name: the fields in their order, flags and level in 4 bytes
/// each, and then the origins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// The generation whose trees it has.
    pub(crate) generation: Generation,
    pub(crate) name: String,
    /// Its last commit.
    pub(crate) csn: Csn,
    /// Seconds since 1970.
    pub(crate) created: u64,
    pub(crate) deleted: bool,
    /// Level of the root of its tree of trees.
    pub(crate) level: u32,
    /// That root; null in the very tree of trees that it has.
    pub(crate) catalog: BlockPtr,
    /// The newest block of its dead list; null: nothing is on it.
    pub(crate) dead: BlockPtr,
    /// Blocks on its dead list.
    pub(crate) dead_blocks: u64,
    /// Blocks that the list itself takes.
    pub(crate) list_blocks: u64,
    /// Snapshots that trees of this one came from.
    pub(crate) origins: Vec<Generation>,
}

impl Held {
    /// Bytes that one with a name of this length takes at most.
    pub(super) fn most(name: usize) -> u64 {
        (48 + 10 + name + 88 + MAX_ORIGINS * 8) as u64
    }

    pub(super) fn item(&self) -> Item {
        let mut key = vec![NO_NAME, KIND];
        key.extend(self.generation.0.to_be_bytes());
        key.extend(self.name.as_bytes());
        let flags = if self.deleted { FLAG_DELETED } else { 0 };
        let mut value = Vec::new();
        for word in [
            self.csn,
            self.created,
            u64::from(flags) | u64::from(self.level) << 32,
        ] {
            value.extend(word.to_le_bytes());
        }
        put_pointer(&mut value, self.catalog);
        put_pointer(&mut value, self.dead);
        for word in [self.dead_blocks, self.list_blocks] {
            value.extend(word.to_le_bytes());
        }
        for origin in &self.origins {
            value.extend(origin.0.to_le_bytes());
        }
        (key, value)
    }

    /// Whether a key is a snapshot's.
    pub(super) fn is_key(key: &[u8]) -> bool {
        key.starts_with(&[NO_NAME, KIND])
    }

    pub(super) fn decode(key: &[u8], value: &[u8]) -> Result<Self, &'static str> {
        let short = "an entry has a wrong length";
        let (generation, name) = key
            .strip_prefix(&[NO_NAME, KIND])
            .and_then(|rest| rest.split_first_chunk::<8>())
            .ok_or(short)?;
        let name = std::str::from_utf8(name).map_err(|_| "a name is not UTF-8")?;
        let mut fields = Fields(value);
        let mut word = || fields.word().ok_or(short);
        let (csn, created, flags) = (word()?, word()?, word()?);
        let (catalog, dead) = (
            fields.pointer().ok_or(short)?,
            fields.pointer().ok_or(short)?,
        );
        let mut word = || fields.word().ok_or(short);
        let (dead_blocks, list_blocks) = (word()?, word()?);
        let mut origins = Vec::new();
        while !fields.0.is_empty() {
            origins.push(Generation(fields.word().ok_or(short)?));
        }
        if flags as u32 & !FLAG_DELETED != 0 {
            return Err("bytes where none belong");
        }
        if origins.len() > MAX_ORIGINS || name.is_empty() {
            return Err(short);
        }
        if [catalog, dead]
            .iter()
            .any(|p| !p.is_null() && p.checksum == 0)
        {
            return Err("a snapshot's pointer without a checksum");
        }
        Ok(Self {
            generation: Generation(u64::from_be_bytes(*generation)),
            name: name.to_owned(),
            csn,
            created,
            deleted: flags as u32 & FLAG_DELETED != 0,
            level: (flags >> 32) as u32,
            catalog,
            dead,
            dead_blocks,
            list_blocks,
            origins,
        })
    }
}
