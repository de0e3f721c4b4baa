//! Room for a large value, and writing the value there.

use std::io::{ErrorKind, Read};

use gaur_iodriver::IoBuf;
use gaur_iodriver::sync::within;

use super::{CHUNK, part_sum};
use crate::alloc::{Request, Shape};
use crate::core::{Core, MAX_PIECES};
use crate::error::{Error, Result};
use crate::format::pointer::{MOST_WITHOUT_TABLE, SUM_UNIT};
use crate::format::{ExtentPtr, Run};
use crate::shortage::Claim;
use crate::stats::Wait;
use crate::worker::Worker;

/// What each write of a value goes through.
type Writing<'a> = &'a mut dyn FnMut(&mut dyn FnMut() -> Result<()>) -> Result<()>;

/// Blocks reserved for a large value. Dropping it gives them back, with whatever was
/// written to them.
#[derive(Debug)]
pub(crate) struct Room<'a> {
    core: &'a Core,
    runs: Vec<Run>,
    bytes: u64,
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        if !self.runs.is_empty() {
            let runs = std::mem::take(&mut self.runs);
            self.core.forest.pool.allocator().give_back(runs);
        }
    }
}

impl Core {
    /// The longest large value, in bytes: as many pieces as there may be, each of a group.
    pub(crate) fn longest_value(&self) -> u64 {
        let geometry = self.forest.geometry.now();
        // Every group has some blocks of its own.
        let blocks = geometry.group_blocks() - geometry.metadata_blocks(1);
        MAX_PIECES as u64 * ExtentPtr::most_bytes(blocks as u32, geometry.block_size)
    }

    /// Writes a large value to extents of its own and returns the pointers as a
    /// leaf stores them. They are on the device, though not yet flushed, when this
    /// returns. Of a failed call nothing remains.
    pub(crate) fn write_extents<'a>(
        &'a self,
        worker: &Worker,
        claim: &mut Claim<'a>,
        value: &[u8],
    ) -> Result<Vec<u8>> {
        let room = Room::reserve(self, worker, claim, value.len() as u64)?;
        room.fill(&mut &*value, &mut |write| write())
    }
}

impl<'a> Room<'a> {
    /// Reserves room for a value of this length.
    pub(crate) fn reserve(
        core: &'a Core,
        worker: &Worker,
        claim: &mut Claim<'a>,
        bytes: u64,
    ) -> Result<Self> {
        let _site = within("large value");
        // A store that has stopped writes nothing more.
        if let Some(stopped) = core.log().stopped() {
            return Err(stopped);
        }
        let block_size = core.forest.geometry.block_size;
        // In more pieces than one the tables are a little longer.
        let more = u32::from(bytes > MOST_WITHOUT_TABLE);
        let blocks = ExtentPtr::of_length(bytes).run(block_size).len + more;
        let runs = core.forest.claim(worker, claim, |urgency| {
            let request = Request {
                blocks,
                shape: Shape::Extent {
                    max_pieces: MAX_PIECES,
                },
                hint: 0,
                urgency,
            };
            worker.counters.waiting(Wait::Reservation, || {
                core.forest.pool.allocator().reserve(request)
            })
        });
        let runs = runs.map_err(|e| core.spread(e))?;
        Ok(Self { core, runs, bytes })
    }

    /// Writes the value from `source`, and returns the pointers as a leaf stores them; they
    /// are the caller's then. What is not needed is given back. Each write goes through
    /// `writing`, with nothing held; the source is read outside of it.
    ///
    /// # Errors
    /// [`Error::Source`], or that of a write, which stops the store.
    pub(crate) fn fill(mut self, source: &mut dyn Read, writing: Writing<'_>) -> Result<Vec<u8>> {
        let _site = within("large value");
        let block_size = self.core.forest.geometry.block_size;
        let birth = self.core.forest.running();
        let mut out = Vec::with_capacity(self.runs.len() * ExtentPtr::SIZE);
        let mut left = self.bytes;
        let mut over = Vec::new();
        for run in self.runs.clone() {
            let bytes = left.min(ExtentPtr::most_bytes(run.len, block_size));
            let mut ptr = ExtentPtr {
                addr: run.start,
                birth,
                ..ExtentPtr::of_length(bytes)
            };
            if bytes > 0 {
                let read = self.bytes - left;
                self.piece(&mut ptr, read, source, writing)?;
                out.extend_from_slice(&ptr.encode());
                left -= bytes;
            }
            let taken = ptr.run(block_size).len;
            if taken < run.len {
                over.push(Run {
                    start: run.start + u64::from(taken),
                    len: run.len - taken,
                });
            }
        }
        assert_eq!(left, 0, "room was reserved for all of the value");
        self.runs.clear();
        if !over.is_empty() {
            self.core.forest.pool.allocator().give_back_unused(over);
        }
        Ok(out)
    }

    /// Writes one piece, and completes the pointer to it.
    fn piece(
        &self,
        ptr: &mut ExtentPtr,
        read: u64,
        source: &mut dyn Read,
        writing: Writing<'_>,
    ) -> Result<()> {
        let forest = &self.core.forest;
        let block_size = forest.geometry.block_size as usize;
        let room = |bytes: usize| IoBuf::zeroed(bytes.next_multiple_of(block_size));
        let mut buf = room(ptr.bytes.min(CHUNK as u64) as usize);
        let mut table = Vec::with_capacity(ptr.table_bytes() as usize);
        let mut at = 0;
        while at < ptr.bytes {
            let len = (ptr.bytes - at).min(CHUNK as u64) as usize;
            fill(source, &mut buf[..len], (read + at, self.bytes))?;
            if ptr.has_table() {
                let sums = buf[..len].chunks(SUM_UNIT as usize);
                table.extend(sums.flat_map(|unit| part_sum(ptr, unit).to_le_bytes()));
            } else {
                ptr.checksum = part_sum(ptr, &buf[..len]);
            }
            let mut to = len;
            if ptr.has_table() && at + len as u64 == ptr.bytes {
                ptr.checksum = part_sum(ptr, &table);
                to = len.next_multiple_of(8);
                let mut last = room(to + table.len());
                last[..len].copy_from_slice(&buf[..len]);
                last[to..to + table.len()].copy_from_slice(&table);
                to += table.len();
                buf = last;
            }
            let offset = forest.geometry.byte(ptr.addr) + at;
            let buf = &buf[..to.next_multiple_of(block_size)];
            writing(&mut || {
                if let Some(stopped) = self.core.log().stopped() {
                    return Err(stopped);
                }
                // In this order: no commit may get these blocks and be acknowledged.
                let written = forest.device.write_at(offset, buf).map_err(Error::from);
                written.inspect_err(|e| self.core.fail(e))
            })?;
            at += len as u64;
        }
        Ok(())
    }
}

/// Fills `buf` with the next bytes of a value's source, of which `read` of `len` were read.
pub(crate) fn fill(source: &mut dyn Read, buf: &mut [u8], (read, len): (u64, u64)) -> Result<()> {
    let mut at = 0;
    while at < buf.len() {
        let failed = match source.read(&mut buf[at..]) {
            Ok(n) if (1..=buf.len() - at).contains(&n) => {
                at += n;
                continue;
            }
            Ok(0) => std::io::Error::new(ErrorKind::UnexpectedEof, "it ended"),
            Ok(_) => std::io::Error::new(ErrorKind::InvalidData, "it says more than it was asked"),
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => e,
        };
        return Err(Error::Source {
            read: read + at as u64,
            len,
            kind: failed.kind(),
            detail: failed.to_string(),
        });
    }
    Ok(())
}
