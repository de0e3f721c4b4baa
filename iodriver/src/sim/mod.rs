//! The `sim` driver: a disk in memory that does, when told to, everything a real
//! one may do.
//!
//! What must hold: the same seed and the same sequence of calls give the same
//! results and the same contents. (Latency is real time; with latencies, or with
//! several threads, the sequence is not the same twice.)
//!
//! The disk has stable storage and a volatile cache. A write lands in the cache,
//! a durable one in stable storage; a flush moves what was complete when it was
//! submitted. A power cut keeps of the cache, and of writes in flight, any part,
//! sector by sector: each sector is left as it was at the last flush or as any
//! write since then made it.

mod core;
mod cut;
mod device;
mod fault;
mod media;
mod queue;

use std::sync::Arc;

use rand::RngExt;

use crate::contract::Device;
use crate::latency::LatencyProfile;
use crate::sync::rng::{Rng, seeded};

use self::core::Core;
pub use cut::Cut;
pub use fault::{Fault, FaultKind, OpKind};

/// What discarded blocks read as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DiscardFill {
    /// As before: the disk ignores discards.
    Keep,
    /// Zeroes.
    Zero,
    /// Random bytes: the contract promises nothing, and neither does this.
    #[default]
    Garbage,
}

/// What a power cut keeps of writes since the last flush.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CrashMode {
    /// None of them.
    Nothing,
    /// All of them, those in flight included.
    Everything,
    /// Of each sector on its own, with this probability, any one version.
    Sectors {
        /// Between 0 and 1.
        keep: f64,
    },
    /// Whole writes, each with this probability; those in flight are torn.
    Writes {
        /// Between 0 and 1.
        keep: f64,
    },
}

impl CrashMode {
    /// A mode drawn at random, the extremes included: a mix alone would hardly
    /// ever keep everything or nothing.
    fn draw(rng: &mut Rng) -> Self {
        let keep = [0.1, 0.5, 0.9][rng.random_range(0..3)];
        match rng.random_range(0..10) {
            0 => Self::Nothing,
            1 => Self::Everything,
            2..6 => Self::Sectors { keep },
            _ => Self::Writes { keep },
        }
    }
}

/// What a simulated disk is like.
#[derive(Clone, Debug, PartialEq)]
pub struct SimOptions {
    /// Bytes; a multiple of the logical block.
    pub capacity: u64,
    /// The sector: 512 or 4096.
    pub logical_block: u32,
    /// The largest unit that a power cut may tear. If larger than the sector, a
    /// write of a part of it may spoil the rest in a power cut.
    pub physical_block: u32,
    /// Alignment that buffers need.
    pub memory_align: u32,
    /// Everything random comes from this.
    pub seed: u64,
    /// Without, writes are stable when they complete.
    pub volatile_cache: bool,
    /// When unflushed writes take more than this, the disk flushes by itself.
    pub cache_bytes: u64,
    /// Unit of discard; 0: none.
    pub discard_granularity: u32,
    /// What discarded blocks read as.
    pub discard_fill: DiscardFill,
    /// Carry out what is ready at the same time in random order.
    pub reorder: bool,
    /// Behave as a file: not a block device, and it can grow.
    pub file: bool,
    /// How long operations take.
    pub latency: LatencyProfile,
}

impl Default for SimOptions {
    fn default() -> Self {
        Self {
            capacity: 64 << 20,
            logical_block: 4096,
            physical_block: 4096,
            memory_align: 512,
            seed: 0,
            volatile_cache: true,
            cache_bytes: 64 << 20,
            discard_granularity: 4096,
            discard_fill: DiscardFill::default(),
            reorder: true,
            file: false,
            latency: LatencyProfile::default(),
        }
    }
}

/// What a simulated disk did so far, over all its handles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SimStats {
    /// Reads submitted; also the number of the next one, for [`Fault::at`].
    pub reads: u64,
    /// Writes submitted.
    pub writes: u64,
    /// Flushes submitted.
    pub flushes: u64,
    /// Discards submitted.
    pub discards: u64,
    /// Growths asked for.
    pub grows: u64,
    /// Times the size was asked for again.
    pub refreshes: u64,
    /// Bytes of the reads.
    pub read_bytes: u64,
    /// Bytes of the writes.
    pub written_bytes: u64,
    /// Bytes of the discards.
    pub discarded_bytes: u64,
    /// Writes and flushes carried out: what [`SimDisk::crash_after`] counts.
    pub events: u64,
    /// Operations that ended with an error.
    pub failed: u64,
    /// Short transfers that the driver completed.
    pub short: u64,
    /// EAGAIN that the driver repeated.
    pub again: u64,
    /// Sector versions that a power cut could lose now.
    pub unflushed: u64,
    /// Bytes of memory that stable storage takes.
    pub resident_bytes: u64,
    /// Whether the power is on.
    pub powered: bool,
}

impl SimStats {
    /// Counts a call and returns its number.
    fn count(&mut self, kind: OpKind, len: u64) -> u64 {
        let (calls, bytes) = match kind {
            OpKind::Read => (&mut self.reads, Some(&mut self.read_bytes)),
            OpKind::Write => (&mut self.writes, Some(&mut self.written_bytes)),
            OpKind::Flush => (&mut self.flushes, None),
            OpKind::Discard => (&mut self.discards, Some(&mut self.discarded_bytes)),
            OpKind::Grow => (&mut self.grows, None),
            OpKind::Refresh => (&mut self.refreshes, None),
        };
        if let Some(bytes) = bytes {
            *bytes += len;
        }
        *calls += 1;
        *calls - 1
    }

    /// The number that the next call of a kind gets.
    pub fn next(&self, kind: OpKind) -> u64 {
        match kind {
            OpKind::Read => self.reads,
            OpKind::Write => self.writes,
            OpKind::Flush => self.flushes,
            OpKind::Discard => self.discards,
            OpKind::Grow => self.grows,
            OpKind::Refresh => self.refreshes,
        }
    }
}

/// A simulated disk. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct SimDisk {
    core: Arc<Core>,
}

impl SimDisk {
    /// A disk of zeroes. One of any size costs only what is written to it.
    ///
    /// # Panics
    /// If the options contradict each other (blocks that are no powers of two, a
    /// capacity that is no multiple of them): a test's own mistake.
    pub fn new(options: SimOptions) -> Self {
        let (logical, physical) = (options.logical_block, options.physical_block);
        assert!(
            logical.is_power_of_two() && (512..=4096).contains(&logical),
            "the logical block is 512 to 4096 bytes, not {logical}"
        );
        assert!(
            physical.is_power_of_two() && physical >= logical,
            "the physical block is a power of two not below the logical one, not {physical}"
        );
        assert!(
            options.capacity.is_multiple_of(u64::from(logical)),
            "the capacity is a multiple of the logical block"
        );
        Self {
            core: Arc::new(Core::new(options, None)),
        }
    }

    /// A handle to the disk, with counters of its own.
    pub fn device(&self) -> Arc<dyn Device> {
        Arc::new(device::SimDevice::new(self.core.clone()))
    }

    /// Cuts the power, if it is still on, and gives the disk as it comes up
    /// again, with everything the seed decides. The old disk's handles fail from
    /// now on. May be called again with another seed for another outcome of the
    /// same power cut.
    pub fn crash(&self, seed: u64) -> Self {
        let mut rng = seeded(seed);
        let mode = CrashMode::draw(&mut rng);
        self.crash_with_rng(mode, &mut rng)
    }

    /// As [`SimDisk::crash`], with the mode chosen.
    pub fn crash_with(&self, mode: CrashMode, seed: u64) -> Self {
        self.crash_with_rng(mode, &mut seeded(seed))
    }

    fn crash_with_rng(&self, mode: CrashMode, rng: &mut Rng) -> Self {
        self.core.power_off();
        Self {
            core: Arc::new(self.core.after_power_cut(mode, rng)),
        }
    }

    /// Has the power fail at the `n`-th write or flush from now on (1: the next).
    /// Those before it are carried out; it is not, except that a write may come
    /// out torn; it and all further I/O fails with "power is off". The disk is
    /// then to be had with [`SimDisk::crash`].
    pub fn crash_after(&self, n: u64) {
        self.core.crash_after(n);
    }

    /// Keeps from now on what a power cut would find, at each write and flush. The
    /// disk goes on. Copies share memory: a cut costs what changed since the last.
    pub fn record_cuts(&self) {
        self.core.with(|s| {
            s.cuts.get_or_insert_default();
        });
    }

    /// The cuts recorded so far, and no more of them.
    pub fn take_cuts(&self) -> Vec<Cut> {
        self.core.with(|s| s.cuts.take().unwrap_or_default())
    }

    /// Each cut recorded from now on carries this number, or a greater one set before.
    pub fn mark(&self, mark: u64) {
        self.core.with(|s| s.mark = s.mark.max(mark));
    }

    /// The greatest number that [`SimDisk::mark`] was given.
    pub fn marked(&self) -> u64 {
        self.core.with(|s| s.mark)
    }

    /// Cuts the power now.
    pub fn power_off(&self) {
        self.core.power_off();
    }

    /// Whether the power is on.
    pub fn is_powered(&self) -> bool {
        self.core.with(|s| s.powered)
    }

    /// A copy of the disk as reads see it, all of it stable, with the power on.
    pub fn snapshot(&self) -> Self {
        Self {
            core: Arc::new(self.core.snapshot()),
        }
    }

    /// A number that two disks with the same contents (as reads see them) share.
    pub fn image_hash(&self) -> u64 {
        self.core.with(|s| s.media.hash())
    }

    /// Reads past all faults, latencies and counters, with the power off too.
    /// Offset and length are multiples of the logical block.
    pub fn peek(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.core.with(|s| s.media.read(offset, &mut bytes));
        bytes
    }

    /// Bit rot: flips one bit (0 to 7) of one byte, for good.
    pub fn flip_bit(&self, offset: u64, bit: u8) {
        self.core
            .damage(offset, 1, |bytes, _| bytes[0] ^= 1 << (bit % 8));
    }

    /// Overwrites a range with random bytes, for good.
    pub fn corrupt(&self, offset: u64, len: u64) {
        self.core.damage(offset, len, |bytes, rng| rng.fill(bytes));
    }

    /// Overwrites a range behind everyone's back, for good: to put an old copy of
    /// a block back, say.
    pub fn poke(&self, offset: u64, bytes: &[u8]) {
        self.core.damage(offset, bytes.len() as u64, |to, _| {
            to.copy_from_slice(bytes);
        });
    }

    /// Adds a fault. Where several meet the same call the newest counts.
    pub fn inject(&self, fault: Fault) {
        self.core.inject(fault);
    }

    /// Adds a fault at the next call of a kind.
    pub fn inject_next(&self, op: OpKind, what: FaultKind) {
        self.core.inject_next(op, what);
    }

    /// Takes all faults away; what is stalled stays so.
    pub fn clear_faults(&self) {
        self.core.clear_faults();
    }

    /// Lets all operations that are stalled now go on.
    pub fn release_stalls(&self) {
        self.core.release_stalls();
    }

    /// Sets how long operations take that start from now on. For one handle
    /// only, see [`Delayed`](crate::Delayed).
    pub fn set_latency(&self, latency: LatencyProfile) {
        self.core.with(|s| s.options.latency = latency);
    }

    /// Sets the size, as somebody enlarging a logical volume does. The handles
    /// see it when they refresh.
    pub fn set_capacity(&self, capacity: u64) {
        self.core.with(|s| s.capacity = capacity);
    }

    /// What the disk did so far.
    pub fn stats(&self) -> SimStats {
        self.core.with(|s| SimStats {
            unflushed: s.media.cached() as u64,
            resident_bytes: s.media.resident(),
            powered: s.powered,
            ..s.stats
        })
    }
}
