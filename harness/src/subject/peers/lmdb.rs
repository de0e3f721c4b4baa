//! LMDB, by `heed`.

use std::ops::Bound;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use heed::types::Bytes;
use heed::{
    CommitOrAbort, CompactionOption, Database, Env, EnvFlags, EnvOpenOptions, FlagSetMode, RoTxn,
    WithTls,
};

use super::{Settings, Setup, failed};
use crate::failure::Failure;
use crate::run::config::Durable;
use crate::subject::{Change, Direction, Session, Subject, Work};

/// The most that the map may hold; it takes address space alone.
const MAP: usize = 1 << 40;
/// Readers at once, sessions and those who look meanwhile.
const READERS: u32 = 512;

type Records = Database<'static, Bytes, Bytes>;

struct Lmdb {
    env: Env<WithTls>,
    records: Records,
    /// The environment syncs at each commit.
    syncs: AtomicBool,
    reads_only: AtomicBool,
}

struct LmdbSession<'a> {
    of: &'a Lmdb,
    /// Held for as long as nobody writes.
    held: Option<RoTxn<'a, WithTls>>,
}

pub(super) fn open(dir: &Path, setup: &Setup) -> Result<(Box<dyn Subject>, Settings), Failure> {
    let mut options = EnvOpenOptions::new();
    options.map_size(MAP).max_readers(READERS);
    let mut settings = vec![
        (
            "cache",
            "the page cache, by mmap; no cache of its own".to_owned(),
        ),
        ("map_size", "1 TiB".to_owned()),
        (
            "durable commit",
            "no flag: fdatasync of the data, then the meta page".to_owned(),
        ),
        (
            "buffered commit",
            "MDB_NOSYNC, and mdb_env_sync at each interval; a crash between may damage the store"
                .to_owned(),
        ),
    ];
    if setup.larger_than_memory {
        // SAFETY: it only tells the kernel not to read ahead.
        unsafe { options.flags(EnvFlags::NO_READ_AHEAD) };
        settings.push((
            "flags",
            "MDB_NORDAHEAD, advised if larger than memory".to_owned(),
        ));
    }
    // SAFETY: the directory was made for this process alone, so nobody changes the
    // file below the map.
    let env = unsafe { options.open(dir) }.map_err(|e| failed("open LMDB", e))?;
    let txn = env.write_txn().map_err(|e| failed("begin", e))?;
    let records = env
        .create_databases_and_commit(txn, |opener, txn| {
            opener
                .create_database::<Bytes, Bytes>(txn, None)
                .map(CommitOrAbort::<_, ()>::Commit)
        })
        .map_err(|e: heed::Error| failed("make LMDB's database", e))?
        .commit()
        .ok_or_else(|| failed("make LMDB's database", "aborted"))?;
    let lmdb = Lmdb {
        env,
        records,
        syncs: AtomicBool::new(true),
        reads_only: AtomicBool::new(false),
    };
    Ok((Box::new(lmdb), settings))
}

impl Subject for Lmdb {
    fn session(&self) -> Result<Box<dyn Session + '_>, Failure> {
        let held = match self.reads_only.load(Ordering::Relaxed) {
            true => Some(self.env.read_txn().map_err(|e| failed("begin a read", e))?),
            false => None,
        };
        Ok(Box::new(LmdbSession { of: self, held }))
    }

    fn flush(&self) -> Result<(), Failure> {
        self.env.force_sync().map_err(|e| failed("sync", e))
    }

    fn expect(&self, work: Work) -> Result<(), Failure> {
        let syncs = work.durability == Durable::Sync;
        let mode = match syncs {
            true => FlagSetMode::Disable,
            false => FlagSetMode::Enable,
        };
        // SAFETY: no session is open, so no other thread uses the environment.
        unsafe { self.env.set_flags(EnvFlags::NO_SYNC, mode) }
            .map_err(|e| failed("set LMDB's flags", e))?;
        self.syncs.store(syncs, Ordering::Relaxed);
        self.reads_only.store(work.reads_only, Ordering::Relaxed);
        Ok(())
    }

    fn flushes_itself(&self) -> bool {
        false
    }

    fn len(&self) -> Result<Option<u64>, Failure> {
        let txn = self.env.read_txn().map_err(|e| failed("begin a read", e))?;
        let count = self.records.len(&txn).map_err(|e| failed("count", e))?;
        Ok(Some(count))
    }

    /// By a copy, as `mdb_copy -c` does, which then takes the old file's place.
    fn compact(&mut self) -> Result<bool, Failure> {
        let (old, new) = (
            self.env.path().join("data.mdb"),
            self.env.path().join("compact.mdb"),
        );
        let copy = self
            .env
            .copy_to_path(&new, CompactionOption::Enabled)
            .map_err(|e| failed("compact LMDB", e))?;
        copy.sync_all()
            .and_then(|()| std::fs::rename(&new, &old))
            .map_err(|e| Failure::file("replace", &old, &e))?;
        Ok(true)
    }

    fn close(self: Box<Self>) -> Result<(), Failure> {
        self.flush()?;
        self.env.prepare_for_closing().wait();
        Ok(())
    }
}

impl LmdbSession<'_> {
    /// Calls `read` with the transaction that is held, or with one of its own.
    fn reading<R>(
        &self,
        read: impl FnOnce(&RoTxn<'_, WithTls>) -> Result<R, heed::Error>,
    ) -> Result<R, Failure> {
        match &self.held {
            Some(txn) => read(txn),
            None => self.of.env.read_txn().and_then(|txn| read(&txn)),
        }
        .map_err(|e| failed("read", e))
    }
}

impl Session for LmdbSession<'_> {
    fn get(&mut self, key: &[u8], found: &mut dyn FnMut(&[u8])) -> Result<bool, Failure> {
        self.reading(|txn| {
            let value = self.of.records.get(txn, key)?;
            if let Some(value) = value {
                found(value);
            }
            Ok(value.is_some())
        })
    }

    fn scan(
        &mut self,
        from: &[u8],
        limit: usize,
        direction: Direction,
        each: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<usize, Failure> {
        // It takes no empty key, nor a bound by one.
        let bound = match from {
            [] => Bound::Unbounded,
            from => Bound::Included(from),
        };
        self.reading(|txn| {
            let records = &self.of.records;
            let mut count = 0;
            let mut one = |record: Result<(&[u8], &[u8]), heed::Error>| {
                let (key, value) = record?;
                each(key, value);
                count += 1;
                Ok::<_, heed::Error>(())
            };
            match direction {
                Direction::Forward => records
                    .range(txn, &(bound, Bound::Unbounded))?
                    .take(limit)
                    .try_for_each(&mut one)?,
                Direction::Backward => records
                    .rev_range(txn, &(Bound::Unbounded, bound))?
                    .take(limit)
                    .try_for_each(&mut one)?,
            }
            Ok(count)
        })
    }

    fn commit(&mut self, changes: &[Change<'_>], durability: Durable) -> Result<(), Failure> {
        let commit = || {
            let mut txn = self.of.env.write_txn()?;
            for change in changes {
                match change {
                    Change::Put(key, value) => self.of.records.put(&mut txn, key, value)?,
                    Change::Delete(key) => drop(self.of.records.delete(&mut txn, key)?),
                }
            }
            txn.commit()?;
            if durability == Durable::Sync && !self.of.syncs.load(Ordering::Relaxed) {
                self.of.env.force_sync()?;
            }
            Ok(())
        };
        commit().map_err(|e: heed::Error| failed("write", e))
    }
}
