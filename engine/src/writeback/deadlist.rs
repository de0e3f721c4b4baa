//! Dead lists: what a snapshot has and nothing newer.
//!
//! A block that goes out of use is free when the checkpoint is durable, unless it was
//! there already when a snapshot was taken. Then it goes on the dead list of the youngest
//! snapshot. When a snapshot is deleted, what is on its list is free, but for what an older
//! one has too: that goes on the list of the youngest of those.
//!
//! After the dead lists of ZFS (M. Ahrens, "How ZFS snapshots really work", 2007–2019).
//!
//! A list is a chain of leaves, the newest first, that a checkpoint adds to and nothing
//! changes. A leaf's keys are first blocks (8 bytes, most significant first), with the
//! length of the run (4 bytes; the highest bit says that it is a piece of a large value) and
//! its birth (8 bytes); the empty key has the pointer to the next leaf of the chain.

use gaur_iodriver::IoBuf;

use crate::error::{Damage, Result};
use crate::format::node::KIND_VALUE;
use crate::format::{BlockNo, BlockPtr, Generation, Geometry, Run, TreeId};
use crate::node::{Bounds, HEADER_WORDS, NodeBuf, Page, entry_words, load_image, store_image};
use crate::worker::Freed;

use super::catalog::Fields;

/// What the leaves of dead lists say in place of a tree's number.
pub(crate) const DEAD_LIST: TreeId = TreeId::MAX;
const VALUE: usize = 12;
/// Of a run's length: it is a piece of a large value.
const PIECE: u32 = 1 << 31;

/// Runs that a leaf takes.
pub(super) fn runs_in(block_size: u32) -> usize {
    let words = block_size as usize / 8 - HEADER_WORDS;
    let first = 1 + entry_words(0, BlockPtr::SIZE);
    (words - first) / (1 + entry_words(8, VALUE))
}

/// Sorts what goes on a list, and joins what lies side by side.
pub(super) fn joined(mut dead: Vec<Freed>) -> Vec<Freed> {
    dead.sort_by_key(|f| f.run);
    let mut out: Vec<Freed> = Vec::with_capacity(dead.len());
    for f in dead {
        match out.last_mut() {
            Some(last)
                if last.run.end() == f.run.start
                    && (last.birth, last.piece) == (f.birth, f.piece) =>
            {
                last.run.len += f.run.len;
            }
            _ => out.push(f),
        }
    }
    out
}

/// The leaves for `dead`, before `next` in the chain, on blocks from `take`; and the
/// pointer to the first.
pub(super) fn build(
    dead: &[Freed],
    mut next: BlockPtr,
    (block_size, store, birth): (u32, u64, Generation),
    mut take: impl FnMut() -> BlockNo,
) -> (Vec<(BlockNo, IoBuf)>, BlockPtr) {
    let mut images = Vec::new();
    for chunk in dead.chunks(runs_in(block_size)) {
        let node = NodeBuf::new(block_size as usize / 8);
        let page = node.page();
        page.init(0, DEAD_LIST, store, 0, &Bounds::whole());
        let words: Vec<u8> = next
            .to_words()
            .iter()
            .flat_map(|w| w.to_le_bytes())
            .collect();
        page.insert(0, &[], KIND_VALUE, &words);
        for (i, f) in chunk.iter().enumerate() {
            let len = f.run.len | if f.piece { PIECE } else { 0 };
            let mut value = len.to_le_bytes().to_vec();
            value.extend(f.birth.0.to_le_bytes());
            page.insert(i + 1, &f.run.start.to_be_bytes(), KIND_VALUE, &value);
        }
        let addr = take();
        page.set_identity(addr, birth);
        let mut image = IoBuf::zeroed(block_size as usize);
        let checksum = store_image(page, &mut image);
        images.push((addr, image));
        next = BlockPtr {
            checksum,
            ..BlockPtr::unwritten(addr, birth)
        };
    }
    (images, next)
}

/// What a leaf of a dead list says.
#[derive(Debug, Default)]
pub(crate) struct Leaf {
    pub(crate) dead: Vec<Freed>,
    /// The next of the chain; null: there is none.
    pub(crate) next: BlockPtr,
}

/// Reads the leaf at `ptr`, whose block is in `bytes`.
pub(crate) fn decode(
    bytes: &[u8],
    ptr: BlockPtr,
    store: u64,
    geometry: &Geometry,
) -> Result<Leaf, Damage> {
    let node = NodeBuf::new(bytes.len() / 8);
    load_image(bytes, ptr, store, Some(DEAD_LIST), Some(0), node.page())
        .map_err(|damage| damaged(ptr.addr, &damage.detail))?;
    entries(node.page(), geometry).ok_or_else(|| damaged(ptr.addr, "says what cannot be"))
}

/// Whether a leaf may lie there.
pub(crate) fn check_pointer(ptr: BlockPtr, geometry: &Geometry) -> Result<(), Damage> {
    match ptr.len == 1 && ptr.flags == 0 && geometry.is_data(ptr.run()) {
        true => Ok(()),
        false => Err(damaged(
            ptr.addr,
            "its pointer points outside the data area",
        )),
    }
}

pub(crate) fn damaged(place: BlockNo, what: &str) -> Damage {
    Damage::new("dead list", place, what)
}

fn entries(page: Page<'_>, geometry: &Geometry) -> Option<Leaf> {
    let mut leaf = Leaf::default();
    let mut value = Vec::new();
    for slot in 0..page.slots() {
        value.clear();
        page.copy_value(slot, &mut value);
        let key = page.key(slot);
        if slot == 0 {
            if !key.is_empty() || value.len() != BlockPtr::SIZE {
                return None;
            }
            leaf.next = Fields(&value).pointer()?;
            continue;
        }
        let (len, birth) = value.split_first_chunk::<4>()?;
        let len = u32::from_le_bytes(*len);
        let run = Run {
            start: u64::from_be_bytes(key.try_into().ok()?),
            len: len & !PIECE,
        };
        let birth = Generation(u64::from_le_bytes(birth.try_into().ok()?));
        if run.len == 0 || !geometry.is_data(run) {
            return None;
        }
        leaf.dead.push(Freed {
            run,
            birth,
            piece: len & PIECE != 0,
            last: None,
        });
    }
    // A chain of leaves that say nothing might never end.
    (leaf.dead.len() + 1 == page.slots() && !leaf.dead.is_empty()).then_some(leaf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_reads_back() {
        let geometry = Geometry::new(4096, 64 << 20, 1000);
        let most = runs_in(4096);
        assert!(most > 90, "{most}");
        let dead: Vec<Freed> = (0..2 * most as u64 + 1)
            .map(|i| Freed {
                run: Run {
                    start: 10_000 + 3 * i,
                    len: 2,
                },
                birth: Generation(i / 10),
                piece: i % 7 == 0,
                last: None,
            })
            .collect();
        let mut place = 5000;
        let (images, head) = build(&dead, BlockPtr::default(), (4096, 7, Generation(9)), || {
            place += 1;
            place
        });
        assert_eq!(images.len(), 3);
        let (mut at, mut back) = (head, Vec::new());
        for (addr, image) in images.iter().rev() {
            assert_eq!(at.addr, *addr);
            check_pointer(at, &geometry).unwrap();
            let leaf = decode(image, at, 7, &geometry).unwrap();
            back.splice(0..0, leaf.dead);
            at = leaf.next;
        }
        assert!(at.is_null());
        assert_eq!(back, dead);
    }

    #[test]
    fn runs_of_one_birth_side_by_side_are_one() {
        let f = |start, len, birth| Freed {
            run: Run { start, len },
            birth: Generation(birth),
            piece: false,
            last: None,
        };
        let all = joined(vec![f(7, 1, 1), f(5, 2, 1), f(8, 1, 2), f(10, 1, 2)]);
        assert_eq!(all, [f(5, 3, 1), f(8, 1, 2), f(10, 1, 2)]);
        let piece = Freed {
            piece: true,
            ..f(8, 1, 1)
        };
        let apart = [f(7, 1, 1), piece];
        assert_eq!(joined(apart.to_vec()), apart);
    }
}
