//! What is on a device: partition tables, file systems, members of RAIDs and
//! volumes, encrypted volumes, swap.
//!
//! Each is known by its *signature*: some bytes at a fixed distance from the
//! start or the end of the device, and, where these are so few that chance could
//! have put them there, a look at the structure around them. One table lists them
//! all. A signature says that something was there, not that it is whole: of two
//! copies one may be left, and both are told.
//!
//! Only some pieces of the device are read (about two megabytes), and nothing is
//! written.

mod check;
mod container;
mod filesystem;
mod partition;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use crate::buf::IoBuf;
use crate::contract::Device;
use crate::error::IoError;

/// What is read at once. Each structure of the table lies in one such piece.
const PIECE: u64 = 64 << 10;

/// What a signature stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A table of partitions.
    PartitionTable,
    /// A file system.
    FileSystem,
    /// A member of a RAID.
    Raid,
    /// A part of a volume manager's, a cache's or a cluster's storage.
    Volume,
    /// An encrypted volume.
    Encrypted,
    /// Swap space, or an image of the memory of a suspended machine.
    Swap,
    /// A file that is a disk of a virtual machine.
    Image,
    /// Data that belongs to something on another device: a journal, say.
    Part,
}

impl Kind {
    /// In words, for messages.
    fn noun(self) -> &'static str {
        match self {
            Self::PartitionTable => "partition table",
            Self::FileSystem => "file system",
            Self::Raid => "RAID member",
            Self::Volume => "volume",
            Self::Encrypted => "encrypted volume",
            Self::Swap => "swap space",
            Self::Image => "disk image",
            Self::Part => "data",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.noun())
    }
}

/// Something that was recognised.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signature {
    /// Where its signature is, in bytes from the start of the device.
    pub offset: u64,
    /// What kind of thing it is.
    pub kind: Kind,
    /// Its name: `ext4`, `GPT`, `LVM2` …
    pub name: &'static str,
    /// Bytes of the signature. Without them it is not recognised any more.
    pub len: u64,
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} at byte {}", self.name, self.kind, self.offset)
    }
}

/// All of them in words, one of many copies once: `GPT partition table at bytes
/// 512 and 67108352, ext4 file system at byte 1080`.
pub fn in_words(found: &[Signature]) -> String {
    let mut groups: Vec<(String, Vec<u64>)> = Vec::new();
    for s in found {
        let name = format!("{} {}", s.name, s.kind);
        match groups.iter_mut().find(|g| g.0 == name) {
            Some(group) => group.1.push(s.offset),
            None => groups.push((name, vec![s.offset])),
        }
    }
    let words = groups.iter().map(|(name, at)| match at.as_slice() {
        [one] => format!("{name} at byte {one}"),
        many => {
            let many: Vec<String> = many.iter().map(u64::to_string).collect();
            format!("{name} at bytes {}", many.join(" and "))
        }
    });
    words.collect::<Vec<_>>().join(", ")
}

/// What is on the device, in the order of the offsets; empty if nothing is known.
///
/// # Errors
/// If a place where something could be cannot be read.
pub fn signatures(device: &dyn Device) -> Result<Vec<Signature>, IoError> {
    let pieces = Pieces::read(device)?;
    let mut found = Vec::new();
    for entry in table::all() {
        for (at, magic) in entry.places(pieces.capacity) {
            if pieces.bytes(at, magic.len()) == Some(magic)
                && entry.check.is_none_or(|check| check(&pieces, at))
            {
                found.push(Signature {
                    offset: at,
                    kind: entry.kind,
                    name: entry.name,
                    len: magic.len() as u64,
                });
            }
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// The parts of a device where signatures may be.
#[derive(Debug)]
struct Pieces {
    capacity: u64,
    /// By number, counted from the start of the device.
    read: BTreeMap<u64, IoBuf>,
}

impl Pieces {
    fn read(device: &dyn Device) -> Result<Self, IoError> {
        let capacity = device.geometry().capacity;
        let mut read = BTreeMap::new();
        for entry in table::all() {
            for (at, magic) in entry.places(capacity) {
                for number in at / PIECE..=(at + magic.len() as u64 - 1) / PIECE {
                    if let std::collections::btree_map::Entry::Vacant(place) = read.entry(number) {
                        let start = number * PIECE;
                        let len = PIECE.min(capacity - start);
                        let mut buf = IoBuf::zeroed(len as usize);
                        device.read_at(start, &mut buf)?;
                        place.insert(buf);
                    }
                }
            }
        }
        Ok(Self { capacity, read })
    }

    /// Bytes of one piece that was read; none if they are not.
    fn bytes(&self, at: u64, len: usize) -> Option<&[u8]> {
        let piece = self.read.get(&(at / PIECE))?;
        let from = (at % PIECE) as usize;
        piece.get(from..from.checked_add(len)?)
    }

    fn array<const N: usize>(&self, at: u64) -> [u8; N] {
        self.bytes(at, N)
            .and_then(|b| b.try_into().ok())
            .unwrap_or([0; N])
    }

    // Numbers of a structure; 0 where nothing was read.

    fn u8(&self, at: u64) -> u8 {
        self.array::<1>(at)[0]
    }

    fn le16(&self, at: u64) -> u16 {
        u16::from_le_bytes(self.array(at))
    }

    fn be16(&self, at: u64) -> u16 {
        u16::from_be_bytes(self.array(at))
    }

    fn le32(&self, at: u64) -> u32 {
        u32::from_le_bytes(self.array(at))
    }

    fn be32(&self, at: u64) -> u32 {
        u32::from_be_bytes(self.array(at))
    }

    fn le64(&self, at: u64) -> u64 {
        u64::from_le_bytes(self.array(at))
    }

    /// Whether these bytes are there.
    fn has(&self, at: u64, bytes: &[u8]) -> bool {
        self.bytes(at, bytes.len()) == Some(bytes)
    }
}
