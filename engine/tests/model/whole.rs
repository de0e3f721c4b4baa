//! Transactions, snapshots, conditional changes and the other ways to look, beside the
//! model.

use std::collections::BTreeSet;
use std::ops::Bound;

use gaur::{Error, Isolation, Savepoint, Snapshot, Swap, Transaction, TransactionOptions};

use super::*;

/// Snapshots that are held, with what they must show.
pub(super) type Held = Vec<(Snapshot, Vec<Model>)>;

/// What the steps work on.
pub(super) struct Beside<'a> {
    pub(super) store: &'a Store,
    pub(super) trees: &'a [Tree; 2],
    pub(super) space: u32,
}

const BUFFERED: Durability = Durability::Buffered;

impl Beside<'_> {
    pub(super) fn step(&self, r: &mut Rng, models: &mut Vec<Model>, held: &mut Held) {
        match r.random_range(0..20) {
            0..8 => self.transaction(r, models),
            8..14 => self.conditional(r, models),
            14..17 => self.look(r, models),
            17 => held.push((self.store.snapshot().unwrap(), models.clone())),
            _ if held.is_empty() => {}
            18 => {
                let (snapshot, models) = &held[r.random_range(0..held.len())];
                self.at_snapshot(r, snapshot, models);
            }
            _ => {
                let (snapshot, models) = held.swap_remove(r.random_range(0..held.len()));
                for (tree, model) in self.trees.iter().zip(&models) {
                    let all = snapshot.iter(tree).unwrap().map(Result::unwrap);
                    assert!(all.eq(model.clone()), "a snapshot differs");
                }
            }
        }
    }

    /// A key, more often than not one that is there.
    fn known(&self, r: &mut Rng, model: &Model) -> Vec<u8> {
        let k = key(r, self.space);
        let near = model.range(k.clone()..).next().map(|(k, _)| k.clone());
        near.filter(|_| r.random_bool(0.7)).unwrap_or(k)
    }

    fn bounds(&self, r: &mut Rng) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
        let (a, b) = (key(r, self.space), key(r, self.space));
        (
            Bound::Included(a.clone().min(b.clone())),
            Bound::Excluded(a.max(b)),
        )
    }

    fn at_snapshot(&self, r: &mut Rng, snapshot: &Snapshot, models: &[Model]) {
        let t = r.random_range(0..2);
        let (tree, model) = (&self.trees[t], &models[t]);
        for _ in 0..10 {
            let k = self.known(r, model);
            assert_eq!(snapshot.get(tree, &k).unwrap().as_ref(), model.get(&k));
            assert_eq!(snapshot.contains(tree, &k).unwrap(), model.contains_key(&k));
        }
        let range = self.bounds(r);
        let count = model.range(range.clone()).count() as u64;
        assert_eq!(snapshot.count(tree, range).unwrap(), count);
        let keys: Vec<_> = (0..20).map(|_| self.known(r, model)).collect();
        let wanted: Vec<_> = keys.iter().map(|k| model.get(k).cloned()).collect();
        assert_eq!(snapshot.multi_get(tree, &keys).unwrap(), wanted);
    }

    fn look(&self, r: &mut Rng, models: &[Model]) {
        let t = r.random_range(0..2);
        let (tree, model) = (&self.trees[t], &models[t]);
        let own = |r: Option<(&Vec<u8>, &Vec<u8>)>| r.map(|(k, v)| (k.clone(), v.clone()));
        assert_eq!(tree.first().unwrap(), own(model.first_key_value()));
        assert_eq!(tree.last().unwrap(), own(model.last_key_value()));
        let range = self.bounds(r);
        let count = model.range(range.clone()).count() as u64;
        assert_eq!(tree.count(range.clone()).unwrap(), count);
        let size = tree.approximate_size(range.clone()).unwrap();
        assert!(size.leaves > 0 || count == 0);
        let keys: Vec<_> = (0..40).map(|_| self.known(r, model)).collect();
        let wanted: Vec<_> = keys.iter().map(|k| model.get(k).cloned()).collect();
        assert_eq!(tree.multi_get(&keys).unwrap(), wanted);
        let mut cursor = tree.cursor(range.clone()).unwrap();
        let k = self.known(r, model);
        if cursor.seek(&k).unwrap().is_some() {
            let at = cursor.key().unwrap().to_vec();
            let mut within = model.range(range).map(|(k, _)| k);
            let before = within.clone().rev().find(|k| **k < at);
            assert_eq!(within.find(|i| **i >= k), Some(&at));
            assert_eq!(cursor.prev().unwrap().map(|r| r.0).as_ref(), before);
        }
    }

    /// `update`, `compare_and_swap` and `insert_if_absent`.
    fn conditional(&self, r: &mut Rng, models: &mut [Model]) {
        let t = r.random_range(0..2);
        let (tree, model) = (&self.trees[t], &mut models[t]);
        let k = self.known(r, model);
        let new = r.random_bool(0.8).then(|| value(r));
        let was = model.get(&k).cloned();
        let fits = match r.random_range(0..3) {
            0 => {
                tree.update(&k, BUFFERED, |old| {
                    assert_eq!(old, was.as_deref());
                    new.clone()
                })
                .unwrap();
                true
            }
            1 => {
                let guess = match r.random_range(0..3) {
                    0 => None,
                    1 => Some(b"no such value".to_vec()),
                    _ => was.clone(),
                };
                let got = tree.compare_and_swap(&k, guess.as_deref(), new.as_deref(), BUFFERED);
                told(got.unwrap(), guess == was, &was)
            }
            _ => {
                let Some(new) = &new else { return };
                let got = tree.insert_if_absent(&k, new, BUFFERED);
                told(got.unwrap(), was.is_none(), &was)
            }
        };
        match new {
            _ if !fits => {}
            Some(new) => drop(model.insert(k, new)),
            None => drop(model.remove(&k)),
        }
    }

    fn transaction(&self, r: &mut Rng, models: &mut Vec<Model>) {
        let isolation = match r.random() {
            true => Isolation::Serializable,
            false => Isolation::Snapshot,
        };
        let options = TransactionOptions { isolation };
        let mut t = self.store.begin(&options).unwrap();
        // What it sees; and as it was at its savepoints.
        let mut now = models.clone();
        let mut saved: Vec<(Savepoint, Vec<Model>)> = Vec::new();
        let mut read = None;
        // Reading what it wrote is no read.
        let mut wrote = BTreeSet::new();
        for _ in 0..r.random_range(1..25) {
            let i = r.random_range(0..2);
            let (tree, model) = (&self.trees[i], &mut now[i]);
            let k = self.known(r, model);
            match r.random_range(0..14) {
                0..4 => {
                    let v = value(r);
                    t.put(tree, &k, &v).unwrap();
                    wrote.insert((i, k.clone()));
                    model.insert(k, v);
                }
                4..6 => {
                    t.delete(tree, &k).unwrap();
                    model.remove(&k);
                    wrote.insert((i, k));
                }
                6..8 => {
                    assert_eq!(t.get(tree, &k).unwrap().as_ref(), model.get(&k));
                    if !wrote.contains(&(i, k.clone())) {
                        read = Some((i, k));
                    }
                }
                8..11 => self.scans_agree(r, &t, tree, model),
                11 => saved.push((t.savepoint(), now.clone())),
                _ if saved.is_empty() => {}
                12 => {
                    let at = r.random_range(0..saved.len());
                    t.rollback_to(saved[at].0).unwrap();
                    now = saved[at].1.clone();
                    saved.truncate(at + 1);
                }
                _ => {
                    let at = r.random_range(0..saved.len());
                    t.release(saved[at].0).unwrap();
                    saved.truncate(at);
                }
            }
        }
        match r.random_range(0..5) {
            0 => t.rollback(),
            1 if read.is_some() && !t.is_empty() => {
                // Somebody changes a key that it read, perhaps one that it wrote since.
                let (i, k) = read.expect("just asked");
                let own = t.get(&self.trees[i], &k).unwrap().as_ref() != models[i].get(&k);
                let v = value(r);
                self.trees[i].put_with(&k, &v, BUFFERED).unwrap();
                models[i].insert(k.clone(), v);
                match t.commit(BUFFERED) {
                    Err(Error::Conflict(on)) => assert_eq!(on.key, k),
                    // Under snapshot isolation reads do not count.
                    Ok(_) => {
                        assert!(isolation == Isolation::Snapshot && !own);
                        let other = models[i][&k].clone();
                        now[i].insert(k, other);
                        *models = now;
                    }
                    Err(e) => panic!("{e}"),
                }
            }
            _ => {
                t.commit(BUFFERED).unwrap();
                *models = now;
            }
        }
    }

    fn scans_agree(&self, r: &mut Rng, t: &Transaction, tree: &Tree, model: &Model) {
        let range = self.bounds(r);
        let limit = r.random_range(0..30);
        let got = t.range(tree, range.clone()).unwrap().limit(limit);
        let wanted = model.range(range);
        if r.random() {
            let got: Vec<_> = got.rev().map(Result::unwrap).collect();
            assert!(got.iter().map(|(k, v)| (k, v)).eq(wanted.rev().take(limit)));
        } else {
            let got: Vec<_> = got.map(Result::unwrap).collect();
            assert!(got.iter().map(|(k, v)| (k, v)).eq(wanted.take(limit)));
        }
    }
}

/// Whether it was done, which it must be if it `fits`.
fn told(got: Swap, fits: bool, was: &Option<Vec<u8>>) -> bool {
    match got {
        Swap::Done(_) => assert!(fits),
        Swap::Differs(now) => assert_eq!((fits, &now), (false, was)),
    }
    fits
}
