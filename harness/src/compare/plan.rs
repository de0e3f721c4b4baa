//! What is to be compared.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::rows::{ROWS, Row, Stage};
use super::wire::Job;
use crate::memory;
use crate::subject::peers::Peer;

/// How many times the cache a cold store takes.
pub(crate) const COLD: u64 = 8;
/// Our store's file: this many times what is put in.
const FILE: u64 = 4;
/// The least that a file gets.
const LEAST_FILE: u64 = 4 << 30;

/// Whose figures they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Engine {
    /// Ours.
    Gaur,
    /// The device by itself.
    Device,
    /// Another.
    #[serde(untagged)]
    Peer(Peer),
}

impl Engine {
    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gaur => "gaur",
            Self::Peer(peer) => peer.name(),
            Self::Device => "device",
        }
    }
}

/// All that decides what is done.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Plan {
    pub(crate) engines: Vec<Engine>,
    /// Names of the rows.
    pub(crate) rows: Vec<String>,
    pub(crate) records: u64,
    pub(crate) key_bytes: usize,
    pub(crate) value_bytes: usize,
    pub(crate) cache: u64,
    /// The cache of the cold stage, whose store is eight times as large.
    pub(crate) cold_cache: u64,
    pub(crate) interval: Duration,
    pub(crate) rounds: u32,
    /// How long a row by time takes.
    pub(crate) seconds: f64,
    pub(crate) seed: u64,
}

impl Plan {
    /// The rows wanted.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &'static Row> + '_ {
        ROWS.iter()
            .filter(|row| self.rows.iter().any(|name| name == row.name))
    }

    /// The stages with a row that is wanted.
    pub(crate) fn stages(&self) -> Vec<Stage> {
        [Stage::Cached, Stage::Table, Stage::Cold]
            .into_iter()
            .filter(|stage| self.rows().any(|row| row.stage == *stage))
            .collect()
    }

    /// Records of the cold store.
    pub(crate) fn cold_records(&self) -> u64 {
        COLD * self.cold_cache / (self.key_bytes + self.value_bytes) as u64
    }

    /// The most memory that a process of the cold stage may have.
    ///
    /// Who promises a bound is held to it, and LMDB, whose cache is the page cache, is
    /// given as much. The others count no write buffers, no page cache and no
    /// overhead in their budget: they get twice as much.
    fn limit(&self, engine: Engine) -> u64 {
        match engine {
            Engine::Peer(Peer::Lmdb) | Engine::Gaur | Engine::Device => {
                memory::bound(self.cold_cache)
            }
            Engine::Peer(_) => 2 * self.cold_cache,
        }
    }

    /// What a child is told, but for the place.
    pub(crate) fn job(&self, engine: Engine, stage: Stage, round: u32) -> Job {
        let cold = stage == Stage::Cold;
        let records = if cold {
            self.cold_records()
        } else {
            self.records
        };
        let bytes = records * (self.key_bytes + self.value_bytes) as u64;
        Job {
            engine,
            stage,
            round,
            path: PathBuf::new(),
            device: None,
            file_bytes: (bytes * FILE).max(LEAST_FILE),
            records,
            key_bytes: self.key_bytes,
            value_bytes: self.value_bytes,
            cache: if cold { self.cold_cache } else { self.cache },
            limit: cold.then(|| self.limit(engine)),
            interval: self.interval,
            seconds: self.seconds,
            rows: self
                .rows()
                .filter(|row| row.stage == stage)
                .map(|row| row.name.to_owned())
                .collect(),
            seed: self.seed.wrapping_add(u64::from(round)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_have_one_name_everywhere() {
        let all = [Engine::Gaur, Engine::Device]
            .into_iter()
            .chain(Peer::ALL.map(Engine::Peer));
        for engine in all {
            let text = serde_json::to_string(&engine).unwrap();
            assert_eq!(text, format!("{:?}", engine.name()));
            assert_eq!(serde_json::from_str::<Engine>(&text).unwrap(), engine);
        }
    }
}
