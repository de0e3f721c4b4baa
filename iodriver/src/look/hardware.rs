//! What `/sys` tells of a block device, beyond what all of them have.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::sysfs::{BlockDir, DevNumber};
use crate::target::is_block_device;

/// The hardware's facts. Sizes in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hardware {
    /// Vendor, where it is not part of the model.
    pub vendor: Option<String>,
    /// Firmware revision.
    pub firmware: Option<String>,
    /// The smallest I/O without a penalty.
    pub minimum_io: Option<u64>,
    /// The I/O size the device likes best; 0: it does not say.
    pub optimal_io: Option<u64>,
    /// How far the beginning is off the physical block's; 0 is good.
    pub alignment_offset: Option<i64>,
    /// Alignment that memory needs for direct I/O.
    pub memory_alignment: Option<u64>,
    /// Unit of discard.
    pub discard_granularity: Option<u64>,
    /// The largest range written with zeroes by one command; 0: none.
    pub write_zeroes_max: Option<u64>,
    /// The largest write that is never torn; 0: the device does not say.
    pub atomic_write_max: Option<u64>,
    /// NUMA node; `None` if it belongs to none.
    pub numa_node: Option<u32>,
    /// Hardware queues.
    pub hardware_queues: Option<u32>,
    /// Requests that wait in one queue, at most.
    pub queue_depth: Option<u64>,
    /// Whether its completions can be polled for.
    pub io_poll: Option<bool>,
    /// Hardware queues for polling, for NVMe the module's setting.
    pub poll_queues: Option<u32>,
    /// `none`, `host-aware` or `host-managed`.
    pub zoned: Option<String>,
    /// Devices it is built on (device mapper, RAID).
    pub built_on: Vec<String>,
    /// If it is a part of a disk.
    pub partition: Option<Partition>,
    /// If it is a loop device.
    pub loop_device: Option<Loop>,
    /// If it is an NVMe namespace.
    pub nvme: Option<Nvme>,
}

/// A part of a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// The disk.
    pub disk: String,
    /// Its number there.
    pub number: u32,
    /// Where it begins, in bytes.
    pub start: u64,
}

/// A loop device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loop {
    /// The file it shows.
    pub backing_file: String,
    /// Whether it reads and writes that file past the page cache.
    pub direct: Option<bool>,
    /// Where in the file it begins, in bytes.
    pub offset: u64,
}

/// An NVMe namespace and its controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nvme {
    /// The controller's name.
    pub controller: Option<String>,
    /// The namespace's number.
    pub namespace: Option<u32>,
    /// `pcie`, `tcp`, `rdma`, `fc` or `loop`.
    pub transport: Option<String>,
    /// Where the controller is.
    pub address: Option<String>,
    /// `live`, if all is well.
    pub state: Option<String>,
    /// Whether it has a volatile write cache.
    pub volatile_write_cache: Option<bool>,
}

/// The hardware of the block device at `path`, or of the one below a file. `None`
/// if there is none that `/sys` knows.
pub fn hardware(path: impl AsRef<Path>) -> Option<Hardware> {
    let metadata = fs::metadata(path).ok()?;
    let number = if is_block_device(&metadata) {
        metadata.rdev()
    } else {
        metadata.dev()
    };
    let sys = BlockDir::of(DevNumber::new(number))?;
    let first = |names: &[&str]| names.iter().find_map(|n| sys.disk(n));
    Some(Hardware {
        vendor: sys.disk("device/vendor").filter(|v| !v.starts_with("0x")),
        firmware: first(&["device/firmware_rev", "device/rev", "device/fwrev"]),
        minimum_io: sys.queue_number("minimum_io_size"),
        optimal_io: sys.queue_number("optimal_io_size"),
        alignment_offset: sys.own("alignment_offset").and_then(|t| t.parse().ok()),
        // The kernel tells a mask.
        memory_alignment: sys.queue_number("dma_alignment").map(|mask| mask + 1),
        discard_granularity: sys.queue_number("discard_granularity"),
        write_zeroes_max: sys.queue_number("write_zeroes_max_bytes"),
        atomic_write_max: sys.queue_number("atomic_write_unit_max_bytes"),
        numa_node: first(&["device/numa_node", "device/device/numa_node"])
            .and_then(|t| t.parse().ok()),
        hardware_queues: entries(&sys.disk.join("mq")),
        queue_depth: sys.queue_number("nr_requests"),
        io_poll: sys.queue_number("io_poll").map(|n| n != 0),
        poll_queues: poll_queues(&sys),
        zoned: sys.queue("zoned"),
        built_on: names(&sys.disk.join("slaves")),
        partition: partition(&sys),
        loop_device: loop_device(&sys),
        nvme: nvme(&sys),
    })
}

fn name_of(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_string_lossy().into_owned())
}

/// What is in a directory, sorted.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn entries(dir: &Path) -> Option<u32> {
    Some(fs::read_dir(dir).ok()?.flatten().count() as u32)
}

fn partition(sys: &BlockDir) -> Option<Partition> {
    let number = sys.own("partition")?.parse().ok()?;
    let start: u64 = sys.own("start")?.parse().ok()?;
    Some(Partition {
        disk: name_of(&sys.disk)?,
        number,
        start: start.checked_mul(512)?,
    })
}

fn loop_device(sys: &BlockDir) -> Option<Loop> {
    Some(Loop {
        backing_file: sys.disk("loop/backing_file")?,
        direct: sys.disk("loop/dio").map(|t| t == "1"),
        offset: sys
            .disk("loop/offset")
            .and_then(|t| t.parse().ok())
            .unwrap_or(0),
    })
}

fn is_nvme(sys: &BlockDir) -> bool {
    name_of(&sys.disk).is_some_and(|name| name.starts_with("nvme"))
}

fn nvme(sys: &BlockDir) -> Option<Nvme> {
    if !is_nvme(sys) {
        return None;
    }
    // With multipath `device` is the subsystem, which has controllers below it.
    let device = fs::canonicalize(sys.disk.join("device")).ok()?;
    let controller = if device.join("transport").exists() {
        device
    } else {
        let below = names(&device);
        let first = below
            .iter()
            .map(|n| device.join(n))
            .find(|p| p.join("transport").exists())?;
        fs::canonicalize(first).ok()?
    };
    let line = |name: &str| {
        let text = fs::read_to_string(controller.join(name)).ok()?;
        Some(text.trim().to_owned()).filter(|t| !t.is_empty())
    };
    Some(Nvme {
        controller: name_of(&controller),
        namespace: sys.disk("nsid").and_then(|t| t.parse().ok()),
        transport: line("transport"),
        address: line("address"),
        state: line("state"),
        volatile_write_cache: sys.queue("write_cache").map(|t| t == "write back"),
    })
}

fn poll_queues(sys: &BlockDir) -> Option<u32> {
    let module = if is_nvme(sys) { "nvme" } else { "virtio_blk" };
    if module == "virtio_blk" && !name_of(&sys.disk)?.starts_with("vd") {
        return None;
    }
    let place = format!("/sys/module/{module}/parameters/poll_queues");
    fs::read_to_string(place).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_device_has_no_hardware() {
        assert_eq!(hardware("/proc/version"), None);
        assert_eq!(hardware("/nowhere"), None);
    }

    /// A tree as the kernel's: an attribute and its text.
    fn tree(at: &Path, lines: &[(&str, &str)]) {
        for (name, text) in lines {
            let path = at.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{text}\n")).unwrap();
        }
    }

    #[test]
    fn a_namespace_names_its_controller() {
        let dir = tempfile::tempdir().unwrap();
        let disk = |name: &str| BlockDir {
            own: dir.path().join(name),
            disk: dir.path().join(name),
        };
        tree(
            dir.path(),
            &[
                ("nvme7/transport", "pcie"),
                ("nvme7/address", "0000:01:00.0"),
                ("nvme7/state", "live"),
                ("nvme7n1/nsid", "1"),
                ("nvme7n1/queue/write_cache", "write back"),
                // With multipath: a subsystem with a controller.
                ("subsystem/nvme8/transport", "tcp"),
                ("nvme8n2/nsid", "2"),
                ("nvme9n1/nsid", "1"),
                ("sda/queue/write_cache", "write back"),
            ],
        );
        let link = |to: &str, name: &str| {
            std::os::unix::fs::symlink(dir.path().join(to), disk(name).own.join("device")).unwrap();
        };
        link("nvme7", "nvme7n1");
        link("subsystem", "nvme8n2");
        let found = nvme(&disk("nvme7n1")).unwrap();
        assert_eq!(
            found,
            Nvme {
                controller: Some("nvme7".into()),
                namespace: Some(1),
                transport: Some("pcie".into()),
                address: Some("0000:01:00.0".into()),
                state: Some("live".into()),
                volatile_write_cache: Some(true),
            }
        );
        let found = nvme(&disk("nvme8n2")).unwrap();
        assert_eq!(found.controller.as_deref(), Some("nvme8"));
        assert_eq!(found.transport.as_deref(), Some("tcp"));
        assert_eq!((found.address, found.volatile_write_cache), (None, None));
        assert_eq!(nvme(&disk("nvme9n1")), None, "its controller is not told");
        assert_eq!(nvme(&disk("sda")), None);
        assert_eq!(poll_queues(&disk("sda")), None);
    }

    #[test]
    fn every_disk_here_can_be_asked() {
        for name in names(Path::new("/sys/block")) {
            let path = Path::new("/dev").join(&name);
            if path.exists() {
                let h = hardware(&path).expect("it is in /sys");
                assert_eq!(h.partition, None);
                assert_eq!(h.nvme.is_some(), name.starts_with("nvme"));
            }
        }
    }
}
