//! What a format would do: all its checks, and not a byte written.

use std::path::Path;

use gaur_iodriver::{Device, DurableMethod, IoErrorKind};

use crate::error::{Error, Result};
use crate::format_store::{check_options, layout, placement, refuse_foreign};
use crate::options::FormatOptions;

/// What [`Store::format`](crate::Store::format) would do.
#[derive(Clone, Debug)]
pub struct FormatPlan {
    /// Bytes the store would use.
    pub capacity: u64,
    /// Bytes in a block.
    pub block_size: u32,
    /// Bytes of the log, which are written with zeroes.
    pub log_bytes: u64,
    /// How writes would be made durable; `None`: format would measure it.
    pub durable_method: Option<DurableMethod>,
    /// The driver that would be used; unknown before a file is made.
    pub driver: Option<&'static str>,
    /// Whether I/O would bypass the page cache; unknown before a file is made.
    pub direct: Option<bool>,
    /// Whether a file would be made.
    pub makes_file: bool,
    /// What is there and would be lost; only with [`FormatOptions::force`].
    pub destroys: Option<String>,
    /// What is not as it was asked for.
    pub notes: Vec<String>,
}

/// Does what a format does up to its first write. A device is claimed as for a
/// format, and let go again.
pub(crate) fn plan_path(path: &Path, options: &FormatOptions) -> Result<FormatPlan> {
    check_options(options)?;
    let open = gaur_iodriver::OpenOptions {
        create: options.create_size,
        sparse: options.sparse,
        driver: options.driver,
        ..Default::default()
    };
    if open.create.is_some() {
        let geometry = gaur_iodriver::check_create(path, &open)?;
        let geometry = layout(&geometry, options)?;
        return Ok(FormatPlan {
            makes_file: true,
            ..plan(&geometry, options)
        });
    }
    let opened = gaur_iodriver::open(path, &open)?;
    let mut plan = plan_device(opened.device.as_ref(), options, &opened.name)?;
    plan.notes.extend(placement(&opened, options.block_size));
    plan.notes.extend(opened.notes);
    Ok(plan)
}

/// The same for a device that is open, perhaps only for reading; `name` is for
/// messages.
pub(crate) fn plan_device(
    device: &dyn Device,
    options: &FormatOptions,
    name: &str,
) -> Result<FormatPlan> {
    options.check()?;
    let io = device.geometry();
    let geometry = layout(&io, options)?;
    let destroys = match refuse_foreign(device, &geometry, name) {
        Ok(()) => None,
        Err(Error::Foreign { detail, .. }) if options.force => {
            Some(detail.trim_start_matches("holds ").to_owned())
        }
        // What cannot be read is no reason not to write, as far as force goes.
        Err(Error::Io(e)) if options.force && e.kind == IoErrorKind::Failed => {
            Some(format!("what is there cannot be read ({e})"))
        }
        Err(e) => return Err(e),
    };
    Ok(FormatPlan {
        driver: Some(device.driver()),
        direct: Some(io.direct),
        destroys,
        ..plan(&geometry, options)
    })
}

fn plan(geometry: &crate::format::Geometry, options: &FormatOptions) -> FormatPlan {
    FormatPlan {
        capacity: geometry.byte(geometry.capacity),
        block_size: geometry.block_size,
        log_bytes: geometry.byte(geometry.log_blocks),
        durable_method: options.durable_method,
        driver: None,
        direct: None,
        makes_file: false,
        destroys: None,
        notes: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use gaur_iodriver::{SimDisk, SimOptions};

    use super::*;
    use crate::Store;

    #[test]
    fn a_plan_says_what_format_does_and_writes_nothing() {
        let disk = SimDisk::new(SimOptions {
            capacity: 64 << 20,
            ..Default::default()
        });
        let options = FormatOptions::default();
        let plan = Store::plan_format_device(disk.device(), &options).unwrap();
        assert_eq!(disk.stats().writes, 0);
        assert!(plan.destroys.is_none() && !plan.makes_file);
        let done = Store::format_device(disk.device(), &options).unwrap();
        assert_eq!(
            (plan.capacity, plan.block_size, plan.log_bytes),
            (done.capacity, done.block_size, done.log_bytes)
        );
        let writes = disk.stats().writes;
        let refused = Store::plan_format_device(disk.device(), &options);
        assert!(matches!(refused, Err(Error::Foreign { .. })), "{refused:?}");
        let forced = FormatOptions {
            force: true,
            ..options
        };
        let plan = Store::plan_format_device(disk.device(), &forced).unwrap();
        assert!(plan.destroys.is_some_and(|d| d.contains("store")));
        assert_eq!(disk.stats().writes, writes);
    }

    #[test]
    fn a_file_is_planned_without_being_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new.store");
        let with = |size| FormatOptions {
            create_size: Some(size),
            ..Default::default()
        };
        let plan = Store::plan_format(&path, &with(64 << 20)).unwrap();
        assert!(plan.makes_file && plan.capacity == 64 << 20);
        for size in [1 << 20, (64 << 20) + 1, 1 << 62] {
            assert!(Store::plan_format(&path, &with(size)).is_err(), "{size}");
        }
        assert!(Store::plan_format(&path, &FormatOptions::default()).is_err());
        assert!(Store::plan_format(dir.path().join("no/x"), &with(64 << 20)).is_err());
        // Nor does a format leave one that is refused.
        let refused = FormatOptions {
            log_size: Some(60 << 20),
            ..with(64 << 20)
        };
        assert!(Store::format(&path, &refused).is_err());
        assert!(!path.exists());
        std::fs::write(&path, "something").unwrap();
        assert!(Store::plan_format(&path, &with(64 << 20)).is_err());
    }
}
