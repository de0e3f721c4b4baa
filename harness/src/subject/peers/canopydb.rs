//! canopydb.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use canopydb::{Database, DbOptions, EnvOptions, Error, ReadTransaction, Tree, WriteTransaction};

use super::{Settings, Setup, failed};
use crate::failure::Failure;
use crate::run::config::Durable;
use crate::subject::{Change, Direction, Session, Subject, Work};

const RECORDS: &[u8] = b"default";
/// Its defaults for a checkpoint, in bytes; where memory is short, this part of the
/// cache is the most that may be changed and not yet written.
const CHECKPOINT: u64 = 64 << 20;
const CHANGED_SHARE: u64 = 4;

struct Canopydb {
    database: Database,
    reads_only: AtomicBool,
}

struct CanopydbSession<'a> {
    of: &'a Canopydb,
    /// Held for as long as nobody writes.
    held: Option<ReadTransaction>,
}

pub(super) fn open(dir: &Path, setup: &Setup) -> Result<(Box<dyn Subject>, Settings), Failure> {
    let mut env = EnvOptions::new(dir);
    env.page_cache_size = usize::try_from(setup.cache).unwrap_or(usize::MAX);
    env.wal_background_sync_interval = Some(setup.interval);
    let mut db = DbOptions::new();
    let mut settings = vec![
        ("cache", format!("page_cache_size = {}", setup.cache)),
        ("checksums", "off, its default".to_owned()),
        (
            "durable commit",
            "commit_with(true); single records by begin_write_concurrent, repeated on conflict"
                .to_owned(),
        ),
        (
            "buffered commit",
            format!(
                "commit_with(false), wal_background_sync_interval = {:?}",
                setup.interval
            ),
        ),
    ];
    if setup.larger_than_memory {
        let most = (setup.cache / CHANGED_SHARE).min(CHECKPOINT) as usize;
        db.write_txn_memory_limit = most;
        db.checkpoint_target_size = most;
        db.throttle_memory_limit = 2 * most;
        db.stall_memory_limit = 2 * most;
        settings.push((
            "memory",
            format!(
                "checkpoint_target_size and write_txn_memory_limit = {most}, throttle and stall at \
                 twice that, to fit the limit"
            ),
        ));
    }
    let database = Database::with_options(env, db).map_err(|e| failed("open canopydb", e))?;
    let canopydb = Canopydb {
        database,
        reads_only: AtomicBool::new(false),
    };
    // The tree must be there for those who read.
    canopydb
        .write(true, false, |_| Ok(()))
        .map_err(|e| failed("make canopydb's tree", e))?;
    Ok((Box::new(canopydb), settings))
}

impl Canopydb {
    fn write(
        &self,
        sync: bool,
        concurrent: bool,
        change: impl Fn(&mut Tree<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        loop {
            let txn: WriteTransaction = self.database.begin_write_with(concurrent)?;
            let mut tree = txn.get_or_create_tree(RECORDS)?;
            change(&mut tree)?;
            drop(tree);
            match txn.commit_with(sync) {
                Err(Error::WriteConflict) => {}
                done => return done.map(drop),
            }
        }
    }
}

impl Subject for Canopydb {
    fn session(&self) -> Result<Box<dyn Session + '_>, Failure> {
        let held = match self.reads_only.load(Ordering::Relaxed) {
            true => Some(
                self.database
                    .begin_read()
                    .map_err(|e| failed("begin a read", e))?,
            ),
            false => None,
        };
        Ok(Box::new(CanopydbSession { of: self, held }))
    }

    fn flush(&self) -> Result<(), Failure> {
        self.database
            .sync()
            .map_err(|e| failed("make all durable", e))
    }

    fn expect(&self, work: Work) -> Result<(), Failure> {
        self.reads_only.store(work.reads_only, Ordering::Relaxed);
        Ok(())
    }

    fn len(&self) -> Result<Option<u64>, Failure> {
        let session = CanopydbSession {
            of: self,
            held: None,
        };
        session.reading(|tree| Ok(Some(tree.len())))
    }

    fn compact(&mut self) -> Result<bool, Failure> {
        self.database
            .compact()
            .map(|()| true)
            .map_err(|e| failed("compact canopydb", e))
    }

    fn close(self: Box<Self>) -> Result<(), Failure> {
        self.flush()?;
        self.database
            .checkpoint()
            .map_err(|e| failed("close canopydb", e))
    }
}

impl CanopydbSession<'_> {
    /// Calls `read` with the tree of the transaction that is held, or of one of its own.
    fn reading<R>(&self, read: impl FnOnce(&Tree<'_>) -> Result<R, Error>) -> Result<R, Failure> {
        let of = |txn: &ReadTransaction| {
            let tree = txn.get_tree(RECORDS)?;
            let tree = tree.ok_or_else(|| Error::Validation("no tree".to_owned().into()))?;
            read(&tree)
        };
        match &self.held {
            Some(txn) => of(txn),
            None => self.of.database.begin_read().and_then(|txn| of(&txn)),
        }
        .map_err(|e| failed("read", e))
    }
}

impl Session for CanopydbSession<'_> {
    fn get(&mut self, key: &[u8], found: &mut dyn FnMut(&[u8])) -> Result<bool, Failure> {
        self.reading(|tree| {
            let value = tree.get(key)?;
            if let Some(value) = &value {
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
        self.reading(|tree| {
            let mut range = match direction {
                Direction::Forward => tree.range(from..)?,
                Direction::Backward => tree.range(..=from)?,
            };
            let mut count = 0;
            while count < limit {
                let next = match direction {
                    Direction::Forward => range.next(),
                    Direction::Backward => range.next_back(),
                };
                let Some(record) = next else { break };
                let (key, value) = record?;
                each(&key, &value);
                count += 1;
            }
            Ok(count)
        })
    }

    fn commit(&mut self, changes: &[Change<'_>], durability: Durable) -> Result<(), Failure> {
        let concurrent = changes.len() == 1;
        self.of
            .write(durability == Durable::Sync, concurrent, |tree| {
                for change in changes {
                    match *change {
                        Change::Put(key, value) => tree.insert(key, value)?,
                        Change::Delete(key) => drop(tree.delete(key)?),
                    }
                }
                Ok(())
            })
            .map_err(|e| failed("write", e))
    }
}
