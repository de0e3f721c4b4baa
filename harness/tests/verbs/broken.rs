//! Faults on purpose are in a build of their own, and the ordinary build has nothing
//! of them.

use super::common::Place;

#[test]
fn only_its_own_build_can_be_broken() {
    let program = std::fs::read(env!("CARGO_BIN_EXE_gaur")).expect("the tool");
    let has = |name: &str| program.windows(name.len()).any(|w| w == name.as_bytes());
    // In the names that a build for tests has for every function.
    assert!(has("release_unchanged"), "a build without names");
    for trace in ["GAUR_FAULT", "no-flush-before-superblock", "release_early"] {
        assert_eq!(has(trace), cfg!(faults), "{trace}");
    }
}

#[cfg(not(faults))]
#[test]
fn the_ordinary_build_has_no_such_verb() {
    let said = Place::new().gaur(["faults", "--list"]);
    assert_eq!(said.code, 2, "{}", said.err);
    assert!(said.err.contains("unrecognized subcommand"), "{}", said.err);
}

#[cfg(faults)]
#[test]
fn each_fault_says_what_is_wrong() {
    let list = Place::new().ok("faults --list");
    assert!(list.lines().count() >= 25, "{list}");
    assert!(list.contains("lost-wake-up"), "{list}");
}
