//! The report for people, in sections.

use gaur_iodriver::DeviceKind;
use gaur_iodriver::look::{FileFacts, Hardware};

use super::Report;
use super::engine::{Choice, RingFacts};
use crate::{output, units};

type Rows = Vec<(&'static str, Option<String>)>;

/// All sections.
pub(crate) fn as_text(r: &Report) -> String {
    let sections = [
        ("what it is", identity(r)),
        ("who holds it", holders(r)),
        (
            "what is on it",
            vec![("contents", Some(r.contents.as_text()))],
        ),
        ("what the engine will use", engine(r)),
    ];
    sections
        .into_iter()
        .map(|(heading, rows)| {
            let rows = rows
                .into_iter()
                .filter_map(|(name, value)| Some((name.to_owned(), value?)));
            format!("{heading}\n{}", output::pairs(rows))
        })
        .collect::<Vec<_>>()
        .join("\n\n")
}

fn yes(b: bool) -> String {
    if b { "yes" } else { "no" }.to_owned()
}

fn size(n: u64) -> String {
    units::bytes(n)
}

fn or_none(n: u64) -> String {
    if n == 0 { "none".into() } else { size(n) }
}

fn listed(items: impl IntoIterator<Item = String>) -> Option<String> {
    let all: Vec<String> = items.into_iter().collect();
    (!all.is_empty()).then(|| all.join(", "))
}

fn identity(r: &Report) -> Rows {
    let d = &r.description;
    let mut rows: Rows = vec![
        ("path", Some(d.path.display().to_string())),
        ("kind", Some(d.kind.to_string())),
        ("capacity", d.capacity.map(size)),
    ];
    if let Some(f) = &r.file {
        rows.extend(file(f));
    }
    rows.extend([
        ("disk", d.disk.clone()),
        ("number", d.number.clone()),
        ("model", d.model.clone()),
        ("serial", d.serial.clone()),
    ] as [(&'static str, Option<String>); 4]);
    if let Some(h) = &r.hardware {
        rows.extend(place(h));
    }
    rows.extend([
        ("scheduler", d.scheduler.clone()),
        ("rotational", d.rotational.map(yes)),
        ("write cache", d.write_cache.clone()),
        ("fua", d.fua.map(yes)),
        ("logical block", d.logical_block.map(size)),
        ("physical block", d.physical_block.map(size)),
        ("largest i/o", d.max_io.map(size)),
        ("largest discard", d.max_discard.map(or_none)),
    ] as [(&'static str, Option<String>); 8]);
    if let Some(h) = &r.hardware {
        rows.extend(limits(h));
    }
    rows.push(("read-only", Some(yes(d.read_only))));
    if let Some(c) = &r.counters {
        let done = |n, bytes| format!("{} ({})", units::count(n), size(bytes));
        rows.extend([
            ("reads so far", Some(done(c.reads, c.read_bytes))),
            ("writes so far", Some(done(c.writes, c.written_bytes))),
            ("flushes so far", Some(units::count(c.flushes))),
        ] as [(&'static str, Option<String>); 3]);
    }
    rows
}

fn file(f: &FileFacts) -> Rows {
    vec![
        (
            "space",
            Some(if f.is_sparse() {
                format!("sparse: {} of it allocated", size(f.allocated))
            } else {
                "allocated in full".to_owned()
            }),
        ),
        (
            "file system",
            Some(format!("{} at {}", f.fs_type, f.mounted_at)),
        ),
        ("free there", f.fs_free.map(size)),
        ("largest file", f.max_size.map(size)),
        ("devices below", listed(f.chain.iter().cloned())),
    ]
}

fn place(h: &Hardware) -> Rows {
    let mut rows: Rows = vec![
        ("vendor", h.vendor.clone()),
        ("firmware", h.firmware.clone()),
        (
            "partition",
            h.partition.as_ref().map(|p| {
                format!(
                    "{} of {}, from byte {} ({})",
                    p.number,
                    p.disk,
                    p.start,
                    size(p.start)
                )
            }),
        ),
        ("built on", listed(h.built_on.iter().cloned())),
    ];
    if let Some(l) = &h.loop_device {
        rows.push(("backing file", Some(l.backing_file.clone())));
        rows.push((
            "its i/o",
            l.direct.map(|direct| match direct {
                true => "direct".to_owned(),
                false => "through the page cache; losetup --direct-io=on".to_owned(),
            }),
        ));
        rows.push(("starts at", (l.offset > 0).then(|| size(l.offset))));
    }
    if let Some(n) = &h.nvme {
        let names = [
            ("controller", n.controller.clone()),
            ("namespace", n.namespace.map(|n| n.to_string())),
            ("transport", n.transport.clone()),
            ("address", n.address.clone()),
            ("state", n.state.clone()),
            ("volatile cache", n.volatile_write_cache.map(yes)),
        ];
        rows.extend(names);
    }
    rows
}

fn limits(h: &Hardware) -> Rows {
    vec![
        ("discard unit", h.discard_granularity.map(or_none)),
        ("write zeroes", h.write_zeroes_max.map(or_none)),
        (
            "atomic write",
            h.atomic_write_max.filter(|&n| n > 0).map(size),
        ),
        ("smallest good i/o", h.minimum_io.map(size)),
        (
            "best i/o",
            h.optimal_io.map(|n| match n {
                0 => "not told".to_owned(),
                n => size(n),
            }),
        ),
        (
            "alignment offset",
            h.alignment_offset.map(|n| n.to_string()),
        ),
        ("dma alignment", h.memory_alignment.map(size)),
        ("zoned", h.zoned.clone()),
        ("numa node", h.numa_node.map(|n| n.to_string())),
        ("hardware queues", h.hardware_queues.map(|n| n.to_string())),
        ("queue depth", h.queue_depth.map(|n| n.to_string())),
        (
            "poll queues",
            h.poll_queues
                .map(|n| n.to_string())
                .or_else(|| h.io_poll.map(yes)),
        ),
    ]
}

fn holders(r: &Report) -> Rows {
    let u = &r.users;
    let mut rows: Rows = Vec::new();
    for m in &u.mounts {
        rows.push((
            "mounted",
            Some(format!("{} at {} ({})", m.device, m.at, m.fs_type)),
        ));
    }
    rows.push(("swap", listed(u.swap.iter().cloned())));
    rows.push(("holders", listed(u.holders.iter().cloned())));
    rows.push(("shown by", listed(u.loops.iter().cloned())));
    for p in &u.processes {
        let how = match p.writes {
            Some(true) => "for writing",
            Some(false) => "for reading",
            None => "open",
        };
        rows.push((
            "process",
            Some(format!("{} ({}), {how}: {}", p.pid, p.name, p.path)),
        ));
    }
    if u.is_empty() {
        rows.push(("users", Some("none known".into())));
    }
    if u.processes_not_seen > 0 {
        rows.push((
            "not seen",
            Some(format!(
                "the open files of {} processes; root may look",
                u.processes_not_seen
            )),
        ));
    }
    rows
}

fn because<T>(c: &Choice<T>, shown: impl FnOnce(&T) -> String) -> Option<String> {
    Some(format!("{} — {}", shown(&c.value), c.why))
}

fn known<T>(value: &Option<T>, shown: impl FnOnce(&T) -> String) -> String {
    value.as_ref().map_or_else(|| "unknown".to_owned(), shown)
}

fn engine(r: &Report) -> Rows {
    let e = &r.engine;
    let bytes = |n: &Option<u64>| known(n, |n| size(*n));
    let poll_queues = r.hardware.as_ref().and_then(|h| h.poll_queues).unwrap_or(0);
    let mut rows: Rows = vec![
        ("driver", because(&e.driver, |d| (*d).to_owned())),
        ("ring", e.rings.as_ref().map(ring)),
        (
            "polling",
            e.rings.as_ref().map(|rings| polling(rings, poll_queues, r)),
        ),
        ("O_DIRECT", because(&e.direct, |d| known(d, |d| yes(*d)))),
        (
            "alignment",
            e.memory_align
                .zip(e.offset_align)
                .map(|(m, o)| format!("memory {}, offsets {}", size(m.into()), size(o.into()))),
        ),
        ("block size", because(&e.block_size, bytes)),
        ("log", because(&e.log_bytes, bytes)),
        (
            "durable by",
            because(&e.durable_method, |m| known(m, String::clone)),
        ),
        (
            "discard",
            because(&e.discard, |d| {
                known(d, |d| if *d { "possible" } else { "no" }.to_owned())
            }),
        ),
        ("largest i/o", because(&e.max_io, |n| size(*n))),
        (
            "in flight",
            Some(format!("up to {} requests a queue", e.queue_depth)),
        ),
    ];
    for why in &e.format_refuses {
        rows.push(("format refuses", Some(why.clone())));
    }
    if e.format_refuses.is_empty() {
        let path = r.description.path.display();
        rows.push((
            "format",
            Some(match e.offset_align {
                Some(_) => format!("nothing stands against it: gaur format {path}"),
                None => "unknown — what is there could not be read".to_owned(),
            }),
        ));
    }
    rows.extend(e.notes.iter().map(|n| ("note", Some(n.clone()))));
    rows
}

fn ring(r: &RingFacts) -> String {
    let has = |name: &str, there: bool| format!("{name} {}", if there { "yes" } else { "no" });
    format!(
        "{}, {}; not used: {}, {}",
        has("SINGLE_ISSUER", r.single_issuer),
        has("DEFER_TASKRUN", r.defer_taskrun),
        has("registered files", r.registered_files),
        has("registered buffers", r.registered_buffers),
    )
}

fn polling(rings: &RingFacts, poll_queues: u32, r: &Report) -> String {
    let device = match (r.description.kind, poll_queues) {
        (DeviceKind::File, _) => "it is a file".to_owned(),
        (_, 0) => "the device has no poll queues".to_owned(),
        (_, n) => format!("the device has {n} poll queues, and the driver makes no polled rings"),
    };
    let kernel = if rings.iopoll {
        ""
    } else {
        "; the kernel makes no polled rings"
    };
    format!("no — {device}{kernel}")
}
