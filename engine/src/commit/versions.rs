//! Before-images: what a key held before a change, while a view needs it.
//!
//! Kept by (tree, key, CSN of the change), apart from the frames. A change made
//! while a view is open first leaves the before-image, then changes the leaf; so
//! whoever sees the change finds the image. The image with the least CSN above a
//! view's is what the view sees; without one, the leaf is right as it is.
//!
//! Memory is bounded: above the limit the oldest views are given up
//! ([`Error::ViewTooOld`] is theirs), never a writer.

use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crossbeam_queue::SegQueue;
use crossbeam_skiplist::SkipMap;
use crossbeam_skiplist::map::Entry;
use gaur_iodriver::sync::ShortMutex;

use super::pin::Pins;
use crate::error::{Error, Result};
use crate::format::{Csn, TreeId};
use crate::txn::reads::Bounds;

/// A stored value: its entry kind and bytes. `None`: the key was absent.
pub(crate) type Image = Option<(u8, Vec<u8>)>;

/// By tree, key and the commit of the change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct VersionKey {
    tree: TreeId,
    /// The key's first bytes, as a number: of two keys it tells mostly, without a look at
    /// them, which comes first.
    head: u64,
    key: Arc<[u8]>,
    csn: Csn,
}

impl VersionKey {
    fn new(tree: TreeId, key: &[u8], csn: Csn) -> Self {
        let mut head = [0; 8];
        let len = key.len().min(8);
        head[..len].copy_from_slice(&key[..len]);
        Self {
            tree,
            head: u64::from_be_bytes(head),
            key: key.into(),
            csn,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Versions {
    images: SkipMap<VersionKey, Image>,
    /// The images about in order of their CSN, for removal.
    order: SegQueue<VersionKey>,
    collected: ShortMutex<Collected>,
    bytes: AtomicUsize,
    /// Of these, those that only pinned views need.
    aside: AtomicUsize,
    limit: usize,
    /// Views below this have lost images.
    floor: AtomicU64,
}

/// How far collection is.
#[derive(Debug, Default)]
struct Collected {
    /// The next note; images of it and all behind it are needed still.
    next: Option<VersionKey>,
    /// Notes of images that only pinned views need, in order of their CSN, with their
    /// sizes.
    aside: VecDeque<(VersionKey, usize)>,
    /// What these views need: the images of commits after the first up to the second.
    pinned: Vec<(Csn, Csn)>,
}

/// Which images views need.
#[derive(Clone, Debug, Default)]
pub(crate) struct Needed {
    /// All of commits after this.
    pub(crate) after: Csn,
    /// Those of commits after the first up to the second.
    pub(crate) pinned: Vec<(Csn, Csn)>,
}

fn within(pinned: &[(Csn, Csn)], csn: Csn) -> bool {
    pinned
        .iter()
        .any(|(from, upto)| *from < csn && csn <= *upto)
}

const OVERHEAD: usize = 160;

fn size(key: &VersionKey, image: &Image) -> usize {
    key.key.len() + image.as_ref().map_or(0, |i| i.1.len()) + OVERHEAD
}

/// The entries from `from` on, in order.
///
/// Not `SkipMap::range`: in crossbeam-skiplist 0.1.3 it never gives up its reference to
/// an entry that it passed, so the entry's memory would stay for ever after its removal.
fn entries_from<'a, K: Ord, V>(
    map: &'a SkipMap<K, V>,
    from: &K,
) -> impl Iterator<Item = Entry<'a, K, V>> + use<'a, K, V> {
    std::iter::successors(map.lower_bound(Bound::Included(from)), Entry::next)
}

impl Versions {
    /// With room for `limit` bytes of images.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            images: SkipMap::new(),
            order: SegQueue::new(),
            collected: ShortMutex::default(),
            bytes: AtomicUsize::new(0),
            aside: AtomicUsize::new(0),
            limit,
            floor: AtomicU64::new(0),
        }
    }

    /// Bytes of images kept.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether more is kept than may be. Whoever keeps images sees to it: the
    /// evictor, which collects now and then, may be waiting for the device.
    pub(crate) fn is_over(&self) -> bool {
        self.bytes() > self.limit
    }

    /// Whether a freeze should pin views: those of the running generation alone need half
    /// of what may be kept.
    pub(crate) fn wants_freeze(&self) -> bool {
        let aside = self.aside.load(Ordering::Relaxed);
        self.bytes().saturating_sub(aside) > self.limit / 2
    }

    /// Keeps what `key` held before the change `csn`. Call before the change.
    pub(crate) fn keep(&self, tree: TreeId, key: &[u8], csn: Csn, image: Image) {
        let key = VersionKey::new(tree, key, csn);
        self.bytes.fetch_add(size(&key, &image), Ordering::Relaxed);
        // The image first: whoever collects and finds the note must find the image,
        // or it stays for ever.
        self.images.insert(key.clone(), image);
        self.order.push(key);
    }

    /// Keys in `[lower, upper)` that commits after the first up to the second changed,
    /// with what they held before, in key order.
    pub(crate) fn range(
        &self,
        tree: TreeId,
        lower: &[u8],
        upper: Option<&[u8]>,
        (view, upto): (Csn, Csn),
    ) -> Vec<(Vec<u8>, Image)> {
        let mut out: Vec<(Vec<u8>, Image)> = Vec::new();
        for entry in entries_from(&self.images, &VersionKey::new(tree, lower, 0)) {
            let at = entry.key();
            if at.tree != tree || upper.is_some_and(|u| *at.key >= *u) {
                break;
            }
            let seen = view < at.csn && at.csn <= upto;
            if seen && out.last().is_none_or(|l| *l.0 != *at.key) {
                out.push((at.key.to_vec(), entry.value().clone()));
            }
        }
        out
    }

    /// What `key` held at `view`, if a commit up to `upto` changed it since. The outer
    /// `None`: none did.
    pub(crate) fn get(&self, tree: TreeId, key: &[u8], (view, upto): (Csn, Csn)) -> Option<Image> {
        let entry = self.first_change(tree, key, view)?;
        (entry.key().csn <= upto).then(|| entry.value().clone())
    }

    /// Whether none is kept.
    pub(crate) fn is_empty(&self) -> bool {
        self.images.front().is_none()
    }

    /// The first commit after `since` that changed `key`.
    pub(crate) fn changed(&self, tree: TreeId, key: &[u8], since: Csn) -> Option<Csn> {
        self.first_change(tree, key, since).map(|e| e.key().csn)
    }

    /// A key within the bounds that a commit after `since` changed, and the commit.
    pub(crate) fn changed_in(
        &self,
        tree: TreeId,
        bounds: &Bounds,
        since: Csn,
    ) -> Option<(Vec<u8>, Csn)> {
        let lower = match &bounds.lower {
            Bound::Included(k) | Bound::Excluded(k) => k.clone(),
            Bound::Unbounded => Vec::new(),
        };
        entries_from(&self.images, &VersionKey::new(tree, &lower, 0))
            .take_while(|e| e.key().tree == tree && bounds.below_upper(&e.key().key))
            .find(|e| e.key().csn > since && bounds.above_lower(&e.key().key))
            .map(|e| (e.key().key.to_vec(), e.key().csn))
    }

    /// The first change of `key` after `view`.
    fn first_change(
        &self,
        tree: TreeId,
        key: &[u8],
        view: Csn,
    ) -> Option<Entry<'_, VersionKey, Image>> {
        let from = VersionKey::new(tree, key, view.saturating_add(1));
        let entry = self.images.lower_bound(Bound::Included(&from))?;
        let at = entry.key();
        (at.tree == tree && *at.key == *key).then_some(entry)
    }

    /// An error if `view` has lost images. Ask after what they were needed for.
    pub(crate) fn check(&self, view: Csn) -> Result<()> {
        if view < self.floor.load(Ordering::SeqCst) {
            return Err(Error::ViewTooOld { csn: view });
        }
        Ok(())
    }

    /// Views below this have lost what they look at.
    pub(crate) fn floor(&self) -> Csn {
        self.floor.load(Ordering::SeqCst)
    }

    /// Gives up all views below `floor`.
    pub(crate) fn raise_floor(&self, floor: Csn) {
        self.floor.fetch_max(floor, Ordering::SeqCst);
    }

    /// Drops images that no view needs. Over the limit, drops the oldest anyway; what is
    /// lost to pinned views is told to `pins`.
    pub(crate) fn collect(&self, needed: Needed, pins: &Pins) {
        let Some(mut collected) = self.collected.try_lock() else {
            return;
        };
        let Collected {
            next,
            aside,
            pinned,
        } = &mut *collected;
        if *pinned != needed.pinned {
            *pinned = needed.pinned;
            aside.retain(|(key, size)| {
                let needed = within(pinned, key.csn);
                if !needed {
                    self.aside.fetch_sub(*size, Ordering::Relaxed);
                    self.remove(key);
                }
                needed
            });
        }
        loop {
            // The floors first: a view that misses the image finds itself below.
            while self.is_over()
                && let Some((key, size)) = aside.pop_front()
            {
                pins.lose_images(key.csn);
                self.aside.fetch_sub(size, Ordering::Relaxed);
                self.remove(&key);
            }
            let Some(key) = next.take().or_else(|| self.order.pop()) else {
                return;
            };
            if key.csn > needed.after {
                if !self.is_over() {
                    *next = Some(key);
                    return;
                }
                self.floor.fetch_max(key.csn, Ordering::SeqCst);
                pins.lose_images(key.csn);
            } else if within(pinned, key.csn) {
                let image = self.images.get(&key);
                if let Some(size) = image.map(|entry| size(&key, entry.value())) {
                    self.aside.fetch_add(size, Ordering::Relaxed);
                    aside.push_back((key, size));
                }
                continue;
            }
            self.remove(&key);
        }
    }

    fn remove(&self, key: &VersionKey) {
        if let Some(entry) = self.images.remove(key) {
            self.bytes
                .fetch_sub(size(key, entry.value()), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(v: &Versions, after: Csn) {
        let pinned = Vec::new();
        v.collect(Needed { after, pinned }, &Pins::default());
    }

    /// What `key` held at `view`, asked for in both ways.
    fn at(v: &Versions, tree: TreeId, key: &[u8], view: Csn) -> Option<Image> {
        let upper = [key, &[0]].concat();
        let since = (view, Csn::MAX);
        let one = v.range(tree, key, Some(&upper), since).pop().map(|r| r.1);
        assert_eq!(one, v.get(tree, key, since));
        one
    }

    #[test]
    fn a_view_sees_what_was_there() {
        let v = Versions::new(1 << 20);
        let value = |n: u8| Some((1, vec![n]));
        v.keep(1, b"a", 5, value(1));
        v.keep(1, b"a", 9, value(2));
        v.keep(1, b"b", 7, None);
        v.keep(2, b"a", 3, value(7));
        assert_eq!(at(&v, 1, b"a", 4), Some(value(1)));
        assert_eq!(at(&v, 1, b"a", 5), Some(value(2)));
        assert_eq!(at(&v, 1, b"a", 9), None);
        assert_eq!(at(&v, 1, b"b", 0), Some(None));
        assert_eq!(at(&v, 1, b"c", 0), None);
        let all = v.range(1, b"a", None, (4, Csn::MAX));
        assert_eq!(all, vec![(b"a".to_vec(), value(1)), (b"b".to_vec(), None)]);
        assert_eq!(
            v.range(1, b"a", Some(b"b"), (5, Csn::MAX)),
            vec![(b"a".to_vec(), value(2))]
        );
        // What a range delete between them took out is not in what changed after it.
        assert_eq!(v.get(1, b"a", (5, 7)), None);
        assert_eq!(v.get(1, b"a", (4, 7)), Some(value(1)));
        assert_eq!(v.range(1, b"a", None, (5, 7)), vec![(b"b".to_vec(), None)]);
    }

    #[test]
    fn collection_keeps_what_is_needed_and_bounds_the_rest() {
        let v = Versions::new(4096);
        for csn in 1..=10 {
            v.keep(1, b"k", csn, None);
        }
        collect(&v, 4);
        assert_eq!(at(&v, 1, b"k", 4), Some(None));
        assert!(v.check(4).is_ok());
        for csn in 11..=100 {
            v.keep(1, b"k", csn, Some((1, vec![0; 100])));
        }
        collect(&v, 4);
        assert!(v.bytes() <= 4096);
        assert!(v.check(4).is_err());
        collect(&v, 1000);
        assert_eq!(v.bytes(), 0);
    }

    #[test]
    fn what_was_looked_at_is_freed_once_it_is_removed() {
        // With `SkipMap::range` in place of `entries_from` nothing of it is ever freed.
        let (map, other) = (SkipMap::new(), SkipMap::new());
        let value = std::sync::Arc::new(());
        for i in 0..1000 {
            map.insert(i, value.clone());
        }
        assert_eq!(entries_from(&map, &100).count(), 900);
        for i in 0..1000 {
            map.remove(&i);
        }
        // Freed is when no thread can be looking any more; those who come later see to it.
        for _ in 0..1_000_000 {
            if std::sync::Arc::strong_count(&value) == 1 {
                return;
            }
            other.insert(0, ());
            other.remove(&0);
        }
        panic!("{} are there still", std::sync::Arc::strong_count(&value));
    }

    #[test]
    fn every_image_kept_is_collected() {
        // An image was noted for collection before it was there: whoever collected
        // in between, over the limit, took the note, and the image stayed for ever.
        let v = Versions::new(0);
        let over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|s| {
            s.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    collect(&v, 0);
                }
            });
            for csn in 1..=100_000u64 {
                v.keep(1, &(csn % 5).to_be_bytes(), csn, Some((1, vec![0; 40])));
                // Let it come close behind.
                for _ in 0..50 {
                    if v.bytes() == 0 {
                        break;
                    }
                    std::hint::spin_loop();
                }
            }
            over.store(true, Ordering::Relaxed);
        });
        collect(&v, Csn::MAX);
        assert_eq!((v.bytes(), v.images.len()), (0, 0));
    }
}
