//! That the models fail when what they are about is taken away.
//!
//! Each is run by itself in a process of its own, with one order, fence or step weakened:
//! a sequentially consistent access becomes acquire or release (or relaxed, if the name
//! says so), any other relaxed; a fence or a step is left out.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

/// What is weakened, the model that must fail, and what it must say.
const FOUND: &[(&str, &str, &str)] = &[];

/// What no model needs, and why it is so strong.
const NOT_NEEDED: &[(&str, &str)] = &[];

/// Runs a model with `weakened` weakened. What it printed, if it failed.
fn run(weakened: &str, model: &str) -> Option<String> {
    let binary = std::env::current_exe().expect("the test knows itself");
    let out = Command::new(binary)
        .args(["--exact", model, "--nocapture"])
        .env("GAUR_WEAKEN", weakened)
        .output()
        .expect("the models run");
    let text = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
    assert!(text.contains("running 1 test"), "there is no {model}");
    (!out.status.success()).then_some(text)
}

#[test]
fn each_weakening_is_found() {
    let cases = Mutex::new(FOUND.iter());
    let missed = Mutex::new(Vec::new());
    let next = || cases.lock().unwrap().next();
    std::thread::scope(|s| {
        for _ in 0..2 {
            s.spawn(|| {
                while let Some((weakened, model, says)) = next() {
                    let failed = run(weakened, model);
                    let found = failed.as_ref().is_some_and(|t| t.contains(says));
                    let how = if found { says } else { "NOT FOUND" };
                    println!("{weakened:24} {model:64} {how}");
                    if !found {
                        missed.lock().unwrap().push((weakened, failed));
                    }
                }
            });
        }
    });
    let missed = missed.into_inner().unwrap();
    assert!(missed.is_empty(), "{missed:#?}");
}

/// The names in `text` that follow `call`.
fn names<'a>(text: &'a str, call: &str) -> impl Iterator<Item = &'a str> {
    text.split(call).skip(1).filter_map(|rest| {
        let name = rest.trim_start().strip_prefix('"')?;
        name.split_once('"').map(|(name, _)| name)
    })
}

fn names_below(folder: &Path, all: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("src/models") {
            names_below(&path, all);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            for call in ["order(", "fence(", "step("] {
                all.extend(names(&text, call).map(str::to_owned));
            }
        }
    }
}

#[test]
fn each_name_in_the_source_is_accounted_for() {
    let engine = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = BTreeSet::new();
    names_below(&engine.join("src"), &mut all);
    names_below(&engine.join("../iodriver/src/sync"), &mut all);
    let found = FOUND.iter().map(|c| c.0.split('=').next().unwrap());
    let known: BTreeSet<String> = found
        .chain(NOT_NEEDED.iter().map(|c| c.0))
        .map(str::to_owned)
        .collect();
    let missing: Vec<_> = all.difference(&known).collect();
    assert!(missing.is_empty(), "no model is named for {missing:?}");
    let gone: Vec<_> = known.difference(&all).collect();
    assert!(gone.is_empty(), "not in the source: {gone:?}");
}
