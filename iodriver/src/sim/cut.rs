//! What a power cut would have found: the disk goes on, and the cut is made later, as
//! often and in as many ways as wanted.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::RngExt;

use super::core::Core;
use super::media::{InFlight, Media};
use super::{CrashMode, SimDisk, SimOptions};
use crate::sync::rng::{Rng, seeded};

/// A simulated disk at the moment before a write or flush took effect.
#[derive(Clone, Debug)]
pub struct Cut {
    /// Which write or flush, the first being 1; see [`SimStats`](super::SimStats).
    pub event: u64,
    /// Whether it is a flush.
    pub flush: bool,
    /// In which part of the program it was submitted
    /// ([`sync::within`](crate::sync::within)).
    pub site: &'static str,
    /// Whether a fault makes it fail: done in part at most, and told.
    pub fails: bool,
    /// As [`SimDisk::mark`] said last.
    pub mark: u64,
    pub(super) media: Media,
    pub(super) in_flight: BTreeMap<u64, InFlight>,
    pub(super) options: SimOptions,
}

impl Cut {
    /// The disk as it comes up again if the power fails here, with everything the
    /// seed decides; as [`SimDisk::crash`].
    pub fn crash(&self, seed: u64) -> SimDisk {
        let mut rng = seeded(seed);
        let mode = CrashMode::draw(&mut rng);
        self.crash_by(mode, &mut rng)
    }

    /// As [`Cut::crash`], with the mode chosen.
    pub fn crash_with(&self, mode: CrashMode, seed: u64) -> SimDisk {
        self.crash_by(mode, &mut seeded(seed))
    }

    fn crash_by(&self, mode: CrashMode, rng: &mut Rng) -> SimDisk {
        let physical = self.options.physical_block;
        let media = self
            .media
            .after_power_cut(&self.in_flight, physical, mode, rng);
        let options = SimOptions {
            seed: rng.random(),
            ..self.options.clone()
        };
        SimDisk {
            core: Arc::new(Core::new(options, Some(media))),
        }
    }

    /// Sector versions that the power cut may keep or lose.
    pub fn loose(&self) -> usize {
        let sector = u64::from(self.options.logical_block);
        let in_flight = self.in_flight.values().map(|w| (w.len / sector) as usize);
        self.media.cached() + in_flight.sum::<usize>()
    }
}
