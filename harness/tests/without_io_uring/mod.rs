//! The tool where io_uring is forbidden, and where little may be locked or opened.

#[path = "../../../iodriver/examples/without_io_uring/filter.rs"]
mod filter;

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use filter::{Limit, lower, refuse_io_uring};

use crate::common::{Place, Said};

const SMALL: &str = "
[store]
path = 'small.store'
cache = '4MiB'

[load]
records = 3_000

[run]
threads = 3
operations = 2_000
mix = { read = 40, update = 40, scan = 20 }
durability = 'sync'
seed = 1

[verify]
reopen = true
read_back = true
check = true
";

/// Runs the tool after `prepare` in its process.
fn gaur(
    place: &Place,
    line: &str,
    prepare: impl Fn() -> io::Result<()> + Send + Sync + 'static,
) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gaur"));
    command.args(line.split(' ')).current_dir(place.path("."));
    // SAFETY: between fork and exec `prepare` makes system calls only, and takes no memory.
    unsafe { command.pre_exec(prepare) };
    let output = command.output().expect("the tool starts");
    let said = Said {
        code: output.status.code().expect("an exit code"),
        out: String::from_utf8(output.stdout).expect("text"),
        err: String::from_utf8(output.stderr).expect("text"),
    };
    assert!(!said.err.contains("panicked"), "gaur {line}: {}", said.err);
    said
}

/// Makes a store, runs a small workload, checks; each must end well. What they said.
fn all_of_it(prepare: impl Fn() -> io::Result<()> + Copy + Send + Sync + 'static) -> Vec<String> {
    let place = Place::new();
    place.file("small.toml", SMALL);
    [
        "format small.store --size 64MiB",
        "run small.toml",
        "stat small.store",
        "check small.store",
    ]
    .into_iter()
    .map(|line| {
        let said = gaur(&place, line, prepare);
        assert_eq!(said.code, 0, "gaur {line}: {}{}", said.out, said.err);
        said.out
    })
    .collect()
}

#[test]
fn where_io_uring_is_forbidden_psync_serves_and_it_says_so() {
    for errno in [libc::EPERM, libc::ENOSYS, libc::EACCES] {
        let why = match errno {
            libc::ENOSYS => "the kernel has no io_uring",
            _ => "io_uring is forbidden",
        };
        for out in all_of_it(move || refuse_io_uring(errno)) {
            assert!(out.contains("psync"), "{out}");
            assert!(out.contains(why), "{out}");
        }
    }
}

#[test]
fn who_asks_for_io_uring_is_refused_where_it_is_forbidden() {
    let place = Place::new();
    place.file("small.toml", SMALL);
    place.ok("format small.store --size 64MiB");
    let line = "run small.toml --set store.driver=uring";
    let said = gaur(&place, line, || refuse_io_uring(libc::EPERM));
    assert_eq!(said.code, 2, "{}{}", said.out, said.err);
    assert!(said.err.contains("use psync or auto"), "{}", said.err);
}

#[test]
fn it_runs_with_little_or_no_memory_to_lock() {
    for bytes in [64 << 10, 0] {
        all_of_it(move || lower(Limit::Memlock, bytes));
    }
}

/// From too few descriptors to start with to enough for all.
#[test]
fn with_few_descriptors_it_runs_or_says_so() {
    let mut ran = Vec::new();
    for most in [5, 8, 12, 16, 20, 24, 32] {
        let place = Place::new();
        place.file("small.toml", SMALL);
        let said = gaur(&place, "run small.toml", move || lower(Limit::Nofile, most));
        let place = Place::new();
        if said.code == 0 {
            let note = said.out.lines().find(|l| l.contains("io_uring"));
            ran.push((most, note.map(str::to_owned)));
            continue;
        }
        drop(place);
        assert_eq!(said.code, 2, "{most}: {}{}", said.out, said.err);
        let told = said.err.to_lowercase().contains("too many open files");
        assert!(told, "{most}: {}", said.err);
        assert!(ran.is_empty(), "{most} is too few where {ran:?} ran");
    }
    println!("{ran:#?}");
    assert!(ran.iter().any(|r| r.0 == 32), "{ran:?}");
}
