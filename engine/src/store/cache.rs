//! The memory for nodes, changed while the store is open.

use gaur_iodriver::sync::thread;
use gaur_iodriver::sync::time::{Duration, now};

use super::Store;
use crate::error::{Error, Result};
use crate::inspect::bytes as in_units;
use crate::options::check_cache;

/// How long [`Store::set_cache_bytes`] waits for a smaller cache to be reached.
const SHRINK_PATIENCE: Duration = Duration::from_secs(10);

/// The memory for nodes of an open store, in bytes of whole blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheBudget {
    /// What nodes may lie in now. Above `wanted` while a smaller cache is not reached.
    pub bytes: u64,
    /// What was asked for last.
    pub wanted: u64,
    /// The most that can be asked for.
    pub most: u64,
}

impl Store {
    /// Changes the memory for nodes to `bytes`, while everything runs. More is there at
    /// once. Less is reached by eviction: waits up to ten seconds for it, and then it
    /// goes on by itself; the answer says how far it is. Writers and readers only become
    /// slower. A batch that is too wide for the smaller cache is refused, as with one
    /// that was small from the beginning. After a failed write, nodes that were on their
    /// way to the device stay where they are.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("cache.store");
    /// # let format = gaur::FormatOptions { create_size: Some(64 << 20), ..Default::default() };
    /// # gaur::Store::format(&path, &format).unwrap();
    /// let options = gaur::OpenOptions {
    ///     cache_bytes: 8 << 20,
    ///     max_cache_bytes: Some(64 << 20),
    ///     ..Default::default()
    /// };
    /// let store = gaur::Store::open(&path, &options)?;
    /// store.set_cache_bytes(64 << 20)?;
    /// let budget = store.set_cache_bytes(4 << 20)?;
    /// assert_eq!(budget.wanted, 4 << 20);
    /// assert_eq!(budget.bytes, 4 << 20);
    /// # Ok::<(), gaur::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::BadOption`] if it is less than 1 MiB or more than
    /// [`CacheBudget::most`], or if the system does not give the memory;
    /// [`Error::Closed`], [`Error::Forked`]. Nothing is changed then.
    pub fn set_cache_bytes(&self, bytes: u64) -> Result<CacheBudget> {
        let core = self.core();
        core.check_open()?;
        check_cache(bytes)?;
        let cache = &core.forest.cache;
        let frames = bytes / u64::from(core.forest.geometry.block_size);
        if frames > cache.most() as u64 {
            return Err(Error::BadOption {
                name: "cache_bytes",
                detail: format!(
                    "{}; at most {}, the max_cache_bytes the store was opened with",
                    in_units(bytes),
                    in_units(self.cache_budget().most)
                ),
            });
        }
        let frames = frames as usize;
        cache.resize(frames)?;
        let begun = now();
        // Somebody else may want something else meanwhile, and wait for it himself.
        while cache.is_shrinking() && cache.frames() == frames && !cache.has_ended() {
            // After a fail-stop what is dirty stays, and only what is clean goes.
            let patience = match core.progress().stopped() {
                Some(_) => SHRINK_PATIENCE / 10,
                None => SHRINK_PATIENCE,
            };
            if begun.elapsed() >= patience {
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(self.cache_budget())
    }

    /// The memory for nodes: what is in use, wanted and possible.
    pub fn cache_budget(&self) -> CacheBudget {
        let cache = &self.core().forest.cache;
        let bytes = |frames: usize| (frames * cache.page_bytes()) as u64;
        CacheBudget {
            bytes: bytes(cache.present()),
            wanted: bytes(cache.frames()),
            most: bytes(cache.most()),
        }
    }
}
