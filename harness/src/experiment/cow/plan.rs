//! Which cells there are, and in what order they run.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

/// How a node that must be copied gets its new block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    /// Reserved under the latches of the path, I/O included.
    Inline,
    /// Reserved with nothing held, by the writer itself.
    TwoStage,
    /// Reserved ahead, by the allocator thread: the engine as it is used.
    TwoStageThread,
}

impl Mode {
    pub(crate) const ALL: [Self; 3] = [Self::Inline, Self::TwoStage, Self::TwoStageThread];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Inline => "inline",
            Self::TwoStage => "two-stage",
            Self::TwoStageThread => "two-stage+thread",
        }
    }
}

/// All that the modes are compared in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Setting {
    /// Whether there are checkpoints meanwhile.
    pub(crate) checkpoints: bool,
    /// Whether map blocks must be read from the device.
    pub(crate) cold_map: bool,
    /// Added to each I/O of the store.
    #[serde(rename = "latency_us", serialize_with = "micros")]
    pub(crate) latency: Duration,
    pub(crate) writers: usize,
}

fn micros<S: serde::Serializer>(d: &Duration, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_u64(d.as_micros() as u64)
}

impl Setting {
    /// All but the writers.
    pub(crate) fn kind(&self) -> (bool, bool, Duration) {
        (self.checkpoints, self.cold_map, self.latency)
    }

    pub(crate) fn map(&self) -> &'static str {
        if self.cold_map { "cold" } else { "warm" }
    }

    pub(crate) fn checkpointed(&self) -> &'static str {
        if self.checkpoints { "yes" } else { "no" }
    }

    pub(crate) fn latency(&self) -> String {
        match self.latency {
            Duration::ZERO => "0".to_owned(),
            d => humantime::format_duration(d).to_string(),
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} writers, {} map, +{}, checkpoints: {}",
            self.writers,
            self.map(),
            self.latency(),
            self.checkpointed()
        )
    }
}

/// One mode in one setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Cell {
    #[serde(flatten)]
    pub(crate) setting: Setting,
    pub(crate) mode: Mode,
}

/// What is to be measured, and on what.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Plan {
    pub(crate) path: PathBuf,
    /// A device, which must be there, and not a file, which must not.
    pub(crate) device: bool,
    /// Overwrite what the device holds.
    pub(crate) force: bool,
    /// Bytes of a file.
    pub(crate) size: u64,
    /// Seconds for each cell.
    pub(crate) seconds: f64,
    pub(crate) rounds: usize,
    pub(crate) seed: u64,
    pub(crate) records: u64,
    /// Free blocks that each group of the map has, as the writers see it.
    pub(crate) blocks_per_group: u32,
    /// Puts a second by all writers together; none: as fast as they can.
    pub(crate) rate: Option<f64>,
    pub(crate) writers: Vec<usize>,
    pub(crate) cold_map: Vec<bool>,
    pub(crate) latencies: Vec<Duration>,
    pub(crate) checkpoints: Vec<bool>,
    #[serde(skip)]
    pub(crate) json: Option<PathBuf>,
    #[serde(skip)]
    pub(crate) plots: Option<PathBuf>,
}

impl Plan {
    /// All settings, sorted as they are reported.
    pub(crate) fn settings(&self) -> Vec<Setting> {
        let mut all = Vec::new();
        for &checkpoints in &self.checkpoints {
            for &cold_map in &self.cold_map {
                for &latency in &self.latencies {
                    for &writers in &self.writers {
                        all.push(Setting {
                            checkpoints,
                            cold_map,
                            latency,
                            writers,
                        });
                    }
                }
            }
        }
        all.sort_unstable();
        all.dedup();
        all
    }

    /// All cells with their rounds, in the order in which they run. Each round has
    /// every cell once. Settings come in random order; the modes of one directly after
    /// each other, in random order too, so that what drifts touches them alike.
    pub(crate) fn order(&self) -> Vec<(usize, Cell)> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let mut all = Vec::new();
        for round in 0..self.rounds {
            let mut settings = self.settings();
            settings.shuffle(&mut rng);
            for setting in settings {
                let mut modes = Mode::ALL;
                modes.shuffle(&mut rng);
                all.extend(modes.map(|mode| (round, Cell { setting, mode })));
            }
        }
        all
    }

    /// How long the cells take, without what is between them.
    pub(crate) fn measured(&self) -> Duration {
        let cells = self.settings().len() * Mode::ALL.len() * self.rounds;
        Duration::from_secs_f64(cells as f64 * self.seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(seed: u64) -> Plan {
        Plan {
            path: PathBuf::new(),
            device: false,
            force: false,
            size: 0,
            seconds: 1.5,
            rounds: 3,
            seed,
            records: 1,
            blocks_per_group: 1,
            rate: None,
            writers: vec![16, 1, 4, 1],
            cold_map: vec![false, true],
            latencies: vec![Duration::ZERO, Duration::from_millis(1)],
            checkpoints: vec![true],
            json: None,
            plots: None,
        }
    }

    #[test]
    fn each_round_has_every_cell_once_and_modes_are_together() {
        let plan = plan(7);
        assert_eq!(plan.settings().len(), 3 * 2 * 2);
        let order = plan.order();
        assert_eq!(order.len(), 3 * 12 * 3);
        assert_eq!(plan.measured(), Duration::from_secs_f64(108.0 * 1.5));
        for round in 0..3 {
            let mut cells: Vec<Cell> = order.iter().filter(|c| c.0 == round).map(|c| c.1).collect();
            for three in cells.chunks(3) {
                assert!(three.iter().all(|c| c.setting == three[0].setting));
            }
            let shuffled = cells.clone();
            cells.sort_unstable();
            assert_ne!(cells, shuffled);
            cells.dedup();
            assert_eq!(cells.len(), 36);
        }
        assert!(order.is_sorted_by_key(|c| c.0));
    }

    #[test]
    fn the_seed_decides_the_order() {
        assert_eq!(plan(1).order(), plan(1).order());
        assert_ne!(plan(1).order(), plan(2).order());
    }
}
