//! Reading and writing the pair of superblocks.

use gaur_iodriver::sync::within;
use gaur_iodriver::{Device, IoBuf, IoError, fault};

use crate::check::SuperblockFacts;
use crate::error::{Damage, Error, Result};
use crate::format::geometry::Geometry;
use crate::format::superblock::{
    FORMAT_VERSION, KNOWN_INCOMPAT, KNOWN_RO_COMPAT, MAGIC, Superblock,
};

/// Writes both copies, copy `first` first, each flushed before the next is touched.
/// Everything they refer to must be flushed before. `flush` flushes the device.
pub(crate) fn write_pair(
    device: &dyn Device,
    geometry: &Geometry,
    sb: &Superblock,
    first: u32,
    flush: &dyn Fn() -> Result<()>,
) -> Result<()> {
    let sites = [
        ("superblock, first copy", "between the superblocks"),
        ("superblock, second copy", "behind the superblocks"),
    ];
    for (copy, (writes, flushes)) in [first, 1 - first].into_iter().zip(sites) {
        if fault!(SecondSuperblockNotWritten) && copy != first {
            break;
        }
        let _site = within(writes);
        let place = geometry.superblock(copy);
        let mut buf = IoBuf::zeroed(geometry.block_size as usize);
        sb.seal(copy, place, &mut buf);
        device.write_at(geometry.byte(place), &buf)?;
        if fault!(SecondSuperblockNotFlushed) && copy != first {
            break;
        }
        let _site = within(flushes);
        flush()?;
    }
    Ok(())
}

/// What was found of the pair.
#[derive(Debug)]
pub(crate) struct Pair {
    /// The newer of those that verify.
    pub(crate) newest: Superblock,
    /// Copies that are damaged or older than the newest, and why.
    pub(crate) behind: Vec<(u32, String)>,
}

/// Reads the pair. The block size is found by trying.
///
/// # Errors
/// [`Error::NotAStore`] if there is nothing of gaur here, [`Error::Damaged`] if
/// both copies are broken, [`Error::Io`] if neither can be read,
/// [`Error::UnknownFormat`] if the store is too new; [`Error::Foreign`], for
/// writing, if something else was made over a store since.
pub(crate) fn read_pair(device: &dyn Device, path: &str, writing: bool) -> Result<Pair> {
    let capacity = device.geometry().capacity;
    let mut found: Vec<Superblock> = Vec::new();
    let mut behind = Vec::new();
    let mut ours = false;
    let mut failed = None;
    for copy in 0..2 {
        match read_copy(device, copy, capacity) {
            Ok(sb) => found.push(sb),
            Err(unread) => {
                ours |= unread.ours;
                failed = failed.or(unread.failed);
                behind.push((copy, unread.why));
            }
        }
    }
    let Some(newest) = found
        .iter()
        .copied()
        .max_by_key(|s| (s.incarnation, s.generation, s.log_durable, s.flags))
    else {
        return Err(if ours {
            Damage::new("superblock", 0, "neither copy verifies").into()
        } else if let Some(e) = failed {
            Error::Io(e)
        } else {
            Error::NotAStore {
                path: path.to_owned(),
                detail: "no superblock".into(),
                // Only for the message: what cannot be read stays unknown.
                signatures: gaur_iodriver::signatures(device).unwrap_or_default(),
            }
        });
    };
    for sb in &found {
        if *sb
            != (Superblock {
                copy: sb.copy,
                checksum: sb.checksum,
                ..newest
            })
        {
            behind.push((sb.copy, "older than the other".into()));
        }
    }
    check_known(&newest, writing)?;
    if writing {
        for bad in (0..2).filter(|copy| found.iter().all(|sb| sb.copy != *copy)) {
            refuse_overlaid(device, path, &newest, bad)?;
        }
    }
    Ok(Pair { newest, behind })
}

/// A partition table or a file system that was made over a store often leaves one of
/// its superblocks. Completing the pair would destroy what is there now. Only what
/// lies in the place of the other copy counts: elsewhere a value may look like
/// anything, but a superblock that was torn does not.
fn refuse_overlaid(device: &dyn Device, path: &str, sb: &Superblock, copy: u32) -> Result<()> {
    let places = Geometry {
        block_size: sb.block_size,
        capacity: sb.capacity,
        log_blocks: sb.log_blocks,
    };
    let start = places.byte(places.superblock(copy));
    let end = start + u64::from(sb.block_size);
    // What cannot be read is no sign of anybody else.
    let mut found = gaur_iodriver::signatures(device).unwrap_or_default();
    found.retain(|s| s.offset < end && s.offset + s.len > start);
    if found.is_empty() {
        return Ok(());
    }
    Err(Error::Foreign {
        path: path.to_owned(),
        detail: format!(
            "holds {} over a gaur store, of which only one superblock is left (is it the right device?)",
            gaur_iodriver::signature::in_words(&found)
        ),
        signatures: found,
    })
}

/// What both copies say, for reports.
pub(crate) fn facts(device: &dyn Device, pair: &Pair) -> Vec<SuperblockFacts> {
    let capacity = device.geometry().capacity;
    let places = Geometry {
        block_size: pair.newest.block_size,
        capacity: pair.newest.capacity,
        log_blocks: pair.newest.log_blocks,
    };
    let mut facts = Vec::new();
    for copy in 0..2 {
        let behind = pair.behind.iter().find(|b| b.0 == copy);
        facts.push(SuperblockFacts {
            copy,
            place: places.superblock(copy),
            decoded: read_copy(device, copy, capacity).ok(),
            behind: behind.map(|b| b.1.clone()),
        });
    }
    facts
}

/// Why a copy does not count.
struct Unread {
    /// There is something of ours.
    ours: bool,
    why: String,
    /// It could not be read.
    failed: Option<IoError>,
}

fn read_copy(device: &dyn Device, copy: u32, capacity: u64) -> Result<Superblock, Unread> {
    let mut unread = Unread {
        ours: false,
        why: "no superblock here".to_owned(),
        failed: None,
    };
    let unit = device.geometry().offset_align.max(1);
    for block_size in [4096u32, 8192, 16384] {
        if !block_size.is_multiple_of(unit) {
            continue;
        }
        let place = Geometry {
            block_size,
            capacity: 0,
            log_blocks: 0,
        }
        .superblock(copy);
        let offset = place * u64::from(block_size);
        if offset + u64::from(block_size) > capacity {
            continue;
        }
        let mut buf = IoBuf::zeroed(block_size as usize);
        if let Err(e) = device.read_at(offset, &mut buf) {
            unread.why = e.to_string();
            unread.failed = Some(e);
            continue;
        }
        match Superblock::unseal(copy, place, &buf) {
            Ok(sb) if sb.block_size == block_size => return Ok(sb),
            Ok(_) => {}
            Err(e) => {
                // The same for each size: the block begins at the same byte.
                if unread.failed.is_none() {
                    unread.ours = Superblock::decode(&buf).magic == MAGIC;
                    unread.why = e.to_owned();
                }
            }
        }
    }
    Err(unread)
}

/// Refuses versions and features this code does not know.
fn check_known(sb: &Superblock, writing: bool) -> Result<()> {
    if sb.version != FORMAT_VERSION {
        return Err(Error::UnknownFormat(format!(
            "format version {}, this gaur knows {FORMAT_VERSION}",
            sb.version
        )));
    }
    let incompat = sb.incompat & !KNOWN_INCOMPAT;
    if incompat != 0 {
        return Err(Error::UnknownFormat(format!(
            "unknown incompatible features {incompat:#x}"
        )));
    }
    let ro = sb.ro_compat & !KNOWN_RO_COMPAT;
    if writing && ro != 0 {
        return Err(Error::UnknownFormat(format!(
            "unknown features {ro:#x}; it can be opened read-only"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
