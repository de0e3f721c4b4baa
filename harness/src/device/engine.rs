//! What the engine will use on a device, and why; and what a format would refuse.

use std::path::Path;

use gaur::{FormatOptions, Store};
use gaur_iodriver::look::{self, Hardware, Rings, Users};
use gaur_iodriver::{Description, DeviceKind, Geometry};
use serde::Serialize;

use crate::cli::superblock;
use crate::units;

/// The most the engine reads or writes at once.
const LARGEST_IO: u64 = 1 << 20;
/// Requests that one of its queues keeps in flight, at most.
const QUEUE_DEPTH: u32 = 64;
/// Block sizes that a store may have.
const BLOCK_SIZES: [u64; 3] = [4096, 8192, 16_384];

/// Something chosen, and the reason.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Choice<T> {
    pub(crate) value: T,
    pub(crate) why: String,
}

fn choice<T>(value: T, why: impl Into<String>) -> Choice<T> {
    Choice {
        value,
        why: why.into(),
    }
}

/// What the engine will use.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Engine {
    pub(crate) driver: Choice<&'static str>,
    /// What rings can do here, by name; `None` where there are none.
    pub(crate) rings: Option<RingFacts>,
    /// `O_DIRECT`; unknown if it may not be opened.
    pub(crate) direct: Choice<Option<bool>>,
    /// Alignment in bytes that buffers and offsets need.
    pub(crate) memory_align: Option<u32>,
    pub(crate) offset_align: Option<u32>,
    pub(crate) block_size: Choice<Option<u64>>,
    pub(crate) log_bytes: Choice<Option<u64>>,
    pub(crate) durable_method: Choice<Option<String>>,
    pub(crate) discard: Choice<Option<bool>>,
    pub(crate) max_io: Choice<u64>,
    pub(crate) queue_depth: u32,
    /// What a format would refuse it for; empty: nothing is known.
    pub(crate) format_refuses: Vec<String>,
    pub(crate) notes: Vec<String>,
}

/// [`Rings`] as data.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct RingFacts {
    pub(crate) single_issuer: bool,
    pub(crate) defer_taskrun: bool,
    pub(crate) registered_files: bool,
    pub(crate) registered_buffers: bool,
    pub(crate) iopoll: bool,
}

impl From<Rings> for RingFacts {
    fn from(r: Rings) -> Self {
        Self {
            single_issuer: r.deferred,
            defer_taskrun: r.deferred,
            registered_files: r.registered_files,
            registered_buffers: r.registered_buffers,
            iopoll: r.polled,
        }
    }
}

pub(super) fn look(
    path: &Path,
    d: &Description,
    hardware: Option<&Hardware>,
    users: &Users,
) -> Engine {
    let o = gaur_iodriver::OpenOptions {
        read_only: true,
        exclusive: false,
        ..Default::default()
    };
    let rings = look::rings();
    let driver = match &rings {
        Ok(_) => choice(
            "uring",
            "io_uring is to be had; --driver psync takes the other",
        ),
        Err(reason) => choice("psync", reason.clone()),
    };
    let mut refuses = standing(d, hardware, users);
    let mut notes = Vec::new();
    let (mut geometry, mut stored, mut plan) = (None, Vec::new(), None);
    match gaur_iodriver::open(path, &o) {
        Ok(opened) => {
            geometry = Some(opened.geometry);
            notes = opened.notes;
            stored = superblock::facts_on(opened.device.clone()).unwrap_or_default();
            let block = geometry.as_ref().map_or(4096, block_for);
            let options = FormatOptions {
                block_size: block as u32,
                // Says what would be lost, instead of refusing for it.
                force: true,
                ..FormatOptions::default()
            };
            match Store::plan_format_device(opened.device, &options) {
                Ok(p) => {
                    if let Some(lost) = &p.destroys {
                        refuses.push(format!("{lost}; --force formats it all the same"));
                    }
                    plan = Some(p);
                }
                Err(e) => refuses.push(e.to_string()),
            }
        }
        Err(e) => {
            let who = if nix::unistd::geteuid().is_root() {
                ""
            } else {
                "; root may"
            };
            notes.push(format!("it may not be opened to look: {}{who}", e.detail));
        }
    }
    let fact = |name| superblock::fact(&stored, name);
    let stored_bytes = |name| exact(fact(name)?);
    Engine {
        rings: rings.ok().map(RingFacts::from),
        driver,
        direct: direct(geometry.as_ref()),
        memory_align: geometry.as_ref().map(|g| g.memory_align),
        offset_align: geometry.as_ref().map(|g| g.offset_align),
        block_size: match (stored_bytes("block_size"), &geometry) {
            (Some(n), _) => choice(Some(n), "as the store was formatted"),
            (None, None) => choice(None, "not known before it can be opened"),
            (None, Some(g)) => block_size(g),
        },
        log_bytes: match (stored_bytes("log_blocks"), plan) {
            (Some(n), _) => choice(Some(n), "as the store was formatted"),
            (None, Some(p)) => choice(
                Some(p.log_bytes),
                "a sixteenth of the device, 4 MiB to 1 GiB; --log-size sets another",
            ),
            (None, None) if geometry.is_none() => choice(None, "not known before it can be opened"),
            (None, None) => choice(None, "not known while a format is refused"),
        },
        durable_method: match superblock::durable_method(&stored) {
            Some(m) => choice(Some(m), "measured or set when the store was formatted"),
            None => choice(None, "measured at format; --durable-method sets it"),
        },
        discard: discard(geometry.as_ref(), d, hardware),
        max_io: max_io(d),
        queue_depth: QUEUE_DEPTH,
        format_refuses: refuses,
        notes,
    }
}

/// The bytes in `1024 blocks, 4.0 MiB (4194304 B)`.
fn exact(shown: &str) -> Option<u64> {
    let (_, rest) = shown.rsplit_once('(')?;
    rest.strip_suffix(" B)")?.parse().ok()
}

/// What stands against a format before anything is read.
fn standing(d: &Description, hardware: Option<&Hardware>, users: &Users) -> Vec<String> {
    let mut found = Vec::new();
    if d.kind != DeviceKind::File {
        for m in &users.mounts {
            found.push(format!("{} is mounted at {}; unmount it", m.device, m.at));
        }
        for s in &users.swap {
            found.push(format!("{s} is used as swap; run swapoff"));
        }
        for h in &users.holders {
            found.push(format!("held by {h}; take that apart"));
        }
        if let Some(z) = hardware.and_then(|h| h.zoned.as_deref())
            && z != "none"
        {
            found.push(format!(
                "it is {z} zoned, which cannot be written at random; use another device"
            ));
        }
    }
    if d.read_only {
        found.push("it is read-only; make it writable (blockdev --setrw, chmod)".into());
    }
    found
}

fn direct(geometry: Option<&Geometry>) -> Choice<Option<bool>> {
    match geometry.map(|g| g.direct) {
        None => choice(None, "not known before it can be opened"),
        Some(true) => choice(Some(true), "I/O bypasses the page cache"),
        Some(false) => choice(
            Some(false),
            "the file system has no O_DIRECT: the page cache is used",
        ),
    }
}

/// The smallest block that the device can write.
fn block_for(g: &Geometry) -> u64 {
    let unit = u64::from(g.logical_block.max(g.offset_align));
    let fits = |size: &u64| size.is_multiple_of(unit);
    BLOCK_SIZES.into_iter().find(fits).unwrap_or(4096)
}

fn block_size(g: &Geometry) -> Choice<Option<u64>> {
    let size = block_for(g);
    let physical = u64::from(g.physical_block);
    let why = if size > 4096 {
        format!(
            "the logical block is {}; give --block-size {}",
            units::bytes(g.logical_block.into()),
            units::Size(size)
        )
    } else if physical > size && BLOCK_SIZES.contains(&physical) {
        format!(
            "the default; --block-size {} would spare the device, whose physical block that is, reading before writing",
            units::Size(physical)
        )
    } else {
        "the default, and the device writes it whole".to_owned()
    };
    choice(Some(size), why)
}

fn discard(
    geometry: Option<&Geometry>,
    d: &Description,
    hardware: Option<&Hardware>,
) -> Choice<Option<bool>> {
    let granularity = geometry.map(|g| g.discard_granularity);
    match granularity {
        None => choice(
            d.max_discard.map(|n| n > 0),
            "as the kernel tells; off unless asked for",
        ),
        Some(0) if d.kind == DeviceKind::File => choice(
            Some(false),
            "a preallocated file keeps its space; only one formatted with --sparse is punched",
        ),
        Some(0) => choice(Some(false), "the device has no discard"),
        Some(n) => choice(
            Some(true),
            format!(
                "in units of {}, at most {} at once; off unless asked for",
                units::bytes(n.into()),
                d.max_discard
                    .or(hardware.and_then(|h| h.discard_granularity))
                    .map_or_else(|| "unknown".to_owned(), units::bytes)
            ),
        ),
    }
}

fn max_io(d: &Description) -> Choice<u64> {
    match d.max_io {
        Some(n) if n < LARGEST_IO => choice(
            n,
            "the device's; the kernel splits the engine's larger ones, of up to 1 MiB",
        ),
        _ => choice(LARGEST_IO, "the engine's own; nodes are read by blocks"),
    }
}
