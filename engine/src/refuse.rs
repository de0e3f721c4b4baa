//! What format refuses, before a byte is written.
//!
//! Whatever is told by a signature, a store of ours, and anything that is not
//! zero where the new store's own structures go: superblocks, log, map and index
//! slots of every group. What lies where data will go and has no signature is not
//! looked at: a used device cannot be read whole.
//!
//! A format that was cut off leaves zeros there, and the sectors of its measurement,
//! which are known by every byte. Those are no reason to refuse the next.

use std::collections::VecDeque;

use gaur_iodriver::signature::{Kind, in_words};
use gaur_iodriver::{Device, IoBuf, IoError, Signature, signatures, was_measured};

use crate::error::{Error, Result};
use crate::format::Geometry;
use crate::format::log;
use crate::format::space::{INDEX_MAGIC, MAP_MAGIC};
use crate::walk::Deep;
use crate::writeback::superblock::read_pair;

/// Reads in flight, of so many bytes at most.
const DEPTH: u32 = 32;
const PIECE: u64 = 1 << 20;

/// Refuses to format over anything: a store, whatever has a signature, or bytes
/// that are not zero where our structures go. `name` is for the message.
pub(crate) fn refuse_foreign(device: &dyn Device, geometry: &Geometry, name: &str) -> Result<()> {
    let foreign = |detail: String, signatures: Vec<Signature>| {
        Err(Error::Foreign {
            path: name.to_owned(),
            detail,
            signatures,
        })
    };
    // As for writing: what was made over a store since is told, not the store.
    let found = match read_pair(device, name, true) {
        Ok(pair) => {
            let id = pair.newest.store_id;
            return foreign(format!("a gaur store is there (id {id:032x})"), Vec::new());
        }
        Err(Error::NotAStore { .. }) => signatures(device)?,
        Err(e @ Error::Foreign { .. }) => return Err(e),
        Err(Error::Io(e)) => return Err(unreadable(name, e)),
        Err(other) => return foreign(format!("a gaur store is there: {other}"), Vec::new()),
    };
    if !found.is_empty() {
        return foreign(format!("holds {}", in_words(&found)), found);
    }
    match first_data(device, geometry).map_err(|e| match e {
        Error::Io(e) => unreadable(name, e),
        other => other,
    })? {
        Some((at, true)) => foreign(
            format!(
                "holds what is left of a gaur store without superblocks, as after a format or \
                 wipe that was interrupted (first at byte {at})"
            ),
            Vec::new(),
        ),
        Some((at, false)) => foreign(
            format!("holds data of an unknown kind (first at byte {at})"),
            Vec::new(),
        ),
        None => Ok(()),
    }
}

/// What cannot be read may be anything.
fn unreadable(name: &str, e: IoError) -> Error {
    Error::Io(IoError {
        detail: format!(
            "{}; what is on {name} cannot be told, and nothing was written",
            e.detail
        ),
        ..e
    })
}

/// The ranges of bytes that a store's own structures take, those that adjoin as
/// one, in order.
fn structures(geometry: &Geometry) -> impl Iterator<Item = (u64, u64)> {
    let mut ranges = (0..geometry.groups())
        .flat_map(|group| geometry.fixed_ranges(group))
        .map(|run| (geometry.byte(run.start), geometry.byte(run.end())))
        .peekable();
    std::iter::from_fn(move || {
        let (start, mut end) = ranges.next()?;
        while let Some((_, next)) = ranges.next_if(|next| next.0 <= end) {
            end = end.max(next);
        }
        Some((start, end))
    })
}

/// Where the first byte is that is not zero among the structures' places, and whether
/// it begins a block as our stores have there. Holes of a file are not read.
fn first_data(device: &dyn Device, geometry: &Geometry) -> Result<Option<(u64, bool)>> {
    let mut pieces = Pieces {
        device,
        ranges: structures(geometry),
        now: (0, 0),
        data: 0,
        align: u64::from(geometry.block_size),
    };
    let mut deep = Deep::new(device, DEPTH)?;
    let mut asked = VecDeque::new();
    loop {
        while deep.room() {
            let Some((start, len)) = pieces.next()? else {
                break;
            };
            deep.read(start, len);
            asked.push_back(start);
        }
        let Some(start) = asked.pop_front() else {
            return Ok(None);
        };
        let buf = deep.take()??;
        if let Some(at) = first_needed(&buf) {
            let ours = buf.get(at..at + 8).is_some_and(|magic| {
                let magic = u64::from_le_bytes(magic.try_into().expect("8 bytes"));
                [log::MAGIC, MAP_MAGIC, INDEX_MAGIC].contains(&magic)
            });
            return Ok(Some((start + at as u64, ours)));
        }
        deep.recycle(buf);
    }
}

/// Cuts ranges into pieces to read and leaves holes out.
struct Pieces<'a, R> {
    device: &'a dyn Device,
    ranges: R,
    /// What is left of the range at hand.
    now: (u64, u64),
    /// All from the place that was asked of to this one is a hole.
    data: u64,
    /// All places are multiples of it.
    align: u64,
}

impl<R: Iterator<Item = (u64, u64)>> Pieces<'_, R> {
    /// The next piece: where, and how many bytes.
    fn next(&mut self) -> Result<Option<(u64, usize)>> {
        loop {
            if self.now.0 >= self.now.1 {
                match self.ranges.next() {
                    Some(range) => self.now = range,
                    None => return Ok(None),
                }
            }
            let (start, end) = self.now;
            if self.data <= start {
                // Nothing to the end: nothing of any later range either.
                let Some(data) = self.device.next_data(start)? else {
                    return Ok(None);
                };
                self.data = data;
            }
            if self.data >= end {
                self.now = (end, end);
                continue;
            }
            let from = start.max(self.data - self.data % self.align);
            let len = PIECE.min(end - from);
            self.now.0 = from + len;
            return Ok(Some((from, len as usize)));
        }
    }
}

/// Ends what has a signature, so that nobody takes the store for it: a RAID or a
/// partition table whose copy at the end of the device outlives a format would be
/// repaired, or put to use, over the store. `found` is what was there before anything
/// was written. Returns what to tell of it.
pub(crate) fn wipe_signatures(
    device: &dyn Device,
    found: std::result::Result<Vec<Signature>, IoError>,
) -> Result<Vec<String>> {
    let found = match found {
        Ok(found) => found,
        Err(e) => return Ok(vec![format!("what was there before is not known: {e}")]),
    };
    let geometry = device.geometry();
    let unit = u64::from(geometry.offset_align.max(1));
    for s in &found {
        let start = s.offset - s.offset % unit;
        let len = (s.offset + s.len - start).next_multiple_of(unit);
        device.write_at(start, &IoBuf::zeroed(len as usize))?;
    }
    if found.is_empty() {
        return Ok(Vec::new());
    }
    device.flush()?;
    let mut notes = vec![format!("wiped: {}", in_words(&found))];
    if geometry.is_block_device && found.iter().any(|s| s.kind == Kind::PartitionTable) {
        notes.push(
            "the kernel may know the old partitions still: run partx -d on the device".into(),
        );
    }
    Ok(notes)
}

/// Where the first byte is that is not zero, what a measurement left set aside.
fn first_needed(buf: &[u8]) -> Option<usize> {
    const ZEROS: [u8; 512] = [0; 512];
    let chunk = buf
        .chunks(ZEROS.len())
        .position(|chunk| *chunk != ZEROS[..chunk.len()] && !was_measured(chunk))?;
    let start = chunk * ZEROS.len();
    let at = buf[start..].iter().position(|&b| b != 0)?;
    Some(start + at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gaur_iodriver::{SimDisk, SimOptions};

    fn disk(capacity: u64) -> SimDisk {
        SimDisk::new(SimOptions {
            capacity,
            ..SimOptions::default()
        })
    }

    #[test]
    fn places_that_adjoin_are_one() {
        let geometry = Geometry::new(4096, 1 << 30, 20_000);
        let all: Vec<_> = structures(&geometry).collect();
        assert!(all.windows(2).all(|w| w[0].1 < w[1].0), "{all:?}");
        // The second superblock and the log behind it.
        assert_eq!(all[1].0, 1 << 20);
        let bytes: u64 = all.iter().map(|r| r.1 - r.0).sum();
        let blocks: u64 = (0..geometry.groups())
            .flat_map(|g| geometry.fixed_ranges(g))
            .map(|r| u64::from(r.len))
            .sum();
        assert_eq!(bytes, blocks * 4096);
    }

    #[test]
    fn one_byte_is_found_wherever_a_structure_goes() {
        let geometry = Geometry::new(4096, 400 << 20, 5000);
        let ranges: Vec<_> = structures(&geometry).collect();
        let clean = disk(400 << 20);
        assert_eq!(
            first_data(clean.device().as_ref(), &geometry).unwrap(),
            None
        );
        for (start, end) in ranges {
            for at in [start, end - 1, start + (end - start) / 2] {
                let disk = disk(400 << 20);
                let device = disk.device();
                let block = at - at % 4096;
                let mut buf = IoBuf::zeroed(4096);
                buf[(at - block) as usize] = 1;
                device.write_at(block, &buf).unwrap();
                let found = first_data(device.as_ref(), &geometry).unwrap();
                assert_eq!(found, Some((at, false)));
            }
            // What lies behind is data's place.
            let disk = disk(400 << 20);
            let device = disk.device();
            let mut buf = IoBuf::zeroed(4096);
            buf.fill(1);
            if end < 400 << 20 {
                device.write_at(end, &buf).unwrap();
            }
            assert_eq!(first_data(device.as_ref(), &geometry).unwrap(), None);
        }
    }

    #[test]
    fn what_a_format_that_was_cut_off_left_is_no_reason() {
        let disk = disk(64 << 20);
        let device = disk.device();
        let options = crate::FormatOptions::default();
        let geometry = crate::format_store::layout(&device.geometry(), &options).unwrap();
        let place = geometry.byte(geometry.log_pieces()[0].start);
        gaur_iodriver::measure_durability(device.as_ref(), place, 1 << 20, 3).unwrap();
        let mut buf = IoBuf::zeroed(4096);
        device.read_at(place, &mut buf).unwrap();
        assert_ne!(buf[0], 0);
        refuse_foreign(device.as_ref(), &geometry, "d").unwrap();
        // One byte of it is another's.
        buf[700] ^= 1;
        device.write_at(place, &buf).unwrap();
        let e = refuse_foreign(device.as_ref(), &geometry, "d").unwrap_err();
        assert!(e.to_string().contains("unknown kind"), "{e}");
        // A store's log is no format's that was cut off, but told for what it is.
        buf.fill(0);
        buf[..8].copy_from_slice(&log::MAGIC.to_le_bytes());
        device.write_at(place, &buf).unwrap();
        let e = refuse_foreign(device.as_ref(), &geometry, "d").unwrap_err();
        assert!(e.to_string().contains("left of a gaur store"), "{e}");
    }

    #[test]
    fn holes_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let options = gaur_iodriver::OpenOptions {
            create: Some(8 << 40),
            sparse: true,
            ..Default::default()
        };
        let opened = gaur_iodriver::open(dir.path().join("store"), &options);
        let Ok(opened) = opened else {
            println!("skipped: no file of 8 TiB here");
            return;
        };
        let device = opened.device.as_ref();
        if device.next_data(0).unwrap() == Some(0) {
            println!("skipped: no holes on this file system");
            return;
        }
        let geometry = Geometry::new(4096, 8 << 40, 1000);
        assert_eq!(first_data(device, &geometry).unwrap(), None);
        assert_eq!(device.counters().reads, 0);
        // Beside a structure, and in one.
        let group = geometry.byte(geometry.group_start(50_000));
        let mut buf = IoBuf::zeroed(4096);
        buf[7] = 1;
        device.write_at(group - 4096, &buf).unwrap();
        assert_eq!(first_data(device, &geometry).unwrap(), None);
        device.write_at(group + 8192, &buf).unwrap();
        assert_eq!(
            first_data(device, &geometry).unwrap(),
            Some((group + 8192 + 7, false))
        );
        assert!(device.counters().reads < 10, "{:?}", device.counters());
    }
}
