//! Where to split a node, and with which separator.

use super::page::{Page, common_prefix, entry_words};

/// The shortest key that is greater than `left` and not greater than `right`
/// (suffix truncation: R. Bayer, K. Unterauer, "Prefix B-trees", TODS 1977).
pub(crate) fn shortest_separator(left: &[u8], right: &[u8]) -> Vec<u8> {
    debug_assert!(left < right);
    right[..common_prefix(left, right) + 1].to_vec()
}

/// Keys that are about to be inserted into a leaf.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Incoming<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) value_len: usize,
}

/// Chooses the separator at which `page` is split: as near the middle as both
/// halves allow, the entries that are about to come counted in. In a rightmost
/// leaf whose new keys lie behind all others, the left half stays full.
///
/// Of a leaf: any position between two keys, old or new. Of an inner node: one of
/// its separators. Each half must fit into `room` words (slots, entries, fences);
/// `None` if there is no such place, which cannot be in a node of that size.
pub(crate) fn plan_split(
    page: Page<'_>,
    room: usize,
    incoming: &[Incoming<'_>],
) -> Option<Vec<u8>> {
    let leaf = page.level() == 0;
    // (key, words taken, words that exist already), in key order.
    let mut items: Vec<(Vec<u8>, usize, usize)> = (0..page.slots())
        .map(|i| {
            let words = page.entry(i).words() + 1;
            (page.key(i), words, words)
        })
        .collect();
    // Others may have split this node since the keys were gathered.
    let incoming = || incoming.iter().filter(|new| page.covers(new.key));
    let first_new = incoming().next().map(|n| n.key);
    let appends = leaf
        && page.upper_len().is_none()
        && first_new.is_some_and(|k| items.last().is_none_or(|l| l.0.as_slice() < k));
    for new in incoming() {
        let words = entry_words(new.key.len() - page.prefix_len(), new.value_len) + 1;
        match items.binary_search_by(|it| it.0.as_slice().cmp(new.key)) {
            Ok(i) => items[i].1 += words,
            Err(i) => items.insert(i, (new.key.to_vec(), words, 0)),
        }
    }
    let lower = page.lower_len().div_ceil(8);
    let upper = page.upper_len().unwrap_or(0).div_ceil(8);
    let total: usize = items.iter().map(|i| i.1).sum();
    let existing: usize = items.iter().map(|i| i.2).sum();
    let target = if appends {
        total.min(room - lower - 8)
    } else {
        total / 2
    };

    let (mut left, mut left_existing) = (0, 0);
    let mut best: Option<(usize, Vec<u8>)> = None;
    for i in 1..items.len() {
        left += items[i - 1].1;
        left_existing += items[i - 1].2;
        let separator = if leaf {
            shortest_separator(&items[i - 1].0, &items[i].0)
        } else {
            items[i].0.clone()
        };
        let fence = separator.len().div_ceil(8);
        // What exists must fit on its side; prefixes only get longer by a split,
        // so entries only get shorter.
        if left_existing + lower + fence > room || existing - left_existing + fence + upper > room {
            continue;
        }
        // A short separator is worth a little imbalance: it is copied upwards.
        let mut cost = left.abs_diff(target) + 2 * fence;
        if appends && left > target {
            cost += room;
        }
        if best.as_ref().is_none_or(|b| cost < b.0) {
            best = Some((cost, separator));
        }
    }
    best.map(|b| b.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::node::KIND_VALUE;
    use crate::node::{Bounds, MAX_KEY, NodeBuf, max_inline};
    use gaur_iodriver::sync::rng;
    use rand::RngExt;
    use std::collections::BTreeMap;

    fn leaf(bounds: &Bounds) -> NodeBuf {
        let b = NodeBuf::new(512);
        b.page().init(0, 1, 9, 0, bounds);
        b
    }

    fn random_key(r: &mut rng::Rng, clusters: u8) -> Vec<u8> {
        // Clusters of keys that share long prefixes: the worst for fences.
        let mut k = vec![b'a' + r.random_range(0..clusters); 1];
        if r.random_bool(0.5) {
            k.resize(MAX_KEY - 2, k[0]);
        }
        for _ in 0..r.random_range(0..3) {
            k.push(r.random());
        }
        k
    }

    #[test]
    fn a_set_of_leaves_holds_what_a_map_holds() {
        for seed in 0..30 {
            let mut r = rng::seeded(seed);
            let mut model = BTreeMap::new();
            let mut leaves = vec![leaf(&Bounds::whole())];
            for step in 0..600 {
                let key = random_key(&mut r, 4);
                let at = leaves.iter().position(|l| l.page().covers(&key)).unwrap();
                let (pos, found) = leaves[at].page().search(&key);
                assert_eq!(found, model.contains_key(&key), "seed {seed} step {step}");
                if found && r.random_bool(0.4) {
                    leaves[at].page().remove(pos);
                    model.remove(&key);
                    continue;
                }
                let value = vec![step as u8; r.random_range(0..=max_inline(4096, key.len()))];
                loop {
                    let at = leaves.iter().position(|l| l.page().covers(&key)).unwrap();
                    let p = leaves[at].page();
                    let (pos, found) = p.search(&key);
                    if found
                        && entry_words(p.entry(pos).key_len, value.len())
                            <= p.free_words() + p.entry(pos).words()
                    {
                        p.replace(pos, KIND_VALUE, &value);
                        break;
                    }
                    if !found && p.fits(key.len(), value.len()) {
                        p.insert(pos, &key, KIND_VALUE, &value);
                        break;
                    }
                    let sep = plan_split(
                        p,
                        504,
                        &[Incoming {
                            key: &key,
                            value_len: value.len(),
                        }],
                    )
                    .unwrap();
                    let (a, b) = split(p, &sep);
                    leaves[at] = a;
                    leaves.insert(at + 1, b);
                }
                model.insert(key, value);
                for l in &leaves {
                    l.page()
                        .check()
                        .unwrap_or_else(|e| panic!("seed {seed} step {step}: {e}"));
                }
            }
            let mut all = Vec::new();
            for l in &leaves {
                for i in 0..l.page().slots() {
                    let mut v = Vec::new();
                    l.page().copy_value(i, &mut v);
                    all.push((l.page().key(i), v));
                }
            }
            assert_eq!(all, model.into_iter().collect::<Vec<_>>(), "seed {seed}");
        }
    }

    fn split(p: Page<'_>, sep: &[u8]) -> (NodeBuf, NodeBuf) {
        let a = leaf(&Bounds {
            lower: p.lower(),
            upper: Some(sep.to_vec()),
        });
        let b = leaf(&Bounds {
            lower: sep.to_vec(),
            upper: p.upper(),
        });
        for i in 0..p.slots() {
            if p.key(i).as_slice() < sep {
                a.page()
            } else {
                b.page()
            }
            .append_from(p, i);
        }
        (a, b)
    }

    #[test]
    fn keys_that_belong_elsewhere_do_not_count() {
        // A batch gathered its keys for a leaf that another writer split before this
        // one did: a key shorter than the new prefix made the split panic, and one
        // behind the new upper fence could have become the separator.
        let l = leaf(&Bounds {
            lower: b"prefix-b".to_vec(),
            upper: Some(b"prefix-m".to_vec()),
        });
        for k in [b"prefix-c", b"prefix-d"] {
            let (pos, _) = l.page().search(k);
            l.page().insert(pos, k, KIND_VALUE, &[0; 100]);
        }
        let elsewhere = [&b"a"[..], b"prefix-a", b"prefix-m", b"q"];
        let incoming: Vec<Incoming<'_>> = elsewhere
            .iter()
            .map(|key| Incoming {
                key,
                value_len: 1900,
            })
            .collect();
        let separator = plan_split(l.page(), 504, &incoming).unwrap();
        assert_eq!(separator, b"prefix-d");
    }

    #[test]
    fn separators_are_short() {
        assert_eq!(shortest_separator(b"apple", b"banana"), b"b");
        assert_eq!(shortest_separator(b"a", b"ab"), b"ab");
        assert_eq!(shortest_separator(b"abc", b"abdef"), b"abd");
    }
}
