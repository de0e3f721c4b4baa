//! What callers say to the allocator and what it answers.

use gaur_iodriver::IoError;

use crate::error::{Damage, Error};
use crate::format::geometry::INDEX_LEVELS;
use crate::format::superblock::Superblock;
use crate::format::{BlockNo, Generation, Geometry, Run};

use super::load::Fresh;
use super::pace::DiscardRate;

/// How the allocator works. [`AllocConfig::new`] has sensible values.
#[derive(Clone, Debug)]
pub struct AllocConfig {
    /// The places of the store.
    pub geometry: Geometry,
    /// The store's identity; its low 64 bits are in every block of the map.
    pub store_id: u128,
    /// Bytes of map blocks that may stay in memory. A loaded group takes two
    /// blocks less their headers. Groups that have blocks handed out, or that a
    /// request or a checkpoint is at work on, stay even above this.
    pub map_memory: usize,
    /// Blocks in a run of the channel, at most; at least 1.
    pub run_blocks: u32,
    /// Runs that wait in the channel, at most; at least 1.
    pub channel_runs: usize,
    /// The thread refills the channel when no more than this many runs wait.
    pub low_watermark: usize,
    /// Blocks that [`Urgency::Normal`] leaves: for deletes, checkpoints and replay.
    pub reserve_blocks: u64,
    /// Whether blocks are discarded before they are free again. Has no effect on
    /// a device that cannot discard.
    pub discard: bool,
    /// How fast they are.
    pub discard_rate: DiscardRate,
    /// Whether the device may be told what is free at all: not a file that is to
    /// keep its space.
    pub may_discard: bool,
    /// Map I/Os in flight, at most; at least 1.
    pub depth: u32,
    /// For experiments: each extent goes to the next group, which is read if need be.
    /// So the map is used as in a store whose groups are nearly full.
    pub spread: bool,
    /// For `gaur experiment cow`.
    #[cfg(feature = "experiment-cow")]
    pub experiment: crate::experiment::Experiment,
}

impl AllocConfig {
    /// The usual values for a store.
    pub fn new(geometry: Geometry, store_id: u128) -> Self {
        Self {
            geometry,
            store_id,
            map_memory: 64 << 20,
            run_blocks: 16,
            channel_runs: 64,
            low_watermark: 32,
            reserve_blocks: (geometry.capacity / 64).clamp(128, 16_384),
            discard: false,
            discard_rate: DiscardRate::default(),
            may_discard: true,
            depth: 32,
            spread: false,
            #[cfg(feature = "experiment-cow")]
            experiment: crate::experiment::Experiment::default(),
        }
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        let bad = |name, detail: String| Err(Error::BadOption { name, detail });
        if self.run_blocks == 0 || self.channel_runs == 0 || self.depth == 0 {
            return bad(
                "run_blocks, channel_runs, depth",
                "each must be at least 1".into(),
            );
        }
        if self.low_watermark >= self.channel_runs {
            return bad(
                "low_watermark",
                format!("must be below channel_runs ({})", self.channel_runs),
            );
        }
        if self.geometry.index_count(INDEX_LEVELS) != 1 {
            return bad(
                "capacity",
                format!(
                    "at most {} blocks under one map",
                    self.geometry.fanout().pow(INDEX_LEVELS) * self.geometry.group_blocks()
                ),
            );
        }
        Ok(())
    }
}

/// Names the map's root index block: the superblock's `map_*` fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MapRoot {
    /// Slot (0 or 1) of the root index block.
    pub slot: u32,
    /// Whether the whole map was never written.
    pub untouched: bool,
    /// Generation of the root index block.
    pub generation: Generation,
    /// Checksum of the root index block.
    pub checksum: u64,
    /// Blocks the map says are free, in the whole store.
    pub free: u64,
}

impl MapRoot {
    /// The map of a store just formatted.
    pub fn fresh(geometry: &Geometry) -> Self {
        let free = Fresh::new(geometry).map(|f| u64::from(f.free));
        Self {
            untouched: true,
            free: free.sum(),
            ..Self::default()
        }
    }

    /// From a superblock.
    pub fn of(sb: &Superblock) -> Self {
        Self {
            slot: sb.map_slot,
            untouched: sb.map_untouched == 1,
            generation: Generation(sb.map_generation),
            checksum: sb.map_checksum,
            free: sb.map_free,
        }
    }

    /// Into a superblock.
    pub fn put(&self, sb: &mut Superblock) {
        sb.map_slot = self.slot;
        sb.map_untouched = u32::from(self.untouched);
        sb.map_generation = self.generation.0;
        sb.map_checksum = self.checksum;
        sb.map_free = self.free;
    }
}

/// A wish for blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// How many, exactly; at least 1.
    pub blocks: u32,
    /// In what pieces.
    pub shape: Shape,
    /// Near which block; 0: no matter.
    pub hint: BlockNo,
    /// Whether the reserve may be used.
    pub urgency: Urgency,
}

/// In what pieces blocks are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Any runs.
    Nodes,
    /// As few contiguous pieces as possible, the largest first. No piece crosses
    /// a group, so none is longer than a group.
    Extent {
        /// At most so many; at least 1.
        max_pieces: usize,
    },
}

/// Whether the reserve may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// Leave [`AllocConfig::reserve_blocks`] free.
    Normal,
    /// Leave a quarter of the reserve: for what frees space.
    Freeing,
    /// Take the last block too: for checkpoints and replay.
    Reserve,
}

/// What a generation did, reported when it is frozen. Runs in any order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Blocks handed out that the generation uses.
    pub used: Vec<Run>,
    /// Blocks the generation no longer uses: used by an older one, or also in
    /// `used`, if born and freed within it.
    pub freed: Vec<Run>,
}

/// Why there are no blocks.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SpaceError {
    /// Not enough is free. With `free >= needed`: not in so few pieces.
    #[error("{needed} block(s) needed, {free} free")]
    Full {
        /// Blocks wanted.
        needed: u64,
        /// Blocks free for this urgency.
        free: u64,
    },
    /// Not now, but probably once this generation is released.
    #[error("{needed} block(s) needed, {free} free; more after generation {generation}")]
    AfterGeneration {
        /// The generation to wait for.
        generation: Generation,
        /// Blocks wanted.
        needed: u64,
        /// Blocks free for this urgency.
        free: u64,
    },
    /// The map block with the last free blocks could not be read.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The map block with the last free blocks is damaged.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The allocator was shut down, or failed.
    #[error("the allocator has stopped")]
    Stopped,
}

impl From<SpaceError> for Error {
    fn from(e: SpaceError) -> Self {
        match e {
            SpaceError::Full { needed, free }
            | SpaceError::AfterGeneration { needed, free, .. } => Self::Full {
                needed,
                free,
                pinned: 0,
            },
            SpaceError::Io(e) => Self::Io(e),
            SpaceError::Damaged(d) => Self::Damaged(d),
            SpaceError::Stopped => Self::Stopped("the allocator has stopped".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_refused() {
        let good = AllocConfig::new(Geometry::new(4096, 1 << 30, 1000), 1);
        good.check().unwrap();
        type Change = fn(&mut AllocConfig);
        let bad: [(Change, &str); 5] = [
            (|c| c.run_blocks = 0, "run_blocks, channel_runs, depth"),
            (|c| c.channel_runs = 0, "run_blocks, channel_runs, depth"),
            (|c| c.depth = 0, "run_blocks, channel_runs, depth"),
            (|c| c.low_watermark = c.channel_runs, "low_watermark"),
            (
                |c| c.geometry = Geometry::new(4096, 1 << 60, 1000),
                "capacity",
            ),
        ];
        for (change, option) in bad {
            let mut config = good.clone();
            change(&mut config);
            let e = config.check().unwrap_err();
            assert!(
                matches!(&e, Error::BadOption { name, .. } if *name == option),
                "{e}"
            );
        }
    }

    #[test]
    fn a_space_error_is_the_stores() {
        let full = SpaceError::AfterGeneration {
            generation: Generation::first(1),
            needed: 8,
            free: 3,
        };
        assert!(matches!(
            Error::from(full),
            Error::Full {
                needed: 8,
                free: 3,
                pinned: 0
            }
        ));
        let io = IoError::new(gaur_iodriver::IoErrorKind::Failed, "read", 0, 512, "lost");
        assert!(matches!(Error::from(SpaceError::Io(io)), Error::Io(e) if e.detail == "lost"));
        let damage = Damage::new("map block", 7, "checksum differs");
        let e = Error::from(SpaceError::Damaged(damage.clone()));
        assert!(matches!(e, Error::Damaged(d) if d == damage));
        assert!(matches!(
            Error::from(SpaceError::Stopped),
            Error::Stopped(_)
        ));
    }
}
