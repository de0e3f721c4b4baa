//! Changes of one key that depend on what it holds.
//!
//! What the key holds is read without any latch, and looked at again under its leaf's
//! latch before the commit draws its CSN. No view is opened and nothing is validated but
//! that one entry.

use super::Tree;
use crate::commit::condition::Condition;
use crate::error::{Error, Result};
use crate::format::Csn;
use crate::options::Durability;

/// What came of a change that depended on what its key held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Swap<V = Vec<u8>> {
    /// The change was made, by this commit.
    Done(Csn),
    /// Nothing was done: the key held this; `None`: it was not there.
    Differs(Option<V>),
}

impl Tree {
    /// Sets `key` to what `change` makes of its value, atomically, and returns the commit.
    /// `None` stands for a key that is not there: given to `change`, and returned by it
    /// to remove the key. If it returns what it was given, nothing is written and no CSN
    /// drawn: the newest visible one is returned.
    ///
    /// `change` is called again when another commit changed the key in between; it runs
    /// without any lock and may take its time.
    ///
    /// # Errors
    /// As [`Store::commit`](crate::Store::commit) and [`Tree::get`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("update.store");
    /// # let format = gaur::FormatOptions { create_size: Some(64 << 20), ..Default::default() };
    /// # gaur::Store::format(&path, &format).unwrap();
    /// # let store = gaur::Store::open(&path, &gaur::OpenOptions::default()).unwrap();
    /// let visits = store.tree("visits")?;
    /// for _ in 0..3 {
    ///     visits.update(b"/", gaur::Durability::Buffered, |old| {
    ///         let n = old.map_or(0, |v| u64::from_le_bytes(v.try_into().unwrap()));
    ///         Some((n + 1).to_le_bytes().to_vec())
    ///     })?;
    /// }
    /// assert_eq!(visits.get(b"/")?.unwrap(), 3u64.to_le_bytes());
    /// # Ok::<(), gaur::Error>(())
    /// ```
    pub fn update(
        &self,
        key: &[u8],
        durability: Durability,
        mut change: impl FnMut(Option<&[u8]>) -> Option<Vec<u8>>,
    ) -> Result<Csn> {
        let core = &self.inner.core;
        core.check_writable()?;
        loop {
            let worker = self.reading(key)?;
            let now = core.current(&worker, &self.state, key)?;
            let new = change(now.value());
            if new.as_deref() == now.value() {
                return Ok(core.visible.upto());
            }
            let holds = Condition::Holds(&now.entry);
            match self.one(key, new.as_deref(), durability, Some(holds)) {
                Err(Error::Conflict(_)) => {}
                made => return made,
            }
        }
    }

    /// Sets `key` to `new` if it holds `expected`, atomically. `None` stands for a key that is
    /// not there.
    ///
    /// # Errors
    /// As [`Tree::update`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("swap.store");
    /// # let format = gaur::FormatOptions { create_size: Some(64 << 20), ..Default::default() };
    /// # gaur::Store::format(&path, &format).unwrap();
    /// # let store = gaur::Store::open(&path, &gaur::OpenOptions::default()).unwrap();
    /// use gaur::{Durability, Swap};
    ///
    /// let leases = store.tree("leases")?;
    /// let mine = leases.compare_and_swap(b"disk", None, Some(b"me"), Durability::Sync)?;
    /// assert!(matches!(mine, Swap::Done(_)));
    /// let theirs = leases.compare_and_swap(b"disk", None, Some(b"you"), Durability::Sync)?;
    /// assert_eq!(theirs, Swap::Differs(Some(b"me".to_vec())));
    /// # Ok::<(), gaur::Error>(())
    /// ```
    pub fn compare_and_swap(
        &self,
        key: &[u8],
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
        durability: Durability,
    ) -> Result<Swap> {
        let core = &self.inner.core;
        core.check_writable()?;
        loop {
            let worker = self.reading(key)?;
            let now = core.current(&worker, &self.state, key)?;
            if now.value() != expected {
                return Ok(Swap::Differs(now.into_value()));
            }
            let holds = Condition::Holds(&now.entry);
            match self.one(key, new, durability, Some(holds)) {
                // It may hold the same value again.
                Err(Error::Conflict(_)) => {}
                made => return made.map(Swap::Done),
            }
        }
    }

    /// Sets `key` to `value` if it is not there, atomically.
    ///
    /// # Errors
    /// As [`Tree::update`].
    pub fn insert_if_absent(
        &self,
        key: &[u8],
        value: &[u8],
        durability: Durability,
    ) -> Result<Swap> {
        self.compare_and_swap(key, None, Some(value), durability)
    }
}
