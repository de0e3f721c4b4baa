//! Making a store.

use std::path::Path;
use std::sync::Arc;

use gaur_iodriver::{Device, DurabilityReport, DurableMethod, IoBuf, measure_durability};

use crate::alloc::MapRoot;
use crate::error::{Error, Result};
use crate::format::Geometry;
use crate::format::geometry::SECOND_SUPERBLOCK;
use crate::format::superblock::{FLAG_CLEAN, FLAG_SPARSE, FORMAT_VERSION, Superblock};
use crate::log::LogConfig;
use crate::options::FormatOptions;
use crate::writeback::superblock::{read_pair, write_pair};

/// The smallest store, in bytes.
pub const MIN_STORE: u64 = 16 << 20;
const MIN_LOG: u64 = 4 << 20;
const MAX_LOG: u64 = 1 << 30;
/// The smallest block size; a superblock of any begins in it, and behind it may
/// lie the map of an old store.
const SMALLEST_BLOCK: u64 = 4096;
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
    /// Whether I/O bypasses the page cache.
    pub direct: bool,
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
    let mut report = format_device(opened.device, options, &path.display().to_string())?;
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

/// Makes a store on an open device; `name` is for messages.
pub(crate) fn format_device(
    device: Arc<dyn Device>,
    options: &FormatOptions,
    name: &str,
) -> Result<FormatReport> {
    options.check()?;
    let geometry = layout(&device.geometry(), options)?;
    let block_size = options.block_size;
    if !options.force {
        refuse_foreign(device.as_ref(), &geometry, name)?;
    }

    // An old store ends before anything of it is overwritten: cut off from here on,
    // there is none, and later its superblocks do not compete with the new ones.
    for copy in 0..2 {
        let at = geometry.byte(geometry.superblock(copy));
        zero(device.as_ref(), at, SMALLEST_BLOCK)?;
        device.flush()?;
    }

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
        zero(
            device.as_ref(),
            geometry.byte(piece.start),
            geometry.byte(u64::from(piece.len)),
        )?;
    }
    device.flush()?;

    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let mut sb = Superblock {
        version: FORMAT_VERSION,
        block_size,
        store_id: fresh_id(),
        capacity: geometry.capacity,
        log_blocks: geometry.log_blocks,
        next_tree: 1,
        durable_method: u32::from(durable_method.code()),
        flags: FLAG_CLEAN | if options.sparse { FLAG_SPARSE } else { 0 },
        created: now.map_or(0, |d| d.as_secs()),
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
        direct: device.geometry().direct,
        notes: Vec::new(),
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
                "{block_size}: not a multiple of the device's logical block ({})",
                device.logical_block
            ),
        });
    }
    let log_size = options
        .log_size
        .unwrap_or((bytes / 16).clamp(MIN_LOG, MAX_LOG));
    if log_size < MIN_LOG || log_size > bytes / 2 {
        return Err(Error::BadOption {
            name: "log_size",
            detail: format!(
                "{log_size} bytes; {MIN_LOG} to half the device ({})",
                bytes / 2
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

/// Refuses to format over anything: a store, or bytes that are not zero where our
/// structures go.
pub(crate) fn refuse_foreign(device: &dyn Device, geometry: &Geometry, name: &str) -> Result<()> {
    let foreign = |detail: String| {
        Err(Error::Foreign {
            path: name.to_owned(),
            detail,
        })
    };
    match read_pair(device, name, false) {
        Ok(pair) => {
            return foreign(format!(
                "a gaur store is there (id {:032x})",
                pair.newest.store_id
            ));
        }
        Err(Error::NotAStore { .. }) => {}
        Err(Error::Io(e)) => return Err(Error::Io(e)),
        Err(other) => return foreign(format!("a gaur store is there: {other}")),
    }
    let mut places = vec![(0, SECOND_SUPERBLOCK + u64::from(geometry.block_size))];
    for group in 1..geometry.groups() {
        let start = geometry.byte(geometry.group_start(group));
        places.push((start, geometry.byte(geometry.metadata_blocks(group))));
        if group > 64 {
            break;
        }
    }
    for (start, len) in places {
        let mut buf = IoBuf::zeroed(len as usize);
        device.read_at(start, &mut buf)?;
        if let Some(at) = buf.iter().position(|&b| b != 0) {
            return foreign(format!("data at byte {}", start + at as u64));
        }
    }
    Ok(())
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
