//! Making and opening the store that a run works on.

use std::path::Path;

use gaur::inspect::InspectOptions;
use gaur::{DriverChoice, DurableMethod, FormatOptions, FormatPlan, OpenOptions, Store};

use super::config::{Create, Driver, DurableBy, StoreConfig};
use crate::cli::superblock;
use crate::failure::Failure;
use crate::units;

impl From<Driver> for DriverChoice {
    fn from(d: Driver) -> Self {
        match d {
            Driver::Auto => Self::Auto,
            Driver::Uring => Self::Uring,
            Driver::Psync => Self::Psync,
        }
    }
}

impl From<DurableBy> for DurableMethod {
    fn from(d: DurableBy) -> Self {
        match d {
            DurableBy::WriteFlush => Self::WriteFlush,
            DurableBy::Dsync => Self::Dsync,
        }
    }
}

/// How the configuration opens its store.
pub(crate) fn open_options(c: &StoreConfig) -> OpenOptions {
    let mut o = OpenOptions {
        cache_bytes: c.cache.0,
        driver: c.driver.into(),
        durable_method: c.durable_method.map(Into::into),
        discard: c.discard,
        grow_to: c.grow_to.map(|s| s.0),
        follow_size: c.follow_size,
        allocator_delay: c.allocator_delay.map(|s| s.0),
        ..OpenOptions::default()
    };
    if let Some(rate) = c.discard_rate {
        o.discard_rate.bytes_per_second = rate.0;
    }
    if let Some(size) = c.map_memory {
        o.map_memory = usize::try_from(size.0).unwrap_or(usize::MAX);
    }
    if let Some(interval) = c.checkpoint_interval {
        o.checkpoint_interval = interval.0;
    }
    if let Some(interval) = c.buffered_interval {
        o.buffered_interval = interval.0;
    }
    o
}

/// Opens the store.
pub(crate) fn open(c: &StoreConfig) -> Result<Store, Failure> {
    Store::open(&c.path, &open_options(c)).map_err(Failure::from)
}

/// By what means an open by this configuration reads and writes.
#[derive(Clone, Debug)]
pub(crate) struct Means {
    /// The driver's name.
    pub(crate) driver: String,
    /// How writes are made durable.
    pub(crate) durable_method: String,
}

/// Finds out, while nobody has the store open.
pub(crate) fn means(c: &StoreConfig) -> Result<Means, Failure> {
    let o = gaur_iodriver::OpenOptions {
        read_only: true,
        driver: c.driver.into(),
        ..Default::default()
    };
    let opened = gaur_iodriver::open(&c.path, &o).map_err(gaur::Error::from)?;
    let driver = opened.device.driver().to_owned();
    drop(opened);
    let durable_method = match c.durable_method {
        Some(method) => DurableMethod::from(method).to_string(),
        None => {
            let facts = superblock::facts(Path::new(&c.path), c.driver)?;
            superblock::durable_method(&facts).unwrap_or_else(|| "unknown".to_owned())
        }
    };
    Ok(Means {
        driver,
        durable_method,
    })
}

/// What is to be done before the store is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing: the store is there, or must be.
    Keep,
    /// It is formatted. `present`: over a store, which goes; `remake`: whose file
    /// has another size, and is removed first.
    Format { present: bool, remake: bool },
}

/// Decides whether to format. `may_replace` says that a store which is there may
/// go; foreign data always stays. Writes nothing.
pub(crate) fn decide(c: &StoreConfig, may_replace: bool) -> Result<Step, Failure> {
    let path = Path::new(&c.path);
    let there = if path.exists() { look(c)? } else { There::No };
    let present = there != There::No;
    match (c.create, present) {
        (Create::Never, _) | (Create::Missing, true) => return Ok(Step::Keep),
        (Create::Fresh, true) if !may_replace => {
            return Err(Failure::refused(format!(
                "{}: holds a store already; add --fresh to replace it, or --set store.create=missing to use it",
                c.path
            )));
        }
        // One superblock may be left below what was made there since.
        (Create::Fresh, true) if there == There::Torn => {
            return Err(Failure::refused(format!(
                "{}: one superblock of the store there is damaged or overwritten, so it is not \
                 replaced; nothing was written. Is it the right one? gaur device shows what is \
                 on it, gaur format --force makes a new store",
                c.path
            )));
        }
        (Create::Missing | Create::Fresh, _) => {}
    }
    let remake = present
        && path.is_file()
        && std::fs::metadata(path).map(|m| m.len()).ok() != Some(c.size.0);
    Ok(Step::Format { present, remake })
}

/// Formats if the configuration asks for it; see [`decide`].
pub(crate) fn create(c: &StoreConfig, may_replace: bool) -> Result<(), Failure> {
    let Step::Format { present, remake } = decide(c, may_replace)? else {
        return Ok(());
    };
    let mut path = Path::new(&c.path);
    let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if remake {
        // What would be refused is refused before the old store goes.
        rehearse_create(c, present, remake)?;
        room_for(&real, c)?;
        // A link stays: what it leads to is made anew.
        remove(&real)?;
        path = &real;
    }
    let o = format_options(c, present, !path.exists())?;
    Store::format(path, &o).map(drop).map_err(Failure::from)
}

/// What [`create`] would do, with nothing written.
pub(crate) fn rehearse_create(
    c: &StoreConfig,
    present: bool,
    remake: bool,
) -> Result<FormatPlan, Failure> {
    let path = Path::new(&c.path);
    let mut o = format_options(c, present, remake || !path.exists())?;
    if !remake {
        return Ok(Store::plan_format(path, &o)?);
    }
    claim(path)?;
    // The file's room comes free before the new one takes it.
    o.sparse = true;
    Ok(Store::plan_format(path.with_extension("dry-run"), &o)?)
}

/// Opens the store as a run would, but only for reading, after a look whether it
/// could be opened for writing.
pub(crate) fn rehearse_open(c: &StoreConfig) -> Result<Store, Failure> {
    claim(Path::new(&c.path))?;
    let o = OpenOptions {
        read_only: true,
        ..open_options(c)
    };
    Store::open(&c.path, &o).map_err(Failure::from)
}

/// Claims a device or file as for writing, and lets it go again.
pub(crate) fn claim(path: &Path) -> Result<(), Failure> {
    gaur_iodriver::open(path, &gaur_iodriver::OpenOptions::default())
        .map(drop)
        .map_err(|e| Failure::from(gaur::Error::Io(e)))
}

/// Refuses a size for which there would be no room, the old file's counted.
fn room_for(path: &Path, c: &StoreConfig) -> Result<(), Failure> {
    use std::os::unix::fs::MetadataExt as _;
    let old = std::fs::metadata(path).map_err(|e| Failure::file("look at", path, &e))?;
    let free = nix::sys::statvfs::statvfs(path).map_or(u64::MAX, |s| {
        s.blocks_available().saturating_mul(s.fragment_size())
    });
    let room = free.saturating_add(old.blocks() * 512);
    if c.sparse || c.size.0 <= room {
        return Ok(());
    }
    Err(Failure::refused(format!(
        "{}: {} would be free for a store of {}; choose a smaller store.size, or make room",
        c.path,
        units::exact(room),
        units::exact(c.size.0)
    )))
}

fn format_options(
    c: &StoreConfig,
    present: bool,
    makes_file: bool,
) -> Result<FormatOptions, Failure> {
    Ok(FormatOptions {
        block_size: u32::try_from(c.block_size.0).map_err(|_| {
            Failure::refused("store.block_size is too large; it is 4KiB, 8KiB or 16KiB")
        })?,
        log_size: c.log_size.map(|s| s.0),
        // Only what is known to be a store of ours is replaced.
        force: present,
        create_size: makes_file.then_some(c.size.0),
        sparse: c.sparse,
        discard: false,
        discard_progress: None,
        driver: c.driver.into(),
        durable_method: c.durable_method.map(Into::into),
    })
}

/// What of a store there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum There {
    No,
    /// One superblock does not verify.
    Torn,
    Yes,
}

fn look(c: &StoreConfig) -> Result<There, Failure> {
    let o = InspectOptions {
        driver: c.driver.into(),
        ..InspectOptions::default()
    };
    match gaur::inspect::superblock(&c.path, &o) {
        Ok(found) if superblock::is_torn(&found) => Ok(There::Torn),
        Ok(_) => Ok(There::Yes),
        Err(gaur::Error::NotAStore { .. }) => Ok(There::No),
        Err(e) => Err(e.into()),
    }
}

/// Removes a store's file that nobody has open, so that it is made anew in
/// another size.
fn remove(path: &Path) -> Result<(), Failure> {
    // Opening for writing takes the lock: a file in use stays.
    claim(path)?;
    std::fs::remove_file(path).map_err(|e| Failure::file("remove", path, &e))
}
