//! Space given back: by an open store, by `trim`, and at format.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gaur::{Durability, OpenOptions, Store, WriteBatch};

use super::common::{LoopDevice, Place};

const MIB: u64 = 1 << 20;
/// A little more than the records of [`fill`] take.
const MUCH: u64 = 24 * MIB;

fn options(discard: bool) -> OpenOptions {
    OpenOptions {
        discard,
        cache_bytes: 16 << 20,
        ..OpenOptions::default()
    }
}

/// Puts records of 24 MiB in all.
fn fill(path: &Path) {
    let store = Store::open(path, &options(false)).expect("opened");
    let tree = store.tree("default").expect("a tree");
    for n in 0..200u32 {
        tree.put_with(
            format!("large-{n}").as_bytes(),
            &vec![n as u8 | 1; 100 << 10],
            Durability::Buffered,
        )
        .expect("put");
        let mut batch = WriteBatch::new();
        for i in 0..50u32 {
            batch.put(&tree, format!("{n}-{i}").as_bytes(), &[n as u8; 400]);
        }
        store.commit(batch, Durability::Buffered).expect("commit");
    }
    store.close().expect("closed");
}

/// Deletes them all.
fn empty(path: &Path, discard: bool) -> Vec<String> {
    let store = Store::open(path, &options(discard)).expect("opened");
    let tree = store.tree("default").expect("a tree");
    let keys: Vec<Vec<u8>> = tree
        .iter()
        .expect("a scan")
        .map(|r| r.expect("a record").0)
        .collect();
    for some in keys.chunks(100) {
        let mut batch = WriteBatch::new();
        for key in some {
            batch.delete(&tree, key);
        }
        store.commit(batch, Durability::Buffered).expect("commit");
    }
    // The second frees what the first one's map still needed.
    store.checkpoint().expect("a checkpoint");
    store.checkpoint().expect("a checkpoint");
    let end = Instant::now() + Duration::from_secs(60);
    let left = || {
        let stats = store.stats();
        let get = |name| stats.get("discard", name).expect("a row");
        get("waiting_blocks") + get("in_flight_blocks")
    };
    while left() > 0 {
        assert!(Instant::now() < end, "{} blocks are not discarded", left());
        std::thread::sleep(Duration::from_millis(5));
    }
    let notes = store.notes();
    store.close().expect("closed");
    notes
}

/// Where a store is, and the file that shows how much space it takes.
struct Subject {
    place: Place,
    _device: Option<LoopDevice>,
    path: PathBuf,
    below: PathBuf,
}

impl Subject {
    fn file(format: &str) -> Self {
        let place = Place::new();
        place.ok(&format!("format s.store --size 96MiB {format}"));
        Self {
            path: place.path("s.store"),
            below: place.path("s.store"),
            _device: None,
            place,
        }
    }

    fn device() -> Option<Self> {
        let place = Place::new();
        let device = LoopDevice::attach(&place, 4096, 96 * MIB)?;
        place.ok(&format!("format {}", device.name()));
        Some(Self {
            path: device.path().to_owned(),
            below: place.path("image-4096"),
            _device: Some(device),
            place,
        })
    }

    fn sparse_ones() -> Vec<Self> {
        let file = Self::file("--sparse");
        let psync = Self::file("--sparse --driver psync");
        [Some(file), Some(psync), Self::device()]
            .into_iter()
            .flatten()
            .collect()
    }

    fn taken(&self) -> u64 {
        std::fs::metadata(&self.below)
            .expect("it is there")
            .blocks()
            * 512
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn is_sound(&self) {
        let name = self.name();
        assert_eq!(
            self.place.json(&format!("check {name} --json"))["clean"],
            true
        );
    }
}

#[test]
fn an_open_store_gives_back_what_was_deleted() {
    for s in Subject::sparse_ones() {
        fill(&s.path);
        let full = s.taken();
        assert!(full >= MUCH - MIB, "{full}");
        let notes = empty(&s.path, true);
        assert!(!notes.iter().any(|n| n.contains("discard")), "{notes:?}");
        let left = s.taken();
        assert!(left + 16 * MIB <= full, "{full} bytes, then {left}");
        s.is_sound();
    }
}

#[test]
fn a_preallocated_file_keeps_its_space() {
    let s = Subject::file("--driver auto");
    let all = s.taken();
    assert!(all >= 96 * MIB);
    fill(&s.path);
    let notes = empty(&s.path, true);
    assert!(
        notes.iter().any(|n| n.contains("not formatted as sparse")),
        "{notes:?}"
    );
    let e = s.place.refused("trim s.store");
    assert!(e.contains("not formatted as sparse"), "{e}");
    assert!(!e.contains("failed"), "nothing did: {e}");
    assert!(s.taken() >= all);
    // Nor does a format take it away; it says so.
    let made = s.place.json("format s.store --force --discard --json");
    assert_eq!(made["discarded"], 0);
    let note = made["notes"][0].as_str().expect("a note");
    assert!(note.contains("keeps its space"), "{note}");
    assert!(s.taken() >= all);
    s.is_sound();
}

#[test]
fn a_trim_gives_back_what_is_free() {
    for s in Subject::sparse_ones() {
        let name = s.name();
        fill(&s.path);
        empty(&s.path, false);
        let full = s.taken();
        let before = s.place.json(&format!("trim {name} --dry-run --json"));
        assert_eq!(s.taken(), full, "a dry run");
        assert!(before["discarded"].as_u64() > Some(60 * MIB), "{before}");
        let done = s.place.json(&format!("trim {name} --rate 8GiB --json"));
        assert_eq!(done["failures"], 0, "{done}");
        assert_eq!(done["looked_at"], done["size"], "{done}");
        assert!(done["discarded"].as_u64() > Some(60 * MIB), "{done}");
        let left = s.taken();
        assert!(left + 16 * MIB <= full, "{full} bytes, then {left}");
        assert!(s.place.ok(&format!("trim {name}")).contains("discarded"));
        s.is_sound();
    }
}

#[test]
fn format_can_discard_what_was_there() {
    for s in Subject::sparse_ones() {
        let name = s.name();
        fill(&s.path);
        let full = s.taken();
        let sparse = if s.path == s.below {
            "--sparse"
        } else {
            "--force"
        };
        let line = format!("format {name} --discard --json {sparse}");
        if sparse == "--sparse" {
            // Refused, and nothing was touched.
            let e = s.place.refused(&line);
            assert!(e.contains("a gaur store"), "{e}");
            assert_eq!(s.taken(), full);
        }
        let line = line.replace("--force", "");
        let made = s.place.json(&format!("{} --force", line.trim_end()));
        assert!(made["discarded"].as_u64() >= Some(90 * MIB), "{made}");
        let left = s.taken();
        assert!(left + 16 * MIB <= full, "{full} bytes, then {left}");
        s.is_sound();
        s.place.ok(&format!("put {name} k v"));
        assert_eq!(s.place.ok(&format!("get {name} k")), "v\n");
    }
}

#[test]
fn a_run_tells_of_its_discards() {
    let place = Place::new();
    place.file(
        "c.toml",
        "
[store]
path = 'run.store'
size = '128MiB'
sparse = true
discard = true
discard_rate = '2GiB'
checkpoint_interval = '50ms'

[load]
records = 5_000

[run]
operations = 20_000
mix = { update = 1 }

[verify]
check = true
",
    );
    let out = place.ok("run c.toml");
    assert!(out.contains(" discard: "), "{out}");
    assert!(out.contains("blocks skipped"), "{out}");
    assert!(out.contains("limit bytes 2"), "{out}");
    let out = place.ok("run c.toml --set store.discard=false");
    assert!(!out.contains("discard: "), "{out}");
    assert!(!out.contains("limit bytes"), "{out}");
}
