//! Wrong configurations and command lines: where, what is nearest, what to do.

use std::fs;
use std::process::{Command, Stdio};

use crate::common::Place;

#[test]
fn all_that_is_wrong_is_told_with_its_place() {
    let place = Place::new();
    let text = "[store]\npath = 'never.store'\ncash = '64MiB'\n\n[run]\nthreads = 'many'\ndistribution = 'zipfain'\n";
    place.file("c.toml", text);
    let said = place.gaur(["run", "c.toml", "--set", "load.recrods=5"]);
    assert_eq!((said.code, said.out.as_str()), (2, ""));
    let lines: Vec<&str> = said.err.lines().collect();
    assert_eq!(
        lines,
        [
            "gaur: c.toml:3:1: unknown key `cash`; did you mean `cache`?",
            "gaur: c.toml:6:11: run.threads takes a whole number, 0 or more, not the text \"many\"",
            "gaur: c.toml:7:16: unknown value `zipfain` of run.distribution; did you mean `zipfian`?",
            "gaur: --set load.recrods=5: unknown key `recrods`; did you mean `records`?",
        ]
    );
    assert!(!place.path("never.store").exists());
}

#[test]
fn rules_and_syntax_have_places_too() {
    let place = Place::new();
    place.file(
        "c.toml",
        "store.path = 'x'\nload = { records = 5, batch = 0 }\n",
    );
    let e = place.refused("run c.toml");
    assert!(e.starts_with("gaur: c.toml:2:23: load.batch is 0"), "{e}");
    let e = place.refused("run c.toml --set load.batch=1 --set load.threads=0");
    assert!(
        e.starts_with("gaur: --set load.threads=0: load.threads is 0"),
        "{e}"
    );
    place.file("broken.toml", "[store]\npath = \n");
    let said = place.gaur(["run", "broken.toml"]);
    assert_eq!(said.code, 2);
    assert!(said.err.starts_with("gaur: broken.toml:2:"), "{}", said.err);
}

#[test]
fn the_nearest_verb_and_value_are_named() {
    let place = Place::new();
    for (line, hint) in [
        ("fromat x", "'format'"),
        ("format x --driver urng", "'uring'"),
        ("format x --durable-method dsnc", "'dsync'"),
        ("format x --block-sise 4KiB", "'--block-size'"),
        ("device x --bnch", "'--bench'"),
    ] {
        let said = place.gaur(line.split(' '));
        assert_eq!(said.code, 2, "{line}");
        assert!(
            said.err.contains(hint) && said.err.contains("--help"),
            "{line}: {}",
            said.err
        );
    }
}

#[test]
fn messages_say_what_to_do_next() {
    let place = Place::new();
    place.file("x.img", "short");
    for (line, hint) in [
        ("stat no.store", "gaur format"),
        ("check x.img", "gaur format"),
        ("format no.store", "--size 1GiB"),
        ("run no.toml", "check the path"),
        ("device no.store", "name a block device or a file"),
        ("format /dev/null", "name a block device or a file"),
        (
            "experiment scaling --path x.img --dry-run",
            "remove it, or name another --path",
        ),
    ] {
        let e = place.refused(line);
        assert!(e.contains(hint), "{line}: {e}");
    }
    assert_eq!(fs::read(place.path("x.img")).expect("there"), b"short");
}

#[test]
fn stores_are_refused_with_their_place_and_readable_figures() {
    let place = Place::new();
    place.ok("format s.store --size 32MiB");
    place.ok("put s.store k v --tree t");
    place.ok("dump s.store --out s.dump");
    place.file(
        "r.toml",
        "store = { path = 's.store', create = 'missing' }\nload.records = 10\n",
    );
    for (line, hints) in [
        ("get s.store k", ["default", "gaur stat lists the trees"]),
        ("inspect tree s.store --tree no", ["\"no\"", "gaur stat"]),
        ("inspect tree s.store --node 99", ["s.store", "block 99"]),
        ("dump s.store --out s.dump", ["s.dump", "remove it"]),
        ("format t.store --size 1MiB", ["1.0 MiB", "16.0 MiB"]),
        ("format /dev/nothing", ["no such device", "lsblk"]),
        (
            "format /dev/nothing --size 32MiB",
            ["no such device", "lsblk"],
        ),
        (
            "run r.toml --json no/s.json",
            ["no/s.json", "check the path"],
        ),
        ("run r.toml --set load.threads=5000", ["5000", "4096"]),
    ] {
        let e = place.refused(line);
        assert!(hints.iter().all(|h| e.contains(h)), "{line}: {e}");
    }
    assert!(place.ok("stat s.store").contains("created        20"));
    // No run was begun for the sake of a summary that cannot be written.
    assert_eq!(place.json("stat s.store --json")["last_csn"], 2);
    let file = fs::OpenOptions::new()
        .write(true)
        .open(place.path("s.store"))
        .expect("a store");
    file.set_len(20 << 20).expect("shorter");
    let said = place.gaur(["stat", "s.store"]);
    assert_eq!(said.code, 1, "{}", said.err);
    for hint in ["s.store", "32.0 MiB", "20.0 MiB", "its size back"] {
        assert!(said.err.contains(hint), "{}", said.err);
    }
}

#[test]
fn an_experiment_removes_nobodys_file() {
    let place = Place::new();
    place.file("mine", "precious");
    let said = place.gaur([
        "experiment",
        "two-stage",
        "--path",
        "mine",
        "--seconds",
        "0.1",
    ]);
    assert_eq!(said.code, 2, "{}", said.err);
    assert_eq!(fs::read(place.path("mine")).expect("there"), b"precious");
}

/// A reader that goes away ends the tool quietly.
#[test]
fn a_broken_pipe_is_quiet() {
    let place = Place::new();
    place.file(
        "c.toml",
        "store = { path = 's.store', size = '64MiB' }\nload.records = 20_000\n",
    );
    place.ok("run c.toml");
    for args in [&["scan", "s.store"][..], &["--help"], &["stat", "s.store"]] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_gaur"))
            .args(args)
            .current_dir(place.path("."))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the tool starts");
        drop(child.stdout.take());
        let ended = child.wait_with_output().expect("it ends");
        assert_eq!(ended.status.code(), Some(0), "{args:?}");
        assert!(ended.stderr.is_empty(), "{args:?}: {:?}", ended.stderr);
    }
    // Nor does an error that nobody reads become another.
    let mut child = Command::new(env!("CARGO_BIN_EXE_gaur"))
        .args(["stat", "nowhere"])
        .current_dir(place.path("."))
        .stderr(Stdio::piped())
        .spawn()
        .expect("the tool starts");
    drop(child.stderr.take());
    assert_eq!(child.wait().expect("it ends").code(), Some(2));
}
