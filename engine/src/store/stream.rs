//! Values streamed in and out.

use std::cell::Cell;
use std::io::Read;
use std::sync::Arc;

#[cfg(doc)]
use super::Store;
use super::commit::{Pieces, finish, record_of, stamp};
use super::{Snapshot, Tree};
use crate::commit::batch::check_key;
use crate::commit::{Change, extents};
use crate::error::{Error, Result};
use crate::format::node::KIND_EXTENT;
use crate::format::{Csn, ExtentPtr};
use crate::large::{Room, ValueReader};
use crate::log::OpsBuilder;
use crate::node::max_inline;
use crate::options::Durability;
use crate::shortage::Claim;

impl Tree {
    /// Sets `key` to a value of `len` bytes that is read from `source`, and returns the
    /// commit. About 1 MiB of memory is taken, however long the value is. Of a source that
    /// has more, the rest is not read.
    ///
    /// The room is reserved first; then the source is read, without any lock, and may take its
    /// time. The value becomes visible, whole, when all of it is written.
    ///
    /// A value may be longer than [`MAX_VALUE`](crate::MAX_VALUE), which bounds what is put from
    /// memory: up to 16 times what a group of blocks holds, that is 1.9 GiB in a store with blocks of
    /// 4 KiB, 7.8 GiB with 8 KiB and 31 GiB with 16 KiB.
    ///
    /// # Errors
    /// [`Error::Source`]: the source failed, or ended before `len` bytes. [`Error::ValueTooLong`],
    /// and what [`Store::commit`] can fail with. If nothing says otherwise there, nothing was
    /// changed, and the space is given back.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("put_from.store");
    /// # let format = gaur::FormatOptions { create_size: Some(64 << 20), ..Default::default() };
    /// # gaur::Store::format(&path, &format).unwrap();
    /// # let store = gaur::Store::open(&path, &gaur::OpenOptions::default()).unwrap();
    /// use gaur::{Durability, Error};
    ///
    /// let files = store.tree("files")?;
    /// let source = [1u8; 5000];
    /// files.put_from(b"a", 5000, &source[..], Durability::Sync)?;
    /// assert_eq!(files.get(b"a")?.unwrap(), source);
    ///
    /// let short = files.put_from(b"b", 5001, &source[..], Durability::Sync).unwrap_err();
    /// assert!(matches!(short, Error::Source { read: 5000, len: 5001, .. }));
    /// assert_eq!(files.get(b"b")?, None);
    /// # Ok::<(), gaur::Error>(())
    /// ```
    pub fn put_from(
        &self,
        key: &[u8],
        len: u64,
        mut source: impl Read,
        durability: Durability,
    ) -> Result<Csn> {
        let core = &self.inner.core;
        core.check_writable()?;
        check_key(key)?;
        let most = core.longest_value();
        if len > most {
            return Err(Error::ValueTooLong { len, max: most });
        }
        if len <= max_inline(core.forest.geometry.block_size, key.len()) as u64 {
            let mut value = vec![0; len as usize];
            crate::large::fill(&mut source, &mut value, (0, len))?;
            return self.put_with(key, &value, durability);
        }
        core.throttle.pass(core, false);
        let worker = core.forest.workers.mine()?;
        let workers = &core.forest.workers;
        // The lane is left before the source is read, whose time nobody knows.
        let room = {
            let _busy = worker.begin_commit(workers)?;
            Room::reserve(core, &worker, &mut Claim::adding(), len)?
        };
        // A store is closed between two writes, never during one; then the room is not ours.
        let mut writing = |write: &mut dyn FnMut() -> Result<()>| {
            let _busy = worker.begin_commit(workers)?;
            write()
        };
        let stored = room.fill(&mut source, &mut writing)?;
        let pieces = Pieces {
            core,
            written: vec![stored],
            appended: Cell::new(false),
        };
        let _busy = worker.begin_commit(workers)?;
        let stored = pieces.written[0].as_slice();
        let list: Vec<ExtentPtr> = extents(stored).collect();
        let mut ops = OpsBuilder::new();
        ops.put_extents(self.state.id, key, &list)?;
        let record = record_of(&ops, durability == Durability::Sync);
        let change = Change {
            tree: &self.state,
            key,
            value: Some((KIND_EXTENT, stored)),
        };
        let stamp = stamp(&record, &pieces.appended, None);
        let (made, claim) = core.make(&worker, &[change], stamp, Claim::adding());
        drop(pieces);
        drop(claim);
        finish(core, &worker, made?, durability)
    }

    /// A reader of the value of `key`, if it is there: for values that one does not want to have in
    /// memory as a whole, or of which a part will do.
    ///
    /// # Errors
    /// As [`Tree::get`], and [`Error::TooManyThreads`].
    pub fn reader(&self, key: &[u8]) -> Result<Option<ValueReader>> {
        let core = &self.inner.core;
        core.check_open()?;
        self.reader_at(key, core.view()?)
    }

    pub(crate) fn reader_at(
        &self,
        key: &[u8],
        view: Arc<crate::commit::view::View>,
    ) -> Result<Option<ValueReader>> {
        let worker = self.reading(key)?;
        let core = &self.inner.core;
        let entry = core.lookup_at(&worker, &self.state, key, &view)?;
        Ok(entry.map(|entry| ValueReader::new(core, self.state.clone(), view, entry)))
    }
}

impl Snapshot {
    /// A reader of the value that `key` had then, if it was there. It holds the snapshot's
    /// commit by itself.
    ///
    /// # Errors
    /// As [`Snapshot::get`].
    pub fn reader(&self, tree: &Tree, key: &[u8]) -> Result<Option<ValueReader>> {
        self.of(tree)?;
        tree.reader_at(key, self.view.clone())
    }
}
