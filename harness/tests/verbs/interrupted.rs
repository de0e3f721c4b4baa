//! Ctrl-C: long work ends soon, and says what is there and how to go on.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::common::{LoopDevice, Place, Said};

/// What takes longer than this was not interrupted.
const PATIENCE: Duration = Duration::from_secs(10);

fn start(place: &Place, line: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_gaur"))
        .args(line.split(' '))
        .current_dir(place.path(""))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the tool starts")
}

fn interrupt(mut child: Child) -> Said {
    let pid = Pid::from_raw(child.id().try_into().expect("a pid"));
    kill(pid, Signal::SIGINT).expect("sent");
    let begun = Instant::now();
    while child.try_wait().expect("waited").is_none() {
        if begun.elapsed() > PATIENCE {
            child.kill().expect("killed");
            panic!("Ctrl-C changed nothing");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let text = |from: &mut dyn Read| {
        let mut text = String::new();
        from.read_to_string(&mut text).expect("text");
        text
    };
    Said {
        code: child.wait().expect("ended").code().unwrap_or(-1),
        out: text(child.stdout.as_mut().expect("piped")),
        err: text(child.stderr.as_mut().expect("piped")),
    }
}

/// Long enough for a verb to be at its work.
fn let_it_work() {
    std::thread::sleep(Duration::from_millis(700));
}

#[test]
fn a_slow_trim_ends() {
    let place = Place::new();
    place.ok("format s.store --size 64MiB --sparse");
    place.ok("put s.store k v");
    let child = start(&place, "trim s.store --rate 1");
    let_it_work();
    let said = interrupt(child);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.contains("interrupted"), "{}", said.out);
    assert_eq!(place.json("check s.store --json")["clean"], true);
}

#[test]
fn a_load_says_how_to_go_on() {
    let place = Place::new();
    place.ok("format s.store --size 64MiB");
    let records: Vec<String> = (0..3000)
        .map(|i| format!("{{\"key\":\"k{i:05}\",\"value\":\"v\"}}\n"))
        .collect();
    let head = "{\"gaur_dump\":1,\"store\":\"00000000000000000000000000000001\",\"csn\":1}\n";
    let mut child = start(&place, "load s.store -");
    let mut pipe = child.stdin.take().expect("piped");
    write!(pipe, "{head}{{\"tree\":\"t\"}}\n{}", records.concat()).expect("written");
    let_it_work();
    let said = interrupt(child);
    drop(pipe);
    assert_eq!((said.code, said.out.as_str()), (2, ""), "{}", said.err);
    let command = "gaur load s.store - --existing keep";
    for part in ["interrupted", "3,000 records were loaded", command] {
        assert!(said.err.contains(part), "{}", said.err);
    }
    let there = place.ok("scan s.store --tree t --keys-only");
    assert_eq!(there.lines().count(), 3000);
    assert_eq!(place.json("check s.store --json")["clean"], true);
}

#[test]
fn a_dump_leaves_all_or_nothing() {
    let place = Place::new();
    place.ok("format s.store --size 256MiB");
    // No text, so that it is written as hex.
    let value = format!("0x{}", "ff".repeat(60_000));
    for i in 0..200 {
        let said = place.gaur(["put", "s.store", &format!("k{i}"), &value]);
        assert_eq!(said.code, 0, "{}", said.err);
    }
    let child = start(&place, "dump s.store --out s.dump");
    let begun = Instant::now();
    let partial = || {
        let names = std::fs::read_dir(place.path("")).expect("a directory");
        names
            .flatten()
            .any(|e| e.file_name().to_string_lossy().ends_with(".partial"))
    };
    while !partial() && !place.path("s.dump").exists() && begun.elapsed() < PATIENCE {}
    let said = interrupt(child);
    assert!(!partial());
    // The machine may be so fast that it was whole before.
    match place.path("s.dump").exists() {
        true => println!("the dump was whole before: {}", said.out),
        false => {
            assert_eq!(said.code, 2, "{}", said.err);
            assert!(said.err.contains("no file was made"), "{}", said.err);
            place.ok("dump s.store --out s.dump");
        }
    }
    let e = place.refused("dump s.store --out s.dump");
    assert!(e.contains("name another"), "{e}");
    place.ok("format t.store --size 256MiB");
    place.ok("load t.store s.dump");
}

#[test]
fn crashes_and_measurements_end() {
    let place = Place::new();
    let child = start(&place, "crash --seconds-per-round 1000 --size 64MiB");
    let_it_work();
    let said = interrupt(child);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.contains("interrupted; 0 rounds"), "{}", said.out);
    assert!(!place.path("crash.store").exists());

    let child = start(&place, "device b.tmp --bench --seconds 3000 --size 16MiB");
    let_it_work();
    let said = interrupt(child);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.contains("interrupted"), "{}", said.out);

    let child = start(&place, "experiment two-stage --seconds 1000");
    let_it_work();
    let said = interrupt(child);
    if said.code == 2 {
        assert!(said.err.contains("was removed"), "{}", said.err);
        assert!(!place.path("experiment.store").exists());
    }

    let child = start(&place, "experiment fill --size 256MiB");
    let_it_work();
    let said = interrupt(child);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(!place.path("fill.store").exists());
}

/// A format is killed at some moment: the same command goes on, or says that the store
/// is whole.
#[test]
fn a_format_that_was_killed_is_begun_again() {
    let place = Place::new();
    let Some(device) = LoopDevice::attach(&place, 512, 256 << 20) else {
        return;
    };
    let line = format!("format {} --discard", device.name());
    for ms in [3, 10, 20, 40, 60, 80, 120] {
        let mut child = start(&place, &line);
        std::thread::sleep(Duration::from_millis(ms));
        child.kill().expect("killed");
        child.wait().expect("ended");
        let said = place.gaur(line.split(' '));
        if said.code != 0 {
            assert!(said.err.contains("a gaur store is there"), "{}", said.err);
            place.ok(&format!("put {} k v", device.name()));
        }
        let wiped = std::process::Command::new("blkdiscard")
            .args(["-z", &device.name()])
            .status();
        if !wiped.is_ok_and(|s| s.success()) {
            println!("skipped: no blkdiscard");
            return;
        }
    }
}
