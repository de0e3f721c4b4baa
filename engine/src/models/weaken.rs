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
const FOUND: &[(&str, &str, &str)] = &[
    ("latch.version", "models::latch::who_parks_is_woken", "torn"),
    (
        "latch.validate",
        "models::latch::a_reader_sees_all_or_nothing",
        "torn",
    ),
    (
        "latch.locked",
        "models::latch::a_reader_sees_all_or_nothing",
        "torn",
    ),
    (
        "latch.lock",
        "models::latch::an_upgrade_finds_what_a_release_without_a_change_left",
        "lost",
    ),
    (
        "latch.release",
        "models::latch::a_writer_finds_what_the_one_before_left",
        "lost",
    ),
    (
        "park.look_under_lock",
        "models::latch::who_parks_is_woken",
        "deadlock",
    ),
    (
        "visible.note",
        "models::visible::of_two_neighbours_one_closes_the_gap",
        "hidden",
    ),
    (
        "visible.look",
        "models::visible::of_two_neighbours_one_closes_the_gap",
        "hidden",
    ),
    (
        "visible.is_visible",
        "models::visible::what_is_visible_was_applied",
        "not applied",
    ),
    (
        "visible.note=relaxed",
        "models::visible::what_is_visible_was_applied",
        "not applied",
    ),
    (
        "visible.move",
        "models::visible::both_who_wait_are_woken",
        "deadlock",
    ),
    (
        "visible.upto",
        "models::visible::both_who_wait_are_woken",
        "deadlock",
    ),
    (
        "visible.wish",
        "models::visible::who_waits_is_woken",
        "deadlock",
    ),
    (
        "visible.wake",
        "models::visible::who_waits_is_woken",
        "deadlock",
    ),
    (
        "view.announced",
        "models::view::a_view_sees_all_before_it_and_nothing_after",
        "a view at 0 sees",
    ),
    (
        "view.opening",
        "models::view::a_view_is_pinned_to_what_it_sees",
        "a view at",
    ),
    (
        "view.drawn",
        "models::view::a_view_sees_all_before_it_and_nothing_after",
        "a view at 0 sees",
    ),
    (
        "workers.add",
        "models::gate::a_worker_added_meanwhile_sees_the_gate_closed",
        "Causality violation",
    ),
    (
        "workers.all",
        "models::gate::a_worker_added_meanwhile_sees_the_gate_closed",
        "Causality violation",
    ),
    (
        "gate.enter",
        "models::gate::a_closed_gate_has_nobody_inside",
        "Causality violation",
    ),
    (
        "gate.look",
        "models::gate::a_closed_gate_has_nobody_inside",
        "Causality violation",
    ),
    (
        "gate.close",
        "models::gate::a_closed_gate_has_nobody_inside",
        "Causality violation",
    ),
    (
        "gate.drain",
        "models::gate::a_closed_gate_has_nobody_inside",
        "Causality violation",
    ),
    (
        "gate.leave",
        "models::gate::a_closed_gate_has_nobody_inside",
        "Causality violation",
    ),
    (
        "gate.open=relaxed",
        "models::gate::a_closed_gate_has_nobody_inside",
        "Causality violation",
    ),
    (
        "gate.enter",
        "models::gate::a_generation_is_frozen_whole",
        "left behind",
    ),
    (
        "gate.look",
        "models::gate::a_generation_is_frozen_whole",
        "left behind",
    ),
    (
        "gate.close",
        "models::gate::a_generation_is_frozen_whole",
        "left behind",
    ),
    (
        "gate.drain",
        "models::gate::a_generation_is_frozen_whole",
        "left behind",
    ),
    (
        "commits.begin",
        "models::gate::a_closed_store_has_no_commit_under_way",
        "Causality violation",
    ),
    (
        "commits.look",
        "models::gate::a_closed_store_has_no_commit_under_way",
        "Causality violation",
    ),
    (
        "commits.refuse",
        "models::gate::a_closed_store_has_no_commit_under_way",
        "Causality violation",
    ),
    (
        "commits.drain",
        "models::gate::a_closed_store_has_no_commit_under_way",
        "Causality violation",
    ),
    (
        "commits.over",
        "models::gate::a_closed_store_has_no_commit_under_way",
        "Causality violation",
    ),
    (
        "log.acknowledge",
        "log::models::who_is_told_durable_is_on_the_device",
        "not on the device",
    ),
    (
        "log.durable",
        "log::models::who_is_told_durable_is_on_the_device",
        "not on the device",
    ),
    (
        "log.wake_behind_lock",
        "log::models::a_group_is_woken",
        "deadlock",
    ),
    (
        "log.wake_behind_lock",
        "log::models::who_waits_when_the_log_stops_is_told",
        "deadlock",
    ),
    (
        "log.space_behind_lock",
        "log::models::who_waits_for_space_is_woken",
        "deadlock",
    ),
    (
        "log.wait_for_space",
        "log::models::who_waits_for_space_when_the_log_stops_is_woken",
        "deadlock",
    ),
    (
        "log.space_freed",
        "log::models::who_waits_for_space_when_the_log_stops_is_woken",
        "deadlock",
    ),
    (
        "log.stop",
        "log::models::who_waits_for_space_when_the_log_stops_is_woken",
        "deadlock",
    ),
    (
        "log.stopped_for_space",
        "log::models::who_waits_for_space_when_the_log_stops_is_woken",
        "deadlock",
    ),
    (
        "mailbox.idle_said",
        "models::stash::what_is_asked_for_is_answered",
        "deadlock",
    ),
    (
        "mailbox.idle_said",
        "models::stash::who_waits_at_the_end_is_told",
        "deadlock",
    ),
    (
        "stash.reserve",
        "models::stash::a_reservation_is_not_recalled",
        "recalled",
    ),
];

/// What no model is named for, and why.
const UNNAMED: &[(&str, &str)] = &[
    (
        "view.oldest",
        "the fences on both sides order it; acquire and release would do",
    ),
    (
        "log.stopped",
        "the lock of the shard orders it; it ends a wait and hands nothing over",
    ),
    ("mailbox.idle", "the fences order it"),
    ("mailbox.wake", "the fences order it"),
    ("mailbox.nudge", "the fences order it"),
    ("mailbox.look", "the fences order it"),
    (
        "mailbox.sent",
        "needed, but not seen: in a model a sequentially consistent store begins with a \
         read, and the fence behind the allocator's acquires what that has read",
    ),
    (
        "mailbox.answered",
        "a read-modify-write of the same word follows",
    ),
];

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
        .chain(UNNAMED.iter().map(|c| c.0))
        .map(str::to_owned)
        .collect();
    let missing: Vec<_> = all.difference(&known).collect();
    assert!(missing.is_empty(), "no model is named for {missing:?}");
    let gone: Vec<_> = known.difference(&all).collect();
    assert!(gone.is_empty(), "not in the source: {gone:?}");
}
