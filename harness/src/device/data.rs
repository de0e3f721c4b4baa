//! The facts as data. The names are stable: programs read them.

use gaur_iodriver::Description;
use gaur_iodriver::look::{FileFacts, Hardware, Users};
use serde_json::{Value, json};

use super::Report;
use crate::blockdev::Counters;

/// The whole report.
pub(crate) fn as_json(r: &Report) -> Value {
    let mut all = facts(&r.description, r.counters);
    all["hardware"] = r.hardware.as_ref().map_or(Value::Null, hardware);
    all["file"] = r.file.as_ref().map_or(Value::Null, file);
    all["users"] = users(&r.users);
    all["contents"] = r.contents.as_json();
    all["engine"] = json!(r.engine);
    all
}

/// What every device has.
pub(crate) fn facts(d: &Description, counters: Option<Counters>) -> Value {
    json!({
        "path": d.path,
        "kind": d.kind.to_string(),
        "capacity": d.capacity,
        "disk": d.disk,
        "number": d.number,
        "model": d.model,
        "serial": d.serial,
        "backing_file": d.backing_file,
        "scheduler": d.scheduler,
        "rotational": d.rotational,
        "write_cache": d.write_cache,
        "fua": d.fua,
        "logical_block": d.logical_block,
        "physical_block": d.physical_block,
        "max_io": d.max_io,
        "max_discard": d.max_discard,
        "holders": d.holders,
        "mounted_at": d.mounted_at,
        "swap": d.swap,
        "read_only": d.read_only,
        "counters": counters,
    })
}

fn hardware(h: &Hardware) -> Value {
    json!({
        "vendor": h.vendor,
        "firmware": h.firmware,
        "minimum_io": h.minimum_io,
        "optimal_io": h.optimal_io,
        "alignment_offset": h.alignment_offset,
        "memory_alignment": h.memory_alignment,
        "discard_granularity": h.discard_granularity,
        "write_zeroes_max": h.write_zeroes_max,
        "atomic_write_max": h.atomic_write_max,
        "numa_node": h.numa_node,
        "hardware_queues": h.hardware_queues,
        "queue_depth": h.queue_depth,
        "io_poll": h.io_poll,
        "poll_queues": h.poll_queues,
        "zoned": h.zoned,
        "built_on": h.built_on,
        "partition": h.partition.as_ref().map(|p| json!({
            "disk": p.disk,
            "number": p.number,
            "start": p.start,
        })),
        "loop": h.loop_device.as_ref().map(|l| json!({
            "backing_file": l.backing_file,
            "direct": l.direct,
            "offset": l.offset,
        })),
        "nvme": h.nvme.as_ref().map(|n| json!({
            "controller": n.controller,
            "namespace": n.namespace,
            "transport": n.transport,
            "address": n.address,
            "state": n.state,
            "volatile_write_cache": n.volatile_write_cache,
        })),
    })
}

fn file(f: &FileFacts) -> Value {
    json!({
        "fs_type": f.fs_type,
        "mounted_at": f.mounted_at,
        "source": f.source,
        "chain": f.chain,
        "size": f.size,
        "allocated": f.allocated,
        "sparse": f.is_sparse(),
        "fs_free": f.fs_free,
        "max_size": f.max_size,
    })
}

fn users(u: &Users) -> Value {
    json!({
        "mounts": u.mounts.iter().map(|m| json!({
            "device": m.device,
            "at": m.at,
            "fs_type": m.fs_type,
        })).collect::<Vec<_>>(),
        "swap": u.swap,
        "holders": u.holders,
        "loops": u.loops,
        "processes": u.processes.iter().map(|p| json!({
            "pid": p.pid,
            "name": p.name,
            "path": p.path,
            "writes": p.writes,
        })).collect::<Vec<_>>(),
        "processes_not_seen": u.processes_not_seen,
    })
}
