//! Size and free space: growing, discarding.

use std::ops::ControlFlow;

use super::Store;
use crate::error::{Error, Result};
use crate::growth::GrowReport;
use crate::trim::{TrimOptions, TrimReport, trim};

impl Store {
    /// Takes in what the device or file has become larger, with `bytes` after making
    /// a file at least that large: preallocated, unless the store was formatted as
    /// sparse. Returns when that is durable; commits go on meanwhile.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("grow.store");
    /// # let format = gaur::FormatOptions { create_size: Some(64 << 20), ..Default::default() };
    /// # gaur::Store::format(&path, &format).unwrap();
    /// let store = gaur::Store::open(&path, &gaur::OpenOptions::default())?;
    /// let report = store.grow(Some(96 << 20))?;
    /// assert_eq!((report.before, report.capacity), (64 << 20, 96 << 20));
    /// # Ok::<(), gaur::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::CannotGrow`] if the file system is full, or the device is a block
    /// device of fewer bytes; [`Error::BadOption`] for fewer bytes than the store
    /// has, or more than it can have. The store goes on as it is. Otherwise as
    /// [`Store::checkpoint`].
    pub fn grow(&self, bytes: Option<u64>) -> Result<GrowReport> {
        self.core().check_writable()?;
        let grown = self.core().forest.grow(bytes);
        grown.map_err(|e| match e {
            Error::Stopped(_) => self.core().check_open().err().unwrap_or(e),
            e => e,
        })
    }

    /// What [`Store::grow`] would do; changes nothing, and may be asked of a store
    /// that is open read-only. Whether the file system has the space shows only
    /// when it is taken.
    ///
    /// # Errors
    /// As [`Store::grow`].
    pub fn plan_growth(&self, bytes: Option<u64>) -> Result<GrowReport> {
        self.core().check_open()?;
        self.core().forest.plan_growth(bytes)
    }

    /// Bytes the store uses of its device or file, all told.
    pub fn capacity(&self) -> u64 {
        self.core().forest.bytes()
    }

    /// A batch that only deletes, and touches at most so many leaves, is not refused
    /// for want of space, however full the store. (The reserve is eight times as
    /// many blocks: a leaf's way down has up to five nodes, and replay after a crash
    /// has a quarter.) A larger one may get [`Error::Full`].
    pub fn delete_batch_leaves(&self) -> u64 {
        self.core().forest.pool.allocator().reserve_blocks() / 8
    }

    /// Discards all free space, as `fstrim` does, while others use the store. Begins
    /// with a checkpoint, so that what was deleted is free. `progress` is called
    /// every 0.1 s or oftener, also while the rate makes it wait, and may end it early.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("trim.store");
    /// use std::ops::ControlFlow;
    /// use gaur::{FormatOptions, OpenOptions, Store, TrimOptions};
    ///
    /// let options = FormatOptions {
    ///     create_size: Some(64 << 20),
    ///     sparse: true,
    ///     ..Default::default()
    /// };
    /// Store::format(&path, &options)?;
    /// let store = Store::open(&path, &OpenOptions::default())?;
    /// let report = store.trim(&TrimOptions::default(), |so_far| {
    ///     println!("{} of {} bytes", so_far.looked_at, so_far.size);
    ///     ControlFlow::Continue(())
    /// })?;
    /// assert!(report.discarded > 0 && report.discarded <= report.free);
    /// # Ok::<(), gaur::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Io`] with `Unsupported` if the device cannot discard, or the store is
    /// in a file that was not formatted as sparse; [`Error::ReadOnly`] unless it is a
    /// dry run; [`Error::Stopped`], [`Error::Closed`].
    pub fn trim(
        &self,
        options: &TrimOptions,
        progress: impl FnMut(&TrimReport) -> ControlFlow<()>,
    ) -> Result<TrimReport> {
        trim(self.core(), options, progress)
    }
}
