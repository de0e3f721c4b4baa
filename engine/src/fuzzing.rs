//! For fuzzing: what no user of the crate reaches. There only in tests and in builds
//! with `--cfg fuzzing`; see `docs/testing.md`.

use std::collections::BTreeMap;

use crate::format::node::MAGIC;
use crate::format::{BlockPtr, ExtentPtr, Generation, checksum};
use crate::node::{
    Bounds, HEADER_WORDS, Incoming, NodeBuf, Page, entry_words, load_image, max_inline, plan_split,
    store_image,
};
use crate::tree::split::divide;

#[path = "../tests/fuzzing/node_image.rs"]
mod node_image;

/// Reads a node that verifies (`node_image`), and does with it what the engine does:
/// finds each of its keys, stores it, changes it, splits it. Whether it was accepted;
/// if so, all that must hold afterwards.
///
/// # Panics
/// If a node that was accepted breaks.
pub fn node(data: &[u8]) -> bool {
    let Some(mut bytes) = node_image::node_image(data) else {
        return false;
    };
    bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
    let word = |i: usize| u64::from_le_bytes(bytes[i * 8..i * 8 + 8].try_into().expect("8 bytes"));
    let (addr, birth, store) = (word(1), Generation(word(2)), word(6));
    let ptr = BlockPtr {
        checksum: checksum::block(&bytes, addr, birth.0),
        ..BlockPtr::unwritten(addr, birth)
    };
    let node = NodeBuf::new(bytes.len() / 8);
    if load_image(&bytes, ptr, store, None, None, node.page()).is_err() {
        return false;
    }
    let page = node.page();
    let mut again = vec![0; bytes.len()];
    assert_eq!(store_image(page, &mut again), ptr.checksum);
    assert!(again == bytes);
    let all = entries(page);
    assert_eq!(all.len(), page.slots());
    if page.level() == 0 {
        change(page, &all);
    } else {
        for (i, key) in all.keys().enumerate().skip(1) {
            assert_eq!(page.child_slot(key), i);
            assert_eq!(page.child(i).hint, 0);
        }
    }
    split(page, &[]);
    true
}

/// The entries by key, each found where it is: kind and stored value.
fn entries(page: Page<'_>) -> BTreeMap<Vec<u8>, (u8, Vec<u8>)> {
    let mut all = BTreeMap::new();
    for i in 0..page.slots() {
        let (key, mut value) = (page.key(i), Vec::new());
        page.copy_value(i, &mut value);
        if page.level() == 0 {
            assert!(page.covers(&key));
            assert_eq!(page.search(&key), (i, true));
        }
        for piece in value.chunks(ExtentPtr::SIZE).filter_map(ExtentPtr::decode) {
            let _ = piece.run(bytes_of(page));
        }
        all.insert(key, (page.entry(i).kind, value));
    }
    all
}

fn bytes_of(page: Page<'_>) -> u32 {
    page.len_words() as u32 * 8
}

/// Changes a copy of a leaf as commits do, and splits it where there is no room.
fn change(page: Page<'_>, all: &BTreeMap<Vec<u8>, (u8, Vec<u8>)>) {
    let copy = NodeBuf::copy_of(page);
    let leaf = copy.page();
    let mut model = all.clone();
    let ends = [page.lower(), [&page.lower()[..], b"\0"].concat()];
    let near = all.keys().map(|k| [&k[..], b"!"].concat());
    let keys: Vec<Vec<u8>> = near.chain(ends).collect();
    for (i, key) in keys.iter().enumerate() {
        if !leaf.covers(key) || key.len() > crate::node::MAX_KEY {
            continue;
        }
        let most = max_inline(bytes_of(page), key.len());
        let value = vec![i as u8; [3, 64, most][i % 3]];
        let (pos, found) = leaf.search(key);
        let room = leaf.free_words() + if found { leaf.entry(pos).words() } else { 0 };
        let suffix = key.len() - leaf.prefix_len();
        if found && entry_words(suffix, value.len()) <= room {
            leaf.replace(pos, 1, &value);
        } else if !found && leaf.fits(key.len(), value.len()) {
            leaf.insert(pos, key, 1, &value);
        } else {
            let value_len = value.len();
            split(leaf, &[Incoming { key, value_len }]);
            continue;
        }
        model.insert(key.clone(), (1, value));
        assert_eq!(leaf.check(), Ok(()));
    }
    assert!(entries(leaf) == model);
    for key in all.keys().step_by(2) {
        let (pos, found) = leaf.search(key);
        assert!(found);
        leaf.remove(pos);
        model.remove(key);
    }
    assert_eq!(leaf.check(), Ok(()));
    assert!(entries(leaf) == model);
}

/// Splits a copy of a node, if that can be done: both halves are sound and have all.
fn split(page: Page<'_>, incoming: &[Incoming<'_>]) {
    let room = page.len_words() - HEADER_WORDS;
    let Some(separator) = plan_split(page, room, incoming) else {
        // A leaf without room for an entry that may come must have a place.
        assert!(incoming.is_empty() || page.level() > 0);
        return;
    };
    let (left, right) = (
        NodeBuf::new(page.len_words()),
        NodeBuf::new(page.len_words()),
    );
    divide(page, left.page(), right.page(), &separator, 7);
    assert_eq!(Bounds::of(left.page()).upper, Some(separator));
    assert_eq!(left.page().slots() + right.page().slots(), page.slots());
    for half in [&left, &right] {
        assert_eq!(half.page().check(), Ok(()));
    }
    if page.level() == 0 {
        let mut all = entries(left.page());
        all.append(&mut entries(right.page()));
        assert!(all == entries(page));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn every_node_kept_is_refused_or_can_be_used() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/node");
        let (mut all, mut accepted) = (0, 0);
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            println!("{}", path.display());
            all += 1;
            accepted += usize::from(super::node(&std::fs::read(path).unwrap()));
        }
        println!("{all} nodes, {accepted} accepted");
        assert!(accepted > 0);
    }
}
