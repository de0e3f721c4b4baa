//! Other engines, behind the same interface as ours. Each is built only if the
//! feature of its name is on.
//!
//! What must hold: a commit that waits for durability is as durable as the engine
//! can make it, no engine compresses, and each is set up as its own documentation
//! advises. What was set, [`Settings`] tells.

#[cfg(feature = "peer-canopydb")]
mod canopydb;
#[cfg(feature = "peer-fjall")]
mod fjall;
#[cfg(feature = "peer-lmdb")]
mod lmdb;
#[cfg(feature = "peer-redb")]
mod redb;
#[cfg(feature = "peer-rocksdb")]
mod rocksdb;

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Subject;
use crate::failure::Failure;

/// An engine of others.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Peer {
    /// LMDB, by `heed`.
    Lmdb,
    /// redb.
    Redb,
    /// fjall.
    Fjall,
    /// canopydb.
    Canopydb,
    /// `RocksDB`.
    Rocksdb,
}

impl Peer {
    /// All of them.
    pub(crate) const ALL: [Self; 5] = [
        Self::Lmdb,
        Self::Redb,
        Self::Fjall,
        Self::Canopydb,
        Self::Rocksdb,
    ];

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lmdb => "lmdb",
            Self::Redb => "redb",
            Self::Fjall => "fjall",
            Self::Canopydb => "canopydb",
            Self::Rocksdb => "rocksdb",
        }
    }

    /// Whether this tool was built with it.
    pub(crate) fn is_built(self) -> bool {
        match self {
            Self::Lmdb => cfg!(feature = "peer-lmdb"),
            Self::Redb => cfg!(feature = "peer-redb"),
            Self::Fjall => cfg!(feature = "peer-fjall"),
            Self::Canopydb => cfg!(feature = "peer-canopydb"),
            Self::Rocksdb => cfg!(feature = "peer-rocksdb"),
        }
    }
}

/// How an engine is opened.
#[derive(Clone, Debug)]
#[allow(dead_code, reason = "unused if no engine is built")]
pub(crate) struct Setup {
    /// The memory for its cache, in bytes.
    pub(crate) cache: u64,
    /// How soon a commit that does not wait is to be durable.
    pub(crate) interval: Duration,
    /// The store is larger than the memory allowed.
    pub(crate) larger_than_memory: bool,
}

/// Name and value of what was set, for those who read the figures.
pub(crate) type Settings = Vec<(&'static str, String)>;

/// Opens this engine's store in a directory, or makes one there.
#[allow(unused_variables, reason = "if no engine is built")]
pub(crate) fn open(
    peer: Peer,
    dir: &Path,
    setup: &Setup,
) -> Result<(Box<dyn Subject>, Settings), Failure> {
    match peer {
        #[cfg(feature = "peer-lmdb")]
        Peer::Lmdb => lmdb::open(dir, setup),
        #[cfg(feature = "peer-redb")]
        Peer::Redb => redb::open(dir, setup),
        #[cfg(feature = "peer-fjall")]
        Peer::Fjall => fjall::open(dir, setup),
        #[cfg(feature = "peer-canopydb")]
        Peer::Canopydb => canopydb::open(dir, setup),
        #[cfg(feature = "peer-rocksdb")]
        Peer::Rocksdb => rocksdb::open(dir, setup),
        #[allow(unreachable_patterns, reason = "unless all are built")]
        other => Err(not_built(other)),
    }
}

/// Refuses an engine that this tool was built without.
pub(crate) fn not_built(peer: Peer) -> Failure {
    let name = peer.name();
    Failure::refused(format!(
        "{name} is not in this build; build with --features peer-{name}, or peers for all but \
         rocksdb: cargo build --release -p gaur-harness --features peers"
    ))
}

/// What an engine said no to.
#[allow(dead_code, reason = "unused if no engine is built")]
fn failed(doing: &str, error: impl std::fmt::Display) -> Failure {
    Failure::refused(format!("cannot {doing}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::config::Durable;
    use crate::subject::{Change, Direction, Session, Work};

    fn setup(larger_than_memory: bool) -> Setup {
        Setup {
            cache: 16 << 20,
            interval: Duration::from_secs(1),
            larger_than_memory,
        }
    }

    fn scan(session: &mut dyn Session, from: &[u8], direction: Direction) -> Vec<String> {
        let mut seen = Vec::new();
        let count = session.scan(from, 3, direction, &mut |key, value| {
            assert_eq!(value, [key, b"!"].concat());
            seen.push(String::from_utf8_lossy(key).into_owned());
        });
        assert_eq!(count.unwrap(), seen.len());
        seen
    }

    /// Each engine that is built does what the interface says, and keeps it.
    #[test]
    fn each_engine_keeps_the_interface() {
        for peer in Peer::ALL.into_iter().filter(|p| p.is_built()) {
            for durability in [Durable::Sync, Durable::Buffered] {
                println!("{} {durability:?}", peer.name());
                let dir = tempfile::tempdir().unwrap();
                let setup = setup(durability == Durable::Sync);
                let (subject, settings) = open(peer, dir.path(), &setup).unwrap();
                assert!(settings.iter().any(|(name, _)| *name == "durable commit"));
                let work = |reads_only| Work {
                    reads_only,
                    durability,
                };
                subject.expect(work(false)).unwrap();
                let mut session = subject.session().unwrap();
                let values = ["a", "c", "e", "g"].map(|k| (k, format!("{k}!")));
                let puts: Vec<_> = values
                    .iter()
                    .map(|(k, v)| Change::Put(k.as_bytes(), v.as_bytes()))
                    .collect();
                session.commit(&puts[..1], durability).unwrap();
                session.commit(&puts[1..], durability).unwrap();
                session.commit(&[Change::Delete(b"c")], durability).unwrap();
                // Gone already: no matter.
                session.commit(&[Change::Delete(b"c")], durability).unwrap();
                assert!(!session.get(b"c", &mut |_| panic!("gone")).unwrap());
                drop(session);
                subject.close().unwrap();

                let (mut subject, _) = open(peer, dir.path(), &setup).unwrap();
                subject.expect(work(true)).unwrap();
                let mut session = subject.session().unwrap();
                let mut found: Vec<u8> = Vec::new();
                assert!(session.get(b"e", &mut |v| found.extend(v)).unwrap());
                assert_eq!(found, b"e!");
                let s = session.as_mut();
                assert_eq!(scan(s, b"", Direction::Forward), ["a", "e", "g"]);
                assert_eq!(scan(s, b"b", Direction::Forward), ["e", "g"]);
                assert_eq!(scan(s, b"f", Direction::Backward), ["e", "a"]);
                drop(session);
                assert!(matches!(subject.len().unwrap(), None | Some(3)));
                assert!(subject.compact().unwrap());
                subject.close().unwrap();
            }
        }
    }

    #[test]
    fn an_engine_that_is_not_built_says_how_to_build_it() {
        for peer in Peer::ALL.into_iter().filter(|p| !p.is_built()) {
            let dir = std::env::temp_dir();
            let Err(e) = open(peer, &dir, &setup(false)) else {
                panic!("{} is not built", peer.name());
            };
            assert!(e.to_string().contains("--features"), "{e}");
        }
    }
}
