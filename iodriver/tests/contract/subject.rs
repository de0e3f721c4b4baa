//! What a case runs on: an open device and what must outlive it.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use std::time::Duration;

use gaur_iodriver::{
    Delayed, Device, DriverChoice, Latency, LatencyProfile, OpenOptions, SimDisk, SimOptions, open,
};

use crate::loopdev::LoopDevice;

pub(crate) const MIB: u64 = 1 << 20;

/// An open device; the fields drop in order, the device first.
pub(crate) struct Subject {
    pub(crate) device: Arc<dyn Device>,
    loop_device: Option<LoopDevice>,
    /// The file below.
    backing: Option<PathBuf>,
    _dir: Option<tempfile::TempDir>,
}

fn driver(name: &str) -> Option<DriverChoice> {
    if name == "psync" {
        return Some(DriverChoice::Psync);
    }
    Some(DriverChoice::Uring)
}

impl Subject {
    fn on(disk: &SimDisk) -> Option<Self> {
        Some(Self {
            device: disk.device(),
            loop_device: None,
            backing: None,
            _dir: None,
        })
    }

    pub(crate) fn sim(sector: u32) -> Option<Self> {
        Self::on(&SimDisk::new(SimOptions {
            capacity: 32 * MIB,
            logical_block: sector,
            ..SimOptions::default()
        }))
    }

    pub(crate) fn slow_sim() -> Option<Self> {
        Self::on(&SimDisk::new(SimOptions {
            capacity: 32 * MIB,
            latency: LatencyProfile::all(Latency {
                fixed: Duration::from_micros(20),
                jitter: Duration::from_micros(100),
            }),
            ..SimOptions::default()
        }))
    }

    /// Bytes that the file below takes, if there is one.
    pub(crate) fn space_taken(&self) -> Option<u64> {
        let metadata = std::fs::metadata(self.backing.as_ref()?).expect("it is there");
        Some(metadata.blocks() * 512)
    }

    /// How many flushes the disk below has seen; known of loop devices.
    pub(crate) fn flushes_seen(&self) -> Option<u64> {
        let name = self.loop_device.as_ref()?.path().file_name()?;
        let stat = std::path::Path::new("/sys/block").join(name).join("stat");
        let text = std::fs::read_to_string(stat).ok()?;
        text.split_ascii_whitespace().nth(15)?.parse().ok()
    }

    /// The same, slower.
    pub(crate) fn delayed(mut self) -> Self {
        self.device = Delayed::new(self.device, Duration::from_micros(300));
        self
    }

    pub(crate) fn file(name: &str, sparse: bool) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let options = OpenOptions {
            create: Some(32 * MIB),
            sparse,
            driver: driver(name)?,
            ..OpenOptions::default()
        };
        let opened = match open(dir.path().join("file"), &options) {
            Ok(opened) => opened,
            Err(e) if e.detail.contains("no uring driver") => {
                println!("skipped: {e}");
                return None;
            }
            Err(e) => panic!("{e}"),
        };
        assert_eq!(opened.device.driver(), name);
        Some(Self {
            device: opened.device,
            loop_device: None,
            backing: Some(dir.path().join("file")),
            _dir: Some(dir),
        })
    }

    pub(crate) fn loop_device(name: &str, sector: u32) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let image = dir.path().join("image");
        let file = std::fs::File::create(&image).expect("an image");
        file.set_len(32 * MIB).expect("an image's size");
        drop(file);
        let loop_device = match LoopDevice::attach(&image, sector, &[]) {
            Ok(device) => device,
            Err(reason) => {
                println!("skipped: {reason}");
                return None;
            }
        };
        let options = OpenOptions {
            driver: driver(name)?,
            ..OpenOptions::default()
        };
        let opened = match open(loop_device.path(), &options) {
            Ok(opened) => opened,
            Err(e) if e.detail.contains("no uring driver") => {
                println!("skipped: {e}");
                return None;
            }
            Err(e) => panic!("{e}"),
        };
        assert_eq!(opened.device.driver(), name);
        assert!(opened.geometry.is_block_device);
        assert!(opened.geometry.direct);
        assert_eq!(opened.geometry.logical_block, sector);
        assert_eq!(opened.geometry.capacity, 32 * MIB);
        Some(Self {
            device: opened.device,
            loop_device: Some(loop_device),
            backing: Some(image),
            _dir: Some(dir),
        })
    }
}
