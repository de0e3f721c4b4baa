//! Making a store.

use std::path::Path;
use std::sync::Arc;

use gaur_iodriver::sync::time::unix_seconds;
use gaur_iodriver::sync::within;
use gaur_iodriver::{
    Device, DurabilityReport, DurableMethod, IoBuf, IoError, Op, Request, measure_durability,
};

use crate::alloc::MapRoot;
use crate::error::{Error, Result};
use crate::format::Geometry;
use crate::format::superblock::{FLAG_CLEAN, FLAG_SPARSE, FORMAT_VERSION, Superblock};
use crate::format_discard::{discard_all, go_on};
use crate::inspect::bytes as in_units;
use crate::log::LogConfig;
use crate::options::FormatOptions;
pub(crate) use crate::refuse::refuse_foreign;
use crate::refuse::wipe_signatures;
use crate::writeback::superblock::write_pair;

/// The smallest store, in bytes.
pub const MIN_STORE: u64 = match cfg!(feature = "simulation") {
    true => 4 << 20,
    false => 16 << 20,
};
/// In a simulation a log comes round often.
const MIN_LOG: u64 = match cfg!(feature = "simulation") {
    true => 128 << 10,
    false => 4 << 20,
};
const MAX_LOG: u64 = 1 << 30;
/// The smallest block size; a superblock of any begins in it, and behind it may
/// lie the map of an old store.
const SMALLEST_BLOCK: u64 = 4096;
/// Bytes of the log that are zeroed between two looks for an end.
const ZERO_STEP: usize = 8 << 20;
/// Rounds of the durability measurement.
const ROUNDS: usize = 20;

/// What format did.
#[derive(Clone, Debug)]
pub struct FormatReport {
    /// The store's identity.
    pub store_id: u128,
    /// Bytes the store uses.
    pub capacity: u64,
    /// Bytes in a block.
    pub block_size: u32,
    /// Bytes of the log.
    pub log_bytes: u64,
    /// How writes are made durable.
    pub durable_method: DurableMethod,
    /// The measurement behind that, if there was one.
    pub durability: Option<DurabilityReport>,
    /// The driver that was used.
    pub driver: &'static str,
    /// Whether it is a sparse file, which gets its space when it is written.
    pub sparse: bool,
    /// Whether I/O bypasses the page cache.
    pub direct: bool,
    /// Bytes discarded first.
    pub discarded: u64,
    /// What is not as it was asked for.
    pub notes: Vec<String>,
}

/// Makes a store at `path`. Everything is checked before a byte is written.
pub(crate) fn format_path(path: &Path, options: &FormatOptions) -> Result<FormatReport> {
    check_options(options)?;
    let open = gaur_iodriver::OpenOptions {
        create: options.create_size,
        sparse: options.sparse,
        driver: options.driver,
        ..Default::default()
    };
    if open.create.is_some() {
        // No file is made that could not hold the store.
        layout(&gaur_iodriver::check_create(path, &open)?, options)?;
    }
    let opened = gaur_iodriver::open(path, &open)?;
    let mut report = format_device(opened.device.clone(), options, &opened.name)?;
    report.notes.extend(placement(&opened, options.block_size));
    report.notes.extend(opened.notes);
    Ok(report)
}

/// What can be said of the options without a look at the device.
pub(crate) fn check_options(options: &FormatOptions) -> Result<()> {
    options.check()?;
    if let Some(size) = options.create_size
        && size < MIN_STORE
    {
        return Err(Error::TooSmall {
            have: size,
            need: MIN_STORE,
        });
    }
    Ok(())
}

/// What is to be said of where the device begins on its disk: blocks that lie
/// across those of the disk are written slowly, and torn together.
pub(crate) fn placement(opened: &gaur_iodriver::Opened, block_size: u32) -> Vec<String> {
    let mut notes = Vec::new();
    let start = opened.start;
    if !start.is_multiple_of(u64::from(block_size)) {
        notes.push(format!(
            "it begins at byte {start} of what it lies on, no multiple of the store's block \
             ({block_size}): each write touches two blocks there; let it begin at a multiple of \
             1 MiB"
        ));
    }
    if opened.alignment_offset != 0 {
        notes.push(format!(
            "its first block lies {} bytes beside a physical block of the disk: each write \
             touches two; let it begin at a multiple of 1 MiB",
            opened.alignment_offset
        ));
    }
    let physical = opened.geometry.physical_block;
    if opened.geometry.is_block_device && physical > block_size {
        notes.push(format!(
            "the device's physical block ({physical} bytes) is larger than the store's \
             ({block_size}): a write rewrites its neighbours, and a power cut may tear them; \
             larger blocks (--block-size) are better"
        ));
    }
    notes
}

/// Makes a store on an open device; `name` is for messages.
pub(crate) fn format_device(
    device: Arc<dyn Device>,
    options: &FormatOptions,
    name: &str,
) -> Result<FormatReport> {
    let _site = within("format");
    options.check()?;
    let io = device.geometry();
    let unit = io.logical_block.max(io.offset_align);
    let geometry = layout(&io, options)?;
    let block_size = options.block_size;
    if !options.force {
        refuse_foreign(device.as_ref(), &geometry, name)?;
    }

    // One may lie where a superblock goes.
    let before = match options.force {
        true => gaur_iodriver::signatures(device.as_ref()),
        false => Ok(Vec::new()),
    };

    if !options.sparse {
        device.preallocate()?;
    }
    // An old store ends before anything of it is overwritten: cut off from here on,
    // there is none, and later its superblocks do not compete with the new ones.
    for copy in 0..2 {
        let at = geometry.byte(geometry.superblock(copy));
        zero(device.as_ref(), at, SMALLEST_BLOCK.max(u64::from(unit)))?;
        device.flush()?;
    }
    let mut notes = match options.force {
        true => wipe_signatures(device.as_ref(), before)?,
        false => Vec::new(),
    };
    let discarded = match options.discard {
        true => discard_all(
            device.as_ref(),
            SMALLEST_BLOCK,
            options.discard_progress.as_ref(),
            &mut notes,
        )?,
        false => 0,
    };

    let pieces = geometry.log_pieces();
    let (durable_method, durability) = match options.durable_method {
        Some(m) => (m, None),
        None => {
            let first = pieces[0];
            let len = geometry.byte(u64::from(first.len)).min(4 << 20);
            let report =
                measure_durability(device.as_ref(), geometry.byte(first.start), len, ROUNDS)?;
            (report.recommended, Some(report))
        }
    };
    for piece in &pieces {
        let start = geometry.byte(piece.start);
        let len = geometry.byte(u64::from(piece.len));
        if options.sparse && punch(device.as_ref(), start, len) {
            continue;
        }
        for at in (0..len).step_by(ZERO_STEP) {
            zero(
                device.as_ref(),
                start + at,
                (len - at).min(ZERO_STEP as u64),
            )?;
            if options.discard {
                go_on(options.discard_progress.as_ref(), io.capacity, io.capacity)?;
            }
        }
    }
    device.flush()?;

    let mut sb = Superblock {
        version: FORMAT_VERSION,
        block_size,
        store_id: fresh_id(),
        capacity: geometry.capacity,
        log_blocks: geometry.log_blocks,
        next_tree: 1,
        durable_method: u32::from(durable_method.code()),
        flags: FLAG_CLEAN | if options.sparse { FLAG_SPARSE } else { 0 },
        created: unix_seconds(),
        ..Superblock::default()
    };
    MapRoot::fresh(&geometry).put(&mut sb);
    let flush = || Ok(device.flush()?);
    write_pair(device.as_ref(), &geometry, &sb, 0, &flush)?;
    Ok(FormatReport {
        store_id: sb.store_id,
        capacity: geometry.byte(geometry.capacity),
        block_size,
        log_bytes: geometry.byte(geometry.log_blocks),
        durable_method,
        durability,
        driver: device.driver(),
        sparse: options.sparse,
        direct: device.geometry().direct,
        discarded,
        notes,
    })
}

/// Where everything will lie on a device, and that it fits.
pub(crate) fn layout(
    device: &gaur_iodriver::Geometry,
    options: &FormatOptions,
) -> Result<Geometry> {
    let bytes = device.capacity;
    let block_size = options.block_size;
    if bytes < MIN_STORE {
        return Err(Error::TooSmall {
            have: bytes,
            need: MIN_STORE,
        });
    }
    let unit = device.logical_block.max(device.offset_align);
    if !block_size.is_multiple_of(unit) {
        return Err(Error::BadOption {
            name: "block_size",
            detail: format!(
                "{block_size}: not a multiple of the device's logical block ({unit}); nothing was \
                 written. Use larger blocks (--block-size), at most 16384 bytes"
            ),
        });
    }
    if options.sparse && device.is_block_device {
        return Err(Error::BadOption {
            name: "sparse",
            detail: "only a file can be sparse; a device is used whole".into(),
        });
    }
    let log_size = options
        .log_size
        .unwrap_or((bytes / 16).clamp(MIN_LOG, MAX_LOG));
    if log_size < MIN_LOG || log_size > bytes / 2 {
        return Err(Error::BadOption {
            name: "log_size",
            detail: format!(
                "{}; {} to half the device, {}",
                in_units(log_size),
                in_units(MIN_LOG),
                in_units(bytes / 2)
            ),
        });
    }
    let geometry = Geometry::new(block_size, bytes, log_size / u64::from(block_size));
    if LogConfig::largest_record(&geometry) == 0 {
        return Err(Error::BadOption {
            name: "log_size",
            detail: "too small for a record".into(),
        });
    }
    Ok(geometry)
}

fn fresh_id() -> u128 {
    use gaur_iodriver::sync::rng::fresh_seed;
    (u128::from(fresh_seed()) << 64) | u128::from(fresh_seed().max(1))
}

/// Makes a hole, which reads as zeros and takes no space; whether that worked.
fn punch(device: &dyn Device, offset: u64, len: u64) -> bool {
    if device.geometry().discard_granularity == 0 || !device.geometry().discard_zeroes {
        return false;
    }
    let discard = || -> std::result::Result<bool, IoError> {
        let mut queue = device.queue(1)?;
        let mut done = Vec::new();
        let op = Op::Discard { offset, len };
        queue.submit(&mut vec![Request { token: 0, op }])?;
        while done.is_empty() {
            queue.wait(1, None, &mut done)?;
        }
        Ok(done.iter().all(|c| c.result.is_ok()))
    };
    discard().unwrap_or(false)
}

fn zero(device: &dyn Device, start: u64, len: u64) -> Result<()> {
    let zeros = IoBuf::zeroed(1 << 20);
    let mut at = 0;
    while at < len {
        let n = (len - at).min(zeros.len() as u64);
        device.write_at(start + at, &zeros[..n as usize])?;
        at += n;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_across_those_of_the_disk_are_told_of() {
        let dir = tempfile::tempdir().unwrap();
        let options = gaur_iodriver::OpenOptions {
            create: Some(MIN_STORE),
            ..Default::default()
        };
        let mut opened = gaur_iodriver::open(dir.path().join("store"), &options).unwrap();
        assert_eq!(placement(&opened, 4096), Vec::<String>::new());
        opened.start = (1 << 20) + 512;
        let notes = placement(&opened, 4096);
        assert!(notes[0].contains("begins at byte 1049088"), "{notes:?}");
        opened.start = 1 << 20;
        opened.alignment_offset = 3584;
        let notes = placement(&opened, 4096);
        assert!(notes[0].contains("3584 bytes beside"), "{notes:?}");
        opened.alignment_offset = 0;
        opened.geometry.is_block_device = true;
        opened.geometry.physical_block = 16384;
        let notes = placement(&opened, 4096);
        assert!(notes[0].contains("16384 bytes"), "{notes:?}");
        assert_eq!(placement(&opened, 16384), Vec::<String>::new());
    }
}
