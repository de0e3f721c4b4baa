//! fjall.

use std::path::Path;

use fjall::config::CompressionPolicy;
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::{Settings, Setup, failed};
use crate::failure::Failure;
use crate::run::config::Durable;
use crate::subject::{Change, Direction, Session, Subject};

/// What its journals may take at the least.
const LEAST_JOURNAL: u64 = 64 << 20;
/// A memtable, where memory is short, is this part of the cache …
const MEMTABLE_SHARE: u64 = 8;
/// … and at least this large.
const LEAST_MEMTABLE: u64 = 4 << 20;

struct Fjall {
    database: Database,
    records: Keyspace,
}

pub(super) fn open(dir: &Path, setup: &Setup) -> Result<(Box<dyn Subject>, Settings), Failure> {
    let refused = |e| failed("open fjall", e);
    let mut builder = Database::builder(dir)
        .cache_size(setup.cache)
        .journal_compression(CompressionType::None);
    let none = || CompressionPolicy::all(CompressionType::None);
    let mut options = KeyspaceCreateOptions::default()
        .data_block_compression_policy(none())
        .index_block_compression_policy(none());
    let mut settings = vec![
        (
            "cache",
            format!("cache_size({}), memtables beside it", setup.cache),
        ),
        (
            "compression",
            "none, of blocks and of the journal".to_owned(),
        ),
        (
            "durable commit",
            "a batch of PersistMode::SyncData".to_owned(),
        ),
        (
            "buffered commit",
            "PersistMode::Buffer, and persist(SyncData) at each interval".to_owned(),
        ),
    ];
    if setup.larger_than_memory {
        let memtable = (setup.cache / MEMTABLE_SHARE).clamp(LEAST_MEMTABLE, 64 << 20);
        builder = builder.max_journaling_size(LEAST_JOURNAL);
        options = options.max_memtable_size(memtable);
        settings.push((
            "memory",
            format!("max_memtable_size({memtable}), max_journaling_size({LEAST_JOURNAL}), to fit the limit"),
        ));
    }
    let database = builder.open().map_err(refused)?;
    let records = database.keyspace("default", || options).map_err(refused)?;
    Ok((Box::new(Fjall { database, records }), settings))
}

impl Subject for Fjall {
    fn session(&self) -> Result<Box<dyn Session + '_>, Failure> {
        Ok(Box::new(self))
    }

    fn flush(&self) -> Result<(), Failure> {
        self.database
            .persist(PersistMode::SyncData)
            .map_err(|e| failed("make all durable", e))
    }

    fn flushes_itself(&self) -> bool {
        false
    }

    /// By a full scan: it has no other.
    fn len(&self) -> Result<Option<u64>, Failure> {
        let count = self.records.len().map_err(|e| failed("count", e))?;
        Ok(Some(count as u64))
    }

    fn compact(&mut self) -> Result<bool, Failure> {
        self.records
            .rotate_memtable_and_wait()
            .and_then(|()| self.records.major_compact())
            .map(|()| true)
            .map_err(|e| failed("compact fjall", e))
    }

    fn close(self: Box<Self>) -> Result<(), Failure> {
        self.flush()
    }
}

/// A read sees the newest commit; no transaction needs to be held.
impl Session for &Fjall {
    fn get(&mut self, key: &[u8], found: &mut dyn FnMut(&[u8])) -> Result<bool, Failure> {
        let value = self.records.get(key).map_err(|e| failed("read", e))?;
        if let Some(value) = &value {
            found(value);
        }
        Ok(value.is_some())
    }

    fn scan(
        &mut self,
        from: &[u8],
        limit: usize,
        direction: Direction,
        each: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<usize, Failure> {
        let mut range = match direction {
            Direction::Forward => self.records.range(from..),
            Direction::Backward => self.records.range(..=from),
        };
        let mut count = 0;
        while count < limit {
            let next = match direction {
                Direction::Forward => range.next(),
                Direction::Backward => range.next_back(),
            };
            let Some(record) = next else { break };
            let (key, value) = record.into_inner().map_err(|e| failed("read", e))?;
            each(&key, &value);
            count += 1;
        }
        Ok(count)
    }

    fn commit(&mut self, changes: &[Change<'_>], durability: Durable) -> Result<(), Failure> {
        let done = match (changes, durability) {
            (&[Change::Put(key, value)], Durable::Buffered) => self.records.insert(key, value),
            (&[Change::Delete(key)], Durable::Buffered) => self.records.remove(key),
            _ => {
                let mut batch = self.database.batch().durability(match durability {
                    Durable::Sync => Some(PersistMode::SyncData),
                    Durable::Buffered => Some(PersistMode::Buffer),
                });
                for change in changes {
                    match *change {
                        Change::Put(key, value) => batch.insert(&self.records, key, value),
                        Change::Delete(key) => batch.remove(&self.records, key),
                    }
                }
                batch.commit()
            }
        };
        done.map_err(|e| failed("write", e))
    }
}
