//! `RocksDB`.

use std::path::Path;

use rocksdb::{BlockBasedOptions, Cache, DB, DBCompressionType, Options, WriteBatch, WriteOptions};

use super::{Settings, Setup, failed};
use crate::failure::Failure;
use crate::run::config::Durable;
use crate::subject::{Change, Direction, Session, Subject};

/// A write buffer where memory is short is this part of the cache …
const BUFFER_SHARE: u64 = 8;
/// … and at least this large.
const LEAST_BUFFER: u64 = 4 << 20;

struct Rocksdb {
    db: DB,
}

pub(super) fn open(dir: &Path, setup: &Setup) -> Result<(Box<dyn Subject>, Settings), Failure> {
    let cache = Cache::new_lru_cache(usize::try_from(setup.cache).unwrap_or(usize::MAX));
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&cache);
    blocks.set_bloom_filter(10.0, false);
    blocks.set_block_size(16 << 10);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    blocks.set_format_version(5);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&blocks);
    options.set_compression_type(DBCompressionType::None);
    options.set_level_compaction_dynamic_level_bytes(true);
    options.set_max_background_jobs(6);
    options.set_bytes_per_sync(1 << 20);
    let mut settings = vec![
        (
            "cache",
            format!("LRU block cache of {}, index and filters in it; memtables beside it", setup.cache),
        ),
        ("compression", "none".to_owned()),
        (
            "tuning",
            "its wiki's \"other general options\": 16 KiB blocks, Bloom filter of 10 bits, dynamic \
             level bytes, 6 background jobs, bytes_per_sync 1 MiB"
                .to_owned(),
        ),
        ("durable commit", "WriteOptions::sync".to_owned()),
        (
            "buffered commit",
            "no sync, and flush_wal(true) at each interval".to_owned(),
        ),
    ];
    if setup.larger_than_memory {
        let buffer = (setup.cache / BUFFER_SHARE).clamp(LEAST_BUFFER, 64 << 20);
        options.set_write_buffer_size(buffer as usize);
        settings.push((
            "memory",
            format!("write_buffer_size = {buffer}, to fit the limit"),
        ));
    }
    let db = DB::open(&options, dir).map_err(|e| failed("open RocksDB", e))?;
    Ok((Box::new(Rocksdb { db }), settings))
}

impl Subject for Rocksdb {
    fn session(&self) -> Result<Box<dyn Session + '_>, Failure> {
        Ok(Box::new(self))
    }

    fn flush(&self) -> Result<(), Failure> {
        self.db
            .flush_wal(true)
            .map_err(|e| failed("make all durable", e))
    }

    fn flushes_itself(&self) -> bool {
        false
    }

    fn compact(&mut self) -> Result<bool, Failure> {
        self.db.compact_range::<&[u8], &[u8]>(None, None);
        Ok(true)
    }

    fn close(self: Box<Self>) -> Result<(), Failure> {
        self.flush()
    }
}

/// A read sees the newest commit; no snapshot needs to be held.
impl Session for &Rocksdb {
    fn get(&mut self, key: &[u8], found: &mut dyn FnMut(&[u8])) -> Result<bool, Failure> {
        let value = self.db.get_pinned(key).map_err(|e| failed("read", e))?;
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
        let mut records = self.db.raw_iterator();
        match direction {
            Direction::Forward => records.seek(from),
            Direction::Backward => records.seek_for_prev(from),
        }
        let mut count = 0;
        while count < limit {
            let Some((key, value)) = records.item() else {
                break;
            };
            each(key, value);
            count += 1;
            match direction {
                Direction::Forward => records.next(),
                Direction::Backward => records.prev(),
            }
        }
        records.status().map_err(|e| failed("read", e))?;
        Ok(count)
    }

    fn commit(&mut self, changes: &[Change<'_>], durability: Durable) -> Result<(), Failure> {
        let mut options = WriteOptions::default();
        options.set_sync(durability == Durable::Sync);
        let done = match *changes {
            [Change::Put(key, value)] => self.db.put_opt(key, value, &options),
            [Change::Delete(key)] => self.db.delete_opt(key, &options),
            _ => {
                let mut batch = WriteBatch::default();
                for change in changes {
                    match *change {
                        Change::Put(key, value) => batch.put(key, value),
                        Change::Delete(key) => batch.delete(key),
                    }
                }
                self.db.write_opt(batch, &options)
            }
        };
        done.map_err(|e| failed("write", e))
    }
}
