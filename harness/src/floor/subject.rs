//! What is measured: a store's free space, a file made for it, or what is there,
//! by reads alone.

use std::path::Path;
use std::sync::Arc;

use gaur::{Error, FreeSpace, OpenOptions, Store};
use gaur_iodriver::Device;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::Plan;
use super::area::{Area, patience};
use super::cell::write_once;
use crate::cli::superblock;
use crate::failure::Failure;
use crate::units;

/// The least that is worth writing to.
const LEAST: u64 = 1 << 20;
/// The store's memory; nothing is read through it.
const CACHE: u64 = 16 << 20;

/// What a path calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Intent {
    /// It holds a store: writes go into its free space.
    Store,
    /// There is nothing: a file is made, and removed.
    NewFile,
    /// There is something else: it is only read.
    ReadsOnly,
}

impl Intent {
    /// In words.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Store => "a store: writes go into its free space, given back at the end",
            Self::NewFile => "a file made for this, and removed",
            Self::ReadsOnly => {
                "no store: reads only. To measure writes as well: gaur format it first, or name a file that does not exist"
            }
        }
    }
}

/// Looks what the path calls for.
fn intent(plan: &Plan) -> Result<Intent, Failure> {
    let path = &plan.path;
    if path.is_dir() {
        return Err(Failure::refused(format!(
            "{}: is a directory; name a file in it that does not exist, as in {}",
            path.display(),
            path.join("bench.tmp").display()
        )));
    }
    if !path.exists() {
        return Ok(Intent::NewFile);
    }
    match superblock::facts(path, plan.driver) {
        Ok(_) => Ok(Intent::Store),
        Err(_) if !holds_store(plan)? => Ok(Intent::ReadsOnly),
        Err(e) => Err(e),
    }
}

/// What a measurement would do: all that can refuse it, and nothing written.
pub(crate) fn check(plan: &Plan) -> Result<Intent, Failure> {
    let intent = intent(plan)?;
    let o = gaur_iodriver::OpenOptions {
        create: (intent == Intent::NewFile).then_some(plan.size),
        driver: plan.driver.into(),
        ..Default::default()
    };
    match intent {
        Intent::NewFile => gaur_iodriver::check_create(&plan.path, &o).map(drop),
        Intent::Store => gaur_iodriver::open(&plan.path, &o).map(drop),
        Intent::ReadsOnly => return look(plan).map(|_| intent),
    }
    .map_err(Error::from)?;
    Ok(intent)
}

/// Whether there is a store, by a look without a lock. A device in use by others
/// may be read; a store in use may not.
fn holds_store(plan: &Plan) -> Result<bool, Failure> {
    match superblock::facts_on(look(plan)?) {
        Ok(_) => Ok(true),
        Err(Error::NotAStore { .. }) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

fn look(plan: &Plan) -> Result<Arc<dyn Device>, Failure> {
    let o = gaur_iodriver::OpenOptions {
        read_only: true,
        exclusive: false,
        driver: plan.driver.into(),
        ..Default::default()
    };
    let opened = gaur_iodriver::open(&plan.path, &o).map_err(Error::from)?;
    Ok(opened.device)
}

/// What is measured.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) intent: Intent,
    pub(crate) device: Arc<dyn Device>,
    pub(crate) reads: Area,
    pub(crate) writes: Option<Area>,
    /// The store's block, or what would be one.
    pub(crate) block: u32,
    pub(crate) notes: Vec<String>,
    store: Option<(FreeSpace, Store)>,
}

impl Subject {
    /// Opens it, and writes what will be written to once.
    pub(crate) fn open(plan: &Plan, rng: &mut ChaCha8Rng) -> Result<Self, Failure> {
        let intent = intent(plan)?;
        let mut subject = match intent {
            Intent::Store => Self::of_store(plan)?,
            Intent::NewFile => Self::of_new_file(plan)?,
            Intent::ReadsOnly => Self::of_anything(plan)?,
        };
        if let Some(mut area) = subject.writes.take() {
            let asked = area.bytes();
            // A file is as large as it was asked for; a store lends what it has.
            let time = match intent {
                Intent::NewFile => std::time::Duration::MAX,
                _ => patience(plan.seconds),
            };
            write_once(subject.device.as_ref(), &mut area, time, rng)
                .map_err(|e| plan.failed("cannot be written to before it is measured", e))?;
            if area.bytes() < asked {
                subject.notes.push(format!(
                    "{} of {} were written beforehand, as far as the time went; more --seconds, more of it",
                    units::bytes(area.bytes()),
                    units::bytes(asked)
                ));
            }
            // What was never written may be answered without the medium.
            subject.reads = area.clone();
            subject.writes = Some(area);
        }
        if !subject.device.geometry().direct {
            subject.notes.push(
                "no O_DIRECT here: these are figures of the page cache; measure on another file system"
                    .into(),
            );
        }
        Ok(subject)
    }

    fn of_store(plan: &Plan) -> Result<Self, Failure> {
        let o = OpenOptions {
            cache_bytes: CACHE,
            driver: plan.driver.into(),
            ..OpenOptions::default()
        };
        let store = Store::open(&plan.path, &o)?;
        let mut want = plan.size;
        let lease = loop {
            match store.borrow_free_space(want) {
                Ok(lease) => break lease,
                Err(Error::Full { .. }) if want / 2 >= LEAST => want /= 2,
                Err(e) => return Err(e.into()),
            }
        };
        Ok(Self {
            intent: Intent::Store,
            device: lease.device(),
            reads: Area::default(),
            writes: Some(Area::new(lease.extents())),
            block: lease.block_size(),
            notes: store.notes(),
            store: Some((lease, store)),
        })
    }

    /// Parts of a device that somebody else has open.
    pub(crate) fn of_parts(
        device: Arc<dyn Device>,
        reads: Area,
        writes: Option<Area>,
        block: u32,
    ) -> Self {
        Self {
            intent: Intent::Store,
            device,
            reads,
            writes,
            block,
            notes: Vec::new(),
            store: None,
        }
    }

    fn of_new_file(plan: &Plan) -> Result<Self, Failure> {
        let o = gaur_iodriver::OpenOptions {
            create: Some(plan.size),
            driver: plan.driver.into(),
            ..Default::default()
        };
        // Says what is missing, where opening only fails.
        gaur_iodriver::check_create(&plan.path, &o).map_err(Error::from)?;
        let opened = gaur_iodriver::open(&plan.path, &o).map_err(Error::from)?;
        // Without its name it goes when it is closed, however this ends.
        remove(&plan.path)?;
        Ok(Self {
            intent: Intent::NewFile,
            reads: Area::default(),
            writes: Some(Area::new(vec![(0, plan.size)])),
            block: block_of(opened.device.as_ref()),
            device: opened.device,
            notes: opened.notes,
            store: None,
        })
    }

    /// Ranges of a device or file, to be read.
    pub(crate) fn of_ranges(
        path: &Path,
        extents: Vec<(u64, u64)>,
        block: u32,
    ) -> Result<Self, Failure> {
        let o = gaur_iodriver::OpenOptions {
            read_only: true,
            ..Default::default()
        };
        let opened = gaur_iodriver::open(path, &o).map_err(Error::from)?;
        Ok(Self {
            intent: Intent::ReadsOnly,
            reads: Area::new(extents),
            writes: None,
            block,
            device: opened.device,
            notes: opened.notes,
            store: None,
        })
    }

    fn of_anything(plan: &Plan) -> Result<Self, Failure> {
        let device = look(plan)?;
        let block = block_of(device.as_ref());
        let geometry = device.geometry();
        let bytes = geometry.capacity - geometry.capacity % u64::from(block);
        if bytes == 0 {
            return Err(Failure::refused(format!(
                "{}: too small to be measured; name a device, or a file that does not exist",
                plan.path.display()
            )));
        }
        Ok(Self {
            intent: Intent::ReadsOnly,
            reads: Area::new(vec![(0, bytes)]),
            writes: None,
            block,
            device,
            notes: vec![
                "what was never written, or was discarded, may be read without touching the medium"
                    .into(),
            ],
            store: None,
        })
    }

    /// Ends the measurement: the space goes back, the store is closed.
    pub(crate) fn close(self) -> Result<(), Failure> {
        drop(self.device);
        if let Some((lease, store)) = self.store {
            drop(lease);
            store.close()?;
        }
        Ok(())
    }
}

fn block_of(device: &dyn Device) -> u32 {
    let g = device.geometry();
    g.logical_block.max(g.offset_align).max(4096)
}

fn remove(path: &Path) -> Result<(), Failure> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::file("remove", path, &e))
        }
        _ => Ok(()),
    }
}
