//! redb.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use redb::{
    Database, Durability, ReadOnlyTable, ReadableDatabase, ReadableTableMetadata, TableDefinition,
};

use super::{Settings, Setup, failed};
use crate::failure::Failure;
use crate::run::config::Durable;
use crate::subject::{Change, Direction, Session, Subject, Work};

const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("default");

type Records = ReadOnlyTable<&'static [u8], &'static [u8]>;

struct Redb {
    database: Database,
    reads_only: AtomicBool,
}

struct RedbSession<'a> {
    of: &'a Redb,
    /// Held for as long as nobody writes.
    held: Option<Records>,
}

pub(super) fn open(dir: &Path, setup: &Setup) -> Result<(Box<dyn Subject>, Settings), Failure> {
    let path: PathBuf = dir.join("redb");
    let database = Database::builder()
        .set_cache_size(usize::try_from(setup.cache).unwrap_or(usize::MAX))
        .create(path)
        .map_err(|e| failed("open redb", e))?;
    let redb = Redb {
        database,
        reads_only: AtomicBool::new(false),
    };
    // The table must be there for those who read.
    redb.commit(&[], Durability::Immediate)
        .map_err(|e| failed("make redb's table", e))?;
    let settings = vec![
        ("cache", format!("set_cache_size({})", setup.cache)),
        (
            "durable commit",
            "Durability::Immediate, one phase".to_owned(),
        ),
        (
            "buffered commit",
            "Durability::None, and an Immediate one at each interval".to_owned(),
        ),
    ];
    Ok((Box::new(redb), settings))
}

impl Redb {
    fn commit(&self, changes: &[Change<'_>], durability: Durability) -> Result<(), redb::Error> {
        let mut txn = self.database.begin_write()?;
        txn.set_durability(durability)?;
        {
            let mut table = txn.open_table(RECORDS)?;
            for change in changes {
                match *change {
                    Change::Put(key, value) => drop(table.insert(key, value)?),
                    Change::Delete(key) => drop(table.remove(key)?),
                }
            }
        }
        Ok(txn.commit()?)
    }

    fn records(&self) -> Result<Records, redb::Error> {
        Ok(self.database.begin_read()?.open_table(RECORDS)?)
    }
}

impl Subject for Redb {
    fn session(&self) -> Result<Box<dyn Session + '_>, Failure> {
        let held = match self.reads_only.load(Ordering::Relaxed) {
            true => Some(self.records().map_err(|e| failed("begin a read", e))?),
            false => None,
        };
        Ok(Box::new(RedbSession { of: self, held }))
    }

    fn flush(&self) -> Result<(), Failure> {
        self.commit(&[], Durability::Immediate)
            .map_err(|e| failed("make all durable", e))
    }

    fn expect(&self, work: Work) -> Result<(), Failure> {
        self.reads_only.store(work.reads_only, Ordering::Relaxed);
        Ok(())
    }

    fn flushes_itself(&self) -> bool {
        false
    }

    fn len(&self) -> Result<Option<u64>, Failure> {
        let count = || -> Result<u64, redb::Error> { Ok(self.records()?.len()?) };
        count().map(Some).map_err(|e| failed("count", e))
    }

    fn compact(&mut self) -> Result<bool, Failure> {
        self.database
            .compact()
            .map(|_| true)
            .map_err(|e| failed("compact redb", e))
    }

    fn close(self: Box<Self>) -> Result<(), Failure> {
        self.flush()?;
        self.database.close().map_err(|e| failed("close redb", e))
    }
}

impl RedbSession<'_> {
    /// Calls `read` with the table that is held, or with one of its own transaction.
    fn reading<R>(
        &self,
        read: impl FnOnce(&Records) -> Result<R, redb::Error>,
    ) -> Result<R, Failure> {
        match &self.held {
            Some(records) => read(records),
            None => self.of.records().and_then(|records| read(&records)),
        }
        .map_err(|e| failed("read", e))
    }
}

impl Session for RedbSession<'_> {
    fn get(&mut self, key: &[u8], found: &mut dyn FnMut(&[u8])) -> Result<bool, Failure> {
        self.reading(|records| {
            let value = records.get(key)?;
            if let Some(value) = &value {
                found(value.value());
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
        self.reading(|records| {
            let mut range = match direction {
                Direction::Forward => records.range::<&[u8]>(from..)?,
                Direction::Backward => records.range::<&[u8]>(..=from)?,
            };
            let mut count = 0;
            while count < limit {
                let next = match direction {
                    Direction::Forward => range.next(),
                    Direction::Backward => range.next_back(),
                };
                let Some(record) = next else { break };
                let (key, value) = record?;
                each(key.value(), value.value());
                count += 1;
            }
            Ok(count)
        })
    }

    fn commit(&mut self, changes: &[Change<'_>], durability: Durable) -> Result<(), Failure> {
        let durability = match durability {
            Durable::Sync => Durability::Immediate,
            Durable::Buffered => Durability::None,
        };
        self.of
            .commit(changes, durability)
            .map_err(|e| failed("write", e))
    }
}
