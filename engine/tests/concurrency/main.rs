//! Many threads on one store. Each test is seeded (`GAUR_SEED`, or a fresh seed,
//! which is printed) and bounded in time (`GAUR_SECONDS` for each part, 1 by
//! default). `docs/concurrency.md` says which rule each test guards.

mod batches;
mod hot_tree;
mod limits;
mod memory;
mod own_writes;
mod shape;
mod snapshots;
mod stopping;
mod trees;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use gaur::{DriverChoice, Durability, Error, FormatOptions, OpenOptions, Store, Tree, WriteBatch};
use gaur_iodriver::sim::{Fault, FaultKind, OpKind, SimDisk, SimOptions};
use gaur_iodriver::sync::rng::{self, Rng};
use gaur_iodriver::{Device, IoErrorKind, Latency, LatencyProfile};
use rand::RngExt;

const BUFFERED: Durability = Durability::Buffered;

/// The seed of this run, printed.
fn seed() -> u64 {
    let seed = std::env::var("GAUR_SEED")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or_else(rng::fresh_seed);
    println!("GAUR_SEED={seed}");
    seed
}

fn seconds() -> Duration {
    let s = std::env::var("GAUR_SECONDS").ok();
    Duration::from_secs_f64(s.and_then(|s| s.parse().ok()).unwrap_or(1.0))
}

/// Runs `body` and fails if it does not end: a hang is a failure, not a timeout of
/// the whole suite.
fn within<T: Send + 'static>(limit: u64, body: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, end) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let out = body();
        let _ = done.send(());
        out
    });
    let waited = end.recv_timeout(Duration::from_secs(limit));
    assert!(
        !matches!(waited, Err(mpsc::RecvTimeoutError::Timeout)),
        "still running after {limit} s: hangs"
    );
    match thread.join() {
        Ok(out) => out,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn disk(seed: u64, mib: u64, latency: Duration) -> SimDisk {
    let disk = SimDisk::new(SimOptions {
        capacity: mib << 20,
        seed,
        latency: LatencyProfile::all(Latency {
            fixed: latency,
            jitter: latency,
        }),
        ..SimOptions::default()
    });
    Store::format_device(disk.device(), &FormatOptions::default()).unwrap();
    disk
}

fn options(cache: u64, checkpoint: u64) -> OpenOptions {
    OpenOptions {
        cache_bytes: cache,
        checkpoint_interval: Duration::from_millis(checkpoint),
        ..OpenOptions::default()
    }
}

fn open(device: Arc<dyn Device>, cache: u64, checkpoint: u64) -> Store {
    Store::open_device(device, &options(cache, checkpoint)).unwrap()
}

/// What must hold when nobody works: the account of reservations is exact, and
/// nothing was waited for under a latch.
fn check_account(store: &Store) {
    let stats = store.stats();
    let get = |n| stats.get("reservations", n).unwrap();
    assert_eq!(
        get("taken_from_channel") + get("taken_by_request"),
        get("blocks_used") + get("blocks_returned") + get("blocks_stashed"),
        "taken = used + returned + stashed"
    );
    assert_eq!(stats.get("waits", "under_latch"), Some(0));
}

type Records = Vec<(Vec<u8>, Vec<u8>)>;

/// All records of a walk, checked to be in strict order.
fn walk(tree: &Tree, reverse: bool) -> Result<Records, Error> {
    let scan = tree.iter()?;
    let mut all: Records = if reverse { scan.rev() } else { scan }.collect::<Result<_, _>>()?;
    if reverse {
        all.reverse();
    }
    for pair in all.windows(2) {
        assert!(
            pair[0].0 < pair[1].0,
            "reverse {reverse}: {:?} is followed by {:?}",
            String::from_utf8_lossy(&pair[0].0),
            String::from_utf8_lossy(&pair[1].0)
        );
    }
    Ok(all)
}

fn number(value: &[u8]) -> u64 {
    u64::from_le_bytes(value[..8].try_into().unwrap())
}
