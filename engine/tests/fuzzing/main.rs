//! What fuzzing keeps, run again: every input in `fuzz/corpus`, past findings among
//! them, through the functions that the fuzz targets call (`docs/testing.md`).

#[path = "../common/mod.rs"]
mod common;
mod node_image;
mod seeds;
mod targets;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// The inputs kept for a target, by name.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(target);
    let mut found: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect();
    found.sort();
    found
}

/// Panics in any thread so far: one in a thread of the store shows nowhere else.
fn panics() -> &'static AtomicU64 {
    static PANICS: AtomicU64 = AtomicU64::new(0);
    static HOOK: std::sync::Once = std::sync::Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.fetch_add(1, Ordering::SeqCst);
            usual(info);
        }));
    });
    &PANICS
}

/// Runs the inputs of a target; `target` says whether the structure was accepted.
fn run(name: &str, target: fn(&[u8]) -> bool) {
    // One at a time: panics are counted for the whole process.
    static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(|e| e.into_inner());
    let panics = panics();
    let (mut accepted, mut seeds) = (0, 0);
    let all = corpus(name);
    for (path, data) in &all {
        let before = panics.load(Ordering::SeqCst);
        let began = std::time::Instant::now();
        let sound = target(data);
        accepted += usize::from(sound);
        assert_eq!(panics.load(Ordering::SeqCst), before, "{}", path.display());
        let took = began.elapsed();
        assert!(took.as_secs() < 20, "{} took {took:?}", path.display());
        // A seed that is refused at the door teaches the fuzzer nothing.
        if path
            .file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with("seed")
        {
            seeds += 1;
            assert!(sound, "{} is refused", path.display());
        }
    }
    println!(
        "{name}: {} inputs, {accepted} accepted, {seeds} seeds",
        all.len()
    );
    assert!(seeds > 0);
}

#[test]
fn superblocks() {
    run("superblock", targets::superblock);
}

#[test]
fn map_and_index_blocks() {
    run("space", targets::space);
}

#[test]
fn nodes() {
    run("node", targets::node);
}

#[test]
fn log_blocks() {
    run("log", targets::log);
}

/// What makes the seeds still makes seeds that are accepted. With `GAUR_FUZZ_SEEDS` set
/// it writes them into the corpus.
#[test]
fn seeds_are_made_from_real_stores() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    let write = std::env::var_os("GAUR_FUZZ_SEEDS").is_some();
    for (target, name, data) in seeds::all() {
        let accepted = match target {
            "superblock" => targets::superblock(&data),
            "space" => targets::space(&data),
            "node" => targets::node(&data),
            "log" => targets::log(&data),
            other => panic!("{other}"),
        };
        assert_eq!(accepted, name.starts_with("seed"), "{target} {name}");
        if write {
            let folder = corpus.join(target);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join(name), data).unwrap();
        }
    }
}
