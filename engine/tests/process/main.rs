//! What a process does to the stores it has open: forks, panics, drops them.
//!
//! A program without the ordinary harness, which has threads of its own.

mod drops;
mod fork;
mod panics;

use std::path::Path;
use std::time::Instant;

use gaur_iodriver::DriverChoice;

/// A test, with a directory of its own.
type Test = fn(&Path, DriverChoice);

fn main() {
    if std::env::args().any(|a| a == "--list") {
        println!("process: test");
        return;
    }
    let mut drivers = vec![DriverChoice::Psync];
    let dir = tempfile::tempdir().unwrap();
    let options = gaur_iodriver::OpenOptions {
        create: Some(1 << 20),
        ..Default::default()
    };
    let opened = gaur_iodriver::open(dir.path().join("probe"), &options).unwrap();
    if opened.device.driver() == "uring" {
        drivers.push(DriverChoice::Uring);
    } else {
        println!("uring is skipped: {:?}", opened.notes);
    }
    drop(opened);
    let tests: [(&str, Test); 3] = [
        ("drop", drops::test),
        ("panic", panics::test),
        ("fork", fork::test),
    ];
    for driver in drivers {
        for (name, test) in tests {
            let dir = tempfile::tempdir().unwrap();
            let start = Instant::now();
            test(dir.path(), driver);
            println!("{name} on {driver} ... ok ({:.1?})", start.elapsed());
        }
    }
    drops::simulated();
    println!("drop on sim ... ok");
}
