//! Free space lent out for measuring: the one way to write to the device of an
//! open store without harm to it.
//!
//! What must hold: the blocks are *handed out* in the allocator's sense, as those
//! of a writer's stash. No generation names them, nor does the log, so the map on
//! the device has them free all the time; whatever was written there, a crash
//! leaves free blocks. They come back when the lease is dropped.

use std::sync::Arc;

use gaur_iodriver::{Device, IoBuf};

use crate::alloc::{MapView, Request, Shape};
use crate::core::Core;
use crate::error::Result;
use crate::format::Run;
use crate::recovery::geometry_of;
use crate::shortage::Claim;
use crate::store::Store;
use crate::writeback::superblock::read_pair;

/// The most pieces that a lease may lie in.
const MAX_PIECES: usize = 64;

/// Free space of an open store, kept from all others until this is dropped.
///
/// It may outlive the store. The space stays free on the device then too, and the device
/// stays open and locked by this process until the lease is dropped, so nobody can open
/// the store and use that space: who wants to open it again drops the lease first.
///
/// Nothing but [`FreeSpace::extents`] may be written through
/// [`FreeSpace::device`], and nothing after the lease was dropped.
#[derive(Debug)]
pub struct FreeSpace {
    core: Arc<Core>,
    runs: Vec<Run>,
}

impl Store {
    /// Lends free space of at least `bytes`, for measurements of the device below
    /// the store. What is written there is never read by the store, and is free
    /// space again when the lease is dropped, or after a crash. Waits for the
    /// allocator, and for a checkpoint if that frees what is missing.
    ///
    /// # Errors
    /// [`Error::Full`](crate::Error::Full) if there is not as much in at most 64
    /// pieces, besides what the store keeps for itself;
    /// [`Error::ReadOnly`](crate::Error::ReadOnly),
    /// [`Error::Closed`](crate::Error::Closed),
    /// [`Error::Stopped`](crate::Error::Stopped).
    #[doc(hidden)]
    pub fn borrow_free_space(&self, bytes: u64) -> Result<FreeSpace> {
        let core = self.core();
        core.check_writable()?;
        if let Some(stopped) = core.log().stopped() {
            return Err(stopped);
        }
        let block = u64::from(core.forest.geometry.block_size);
        let blocks = u32::try_from(bytes.div_ceil(block).max(1)).unwrap_or(u32::MAX);
        let worker = core.forest.workers.mine()?;
        let mut claim = Claim::adding();
        let runs = core.forest.claim(&worker, &mut claim, |urgency| {
            core.forest.pool.allocator().reserve(Request {
                blocks,
                shape: Shape::Extent {
                    max_pieces: MAX_PIECES,
                },
                hint: 0,
                urgency,
            })
        })?;
        drop(claim);
        Ok(FreeSpace {
            core: core.clone(),
            runs,
        })
    }
}

impl FreeSpace {
    /// Where the store's data lies, as of the last checkpoint, for measurements that
    /// only read: offset and length in bytes, in ascending order. Looks at `groups`
    /// groups of blocks at most, spread evenly over those ever used. What comes into
    /// use or goes out of it meanwhile makes a block no less readable.
    ///
    /// # Errors
    /// If the superblock or the map's index cannot be read. Groups whose map block
    /// is not whole, as when a checkpoint replaces it at this moment, are left out.
    pub fn data_extents(&self, groups: usize) -> Result<Vec<(u64, u64)>> {
        let device = self.core.forest.device.as_ref();
        let sb = read_pair(device, "the store", false)?.newest;
        let g = geometry_of(&sb, device)?;
        let map = MapView::read(device, g, &sb)?;
        let touched: Vec<u64> = (0..g.groups())
            .filter(|n| map.entry(0, *n).untouched == 0 && !map.damaged().contains_key(n))
            .collect();
        let step = touched.len().div_ceil(groups.max(1)).max(1);
        let mut extents: Vec<(u64, u64)> = Vec::new();
        let mut block = IoBuf::zeroed(g.block_size as usize);
        for &group in touched.iter().step_by(step) {
            device.read_at(g.byte(map.place(0, group)), &mut block)?;
            let Ok(used) = map.bits(group, &block) else {
                continue;
            };
            let data = used.without(&map.fixed(group));
            let first = group * g.group_blocks();
            for (start, len) in data.ones() {
                let (at, len) = (g.byte(first + u64::from(start)), g.byte(len.into()));
                match extents.last_mut() {
                    Some(last) if last.0 + last.1 == at => last.1 += len,
                    _ => extents.push((at, len)),
                }
            }
        }
        Ok(extents)
    }

    /// Where it lies: offset and length in bytes, whole blocks each.
    pub fn extents(&self) -> Vec<(u64, u64)> {
        let geometry = &self.core.forest.geometry;
        let bytes = |run: &Run| (geometry.byte(run.start), geometry.byte(u64::from(run.len)));
        self.runs.iter().map(bytes).collect()
    }

    /// The store's device.
    pub fn device(&self) -> Arc<dyn Device> {
        self.core.forest.device.clone()
    }

    /// Bytes in a block of the store.
    pub fn block_size(&self) -> u32 {
        self.core.forest.geometry.block_size
    }
}

impl Drop for FreeSpace {
    fn drop(&mut self) {
        if !self.core.is_home() {
            // In a forked child nothing is sent: they are the parent's. Nor is the core
            // dropped if this is its last user: its locks may be held for ever here.
            std::mem::forget(self.core.clone());
            return;
        }
        let runs = std::mem::take(&mut self.runs);
        self.core.forest.pool.allocator().give_back(runs);
    }
}

#[cfg(test)]
mod tests {
    use gaur_iodriver::{CrashMode, SimDisk, SimOptions};

    use super::*;
    use crate::{CheckOptions, Durability, Error, FormatOptions, OpenOptions};

    const RECORDS: u32 = 2000;

    fn filled() -> (SimDisk, Store) {
        let disk = SimDisk::new(SimOptions {
            capacity: 64 << 20,
            ..Default::default()
        });
        Store::format_device(disk.device(), &FormatOptions::default()).unwrap();
        let store = open(&disk);
        let tree = store.tree("t").unwrap();
        for i in 0..RECORDS {
            let (key, value) = (i.to_be_bytes(), [i as u8; 200]);
            tree.put_with(&key, &value, Durability::Buffered).unwrap();
        }
        store.flush().unwrap();
        (disk, store)
    }

    fn open(disk: &SimDisk) -> Store {
        Store::open_device(disk.device(), &OpenOptions::default()).unwrap()
    }

    fn scribble(lease: &FreeSpace) {
        let junk = gaur_iodriver::IoBuf::zeroed(1 << 20);
        let mut junk = junk;
        junk.fill(0x5a);
        for (start, len) in lease.extents() {
            let mut at = 0;
            while at < len {
                let n = (len - at).min(1 << 20);
                lease
                    .device()
                    .write_at(start + at, &junk[..n as usize])
                    .unwrap();
                at += n;
            }
        }
        lease.device().flush().unwrap();
    }

    fn is_whole(disk: &SimDisk) {
        let report = crate::check_device(disk.device(), &CheckOptions::default()).unwrap();
        assert!(report.clean, "{:?}", report.problems);
        let store = open(disk);
        let tree = store.open_tree("t").unwrap();
        for i in 0..RECORDS {
            assert_eq!(
                tree.get(&i.to_be_bytes()).unwrap(),
                Some(vec![i as u8; 200])
            );
        }
    }

    #[test]
    fn data_lies_where_the_map_says() {
        let (_, store) = filled();
        store.checkpoint().unwrap();
        let lease = store.borrow_free_space(4 << 20).unwrap();
        let data = lease.data_extents(64).unwrap();
        // 2000 records of 200 bytes and the nodes above them, half full or better.
        let bytes: u64 = data.iter().map(|e| e.1).sum();
        assert!((400_000..2_000_000).contains(&bytes), "{bytes}");
        assert!(data.windows(2).all(|w| w[0].0 + w[0].1 < w[1].0));
        // Every block but the catalog's names a node of the tree; none is lent.
        let lent = lease.extents();
        let apart = |a: &(u64, u64), b: &(u64, u64)| a.0 + a.1 <= b.0 || b.0 + b.1 <= a.0;
        assert!(data.iter().all(|d| lent.iter().all(|l| apart(d, l))));
        let mut block = IoBuf::zeroed(4096);
        for (start, len) in data {
            for at in (start..start + len).step_by(4096) {
                lease.device().read_at(at, &mut block).unwrap();
                assert!(block.iter().any(|b| *b != 0), "nothing was written at {at}");
            }
        }
    }

    #[test]
    fn what_is_lent_is_written_over_and_comes_back() {
        let (disk, store) = filled();
        let free = store.core().forest.pool.allocator().free_blocks();
        let lease = store.borrow_free_space(40 << 20).unwrap();
        let lent: u64 = lease.extents().iter().map(|e| e.1).sum();
        assert_eq!(lent, 40 << 20);
        scribble(&lease);
        // Writers and checkpoints go on beside it, until the rest is full: nobody
        // else gets what is lent.
        let rest = store.tree("u").unwrap();
        let mut values = 0_u32;
        let full = loop {
            match rest.put(&values.to_be_bytes(), &[values as u8; 100_000]) {
                Ok(_) => values += 1,
                Err(e) => break e,
            }
        };
        assert!(matches!(full, Error::Full { .. }), "{full}");
        assert!((10..200).contains(&values), "{values} values beside it");
        scribble(&lease);
        for i in 0..values {
            let value = rest.get(&i.to_be_bytes()).unwrap();
            assert_eq!(value, Some(vec![i as u8; 100_000]));
        }
        drop(rest);
        assert!(matches!(
            store.borrow_free_space(60 << 20),
            Err(Error::Full { .. })
        ));
        drop(lease);
        store.core().forest.pool.allocator().settle().unwrap();
        let after = store.core().forest.pool.allocator().free_blocks();
        let used = values * 25 + 400;
        assert!(
            after + u64::from(used) > free,
            "{after} of {free} came back"
        );
        store.close().unwrap();
        is_whole(&disk);
    }

    #[test]
    fn a_crash_leaves_it_free() {
        let (disk, store) = filled();
        let lease = store.borrow_free_space(16 << 20).unwrap();
        scribble(&lease);
        store.checkpoint().unwrap();
        scribble(&lease);
        let image = disk.crash_with(CrashMode::Everything, 1);
        drop((lease, store));
        is_whole(&image);
    }

    #[test]
    fn a_lease_may_outlive_its_store() {
        for close in [true, false] {
            let (disk, store) = filled();
            let lease = store.borrow_free_space(16 << 20).unwrap();
            scribble(&lease);
            if close {
                store.close().unwrap();
            } else {
                drop(store);
            }
            scribble(&lease);
            drop(lease);
            is_whole(&disk);
        }
    }

    #[test]
    fn a_reader_lends_nothing() {
        let (disk, store) = filled();
        store.close().unwrap();
        let options = OpenOptions {
            read_only: true,
            ..Default::default()
        };
        let store = Store::open_device(disk.device(), &options).unwrap();
        assert!(matches!(store.borrow_free_space(1), Err(Error::ReadOnly)));
    }
}
