//! Formatting and opening.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use gaur_iodriver::sync::Mutex;
use gaur_iodriver::sync::thread;
use gaur_iodriver::{Device, DurableMethod};

use super::{Inner, Store};
use crate::core::Core;
use crate::error::{Error, Result};
use crate::format::superblock::FLAG_SPARSE;
use crate::format_plan::{FormatPlan, plan_device, plan_path};
use crate::format_store::{FormatReport, format_device, format_path};
use crate::log::{Log, LogConfig};
use crate::options::{FormatOptions, OpenOptions};
use crate::recovery::{self, RecoveryReport};
use crate::trace::span;
use crate::writeback::checkpoint::{self, Checkpointer};
use crate::writeback::evict;
use crate::writeback::superblock::read_pair;

/// The number of the next opening.
static NEXT: AtomicU64 = AtomicU64::new(0);

impl Store {
    /// Makes a store at `path`, a block device or a file, and says what it did.
    /// Refuses if anything is there, unless forced.
    ///
    /// # Errors
    /// [`Error::Foreign`], [`Error::TooSmall`], [`Error::BadOption`], or
    /// [`Error::Io`]; up to then nothing was written, except after an I/O error.
    pub fn format(path: impl AsRef<Path>, options: &FormatOptions) -> Result<FormatReport> {
        format_path(path.as_ref(), options)
    }

    /// [`Store::format`] on a device that is open already.
    ///
    /// # Errors
    /// As [`Store::format`].
    pub fn format_device(device: Arc<dyn Device>, options: &FormatOptions) -> Result<FormatReport> {
        format_device(device, options, "device")
    }

    /// Says what [`Store::format`] would do: makes the same checks, and writes
    /// nothing.
    ///
    /// # Errors
    /// As [`Store::format`].
    pub fn plan_format(path: impl AsRef<Path>, options: &FormatOptions) -> Result<FormatPlan> {
        plan_path(path.as_ref(), options)
    }

    /// [`Store::plan_format`] on a device that is open already; open for reading is
    /// enough.
    ///
    /// # Errors
    /// As [`Store::format`].
    pub fn plan_format_device(
        device: Arc<dyn Device>,
        options: &FormatOptions,
    ) -> Result<FormatPlan> {
        plan_device(device.as_ref(), options, "device")
    }

    /// Opens the store at `path` and recovers it if it was not closed.
    ///
    /// # Errors
    /// [`Error::NotAStore`], [`Error::UnknownFormat`], [`Error::Damaged`],
    /// [`Error::Io`] (also if somebody else has it open), [`Error::BadOption`].
    pub fn open(path: impl AsRef<Path>, options: &OpenOptions) -> Result<Self> {
        options.check()?;
        let path = path.as_ref();
        let opened = gaur_iodriver::open(
            path,
            &gaur_iodriver::OpenOptions {
                read_only: options.read_only,
                driver: options.driver,
                ..Default::default()
            },
        )?;
        let mut store = Self::open_named(opened.device, options, &opened.name)?;
        if let Some(inner) = Arc::get_mut(&mut store.inner) {
            inner.notes.extend(opened.notes);
        }
        Ok(store)
    }

    /// [`Store::open`] on a device that is open already.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_device(device: Arc<dyn Device>, options: &OpenOptions) -> Result<Self> {
        Self::open_named(device, options, "device")
    }

    fn open_named(device: Arc<dyn Device>, options: &OpenOptions, name: &str) -> Result<Self> {
        let stored = read_pair(device.as_ref(), name, !options.read_only)?;
        let method = options
            .durable_method
            .or_else(|| DurableMethod::from_code(stored.newest.durable_method as u8))
            .unwrap_or_default();
        if stored.newest.flags & FLAG_SPARSE != 0 {
            device.treat_as_sparse();
        }
        let device = device.with_durable_method(method);
        let _span = span!("open", stored.newest.store_id as u64);
        let mut opening = recovery::begin(device.clone(), name, options)?;
        let core = opening.core.clone();

        let evictor = {
            let core = core.clone();
            let queue = device.queue(64)?;
            thread::spawn("gaur-evict", move || evict::run(&core, queue)).map_err(no_thread)?
        };
        let mut inner = Inner {
            core: core.clone(),
            id: opening.superblock.store_id,
            opening: NEXT.fetch_add(1, Ordering::Relaxed),
            sparse: stored.newest.flags & FLAG_SPARSE != 0,
            notes: Vec::new(),
            recovery: RecoveryReport::default(),
            checkpointer: Mutex::new(None),
            evictor: Mutex::new(Some(evictor)),
            closing: Mutex::new(()),
        };
        // From here on dropping `inner` ends the threads.
        if options.read_only {
            recovery::replay_beside(&mut opening, options)?;
            inner.recovery = opening.report;
            let damaged = core.forest.pool.allocator().damaged_groups()?;
            inner.notes.extend(damaged.first().map(|(_, why)| {
                format!(
                    "the map of {} group(s) is damaged ({} at block {}: {}); opened for writing, \
                     the store rebuilds it from the trees when it needs it",
                    damaged.len(),
                    why.what,
                    why.place,
                    why.detail
                )
            }));
        } else {
            let tail = recovery::replay(&mut opening)?;
            inner.recovery = opening.report;
            core.forest.pool.allocator().warm_up();
            let sb = opening.superblock;
            let mut config =
                LogConfig::new(core.forest.geometry.now(), sb.store_id, sb.incarnation);
            config.buffered_interval = options.buffered_interval;
            config.seal = !inner.recovery.clean;
            let weak: Weak<Core> = Arc::downgrade(&core);
            let pressure = Box::new(move || {
                if let Some(core) = weak.upgrade() {
                    core.progress().ask();
                }
            });
            let head = recovery::head_of(&sb);
            core.set_log(Log::start(device.clone(), config, head, tail, pressure)?);
            core.log().history().note(recovery::first_place(&sb));
            let queue = device.queue(checkpoint::DEPTH as u32)?;
            let checkpointer =
                Checkpointer::new(sb, opening.catalog, opening.spare, opening.doomed, queue);
            let interval = options.checkpoint_interval;
            let body = {
                let core = core.clone();
                move || checkpointer.run(&core, interval)
            };
            core.progress().serve();
            let handle = thread::spawn("gaur-checkpoint", body).map_err(no_thread)?;
            *inner.checkpointer.lock() = Some(handle);
            // Frees what the log takes, its seal included.
            if !inner.recovery.clean {
                core.progress().ask();
            }
        }
        #[cfg(feature = "tracing")]
        tracing::info!(
            target: "gaur",
            clean = inner.recovery.clean,
            last_csn = inner.recovery.last_csn,
            replayed = inner.recovery.replayed,
            read_only = options.read_only,
            "the store is open"
        );
        Ok(Self {
            inner: Arc::new(inner),
        })
    }
}

fn no_thread(e: std::io::Error) -> Error {
    Error::BadOption {
        name: "threads",
        detail: format!("cannot start a thread: {e}"),
    }
}
