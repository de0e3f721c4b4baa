//! What is told of a running store: events, slow readers, metrics.

mod events;
#[cfg(feature = "prometheus")]
mod prometheus;
mod slow;

use std::time::Duration;

use gaur::{Durability, Event, Events, FormatOptions, OpenOptions, Store};
use gaur_iodriver::sim::{SimDisk, SimOptions};

const BUFFERED: Durability = Durability::Buffered;
const MIB: u64 = 1 << 20;

/// A store whose checkpoints are made only when they are asked for.
fn options() -> OpenOptions {
    OpenOptions {
        cache_bytes: 4 * MIB,
        checkpoint_interval: Duration::from_secs(3600),
        ..OpenOptions::default()
    }
}

fn formatted(seed: u64, file: bool) -> SimDisk {
    let disk = SimDisk::new(SimOptions {
        capacity: 32 * MIB,
        seed,
        file,
        ..SimOptions::default()
    });
    let options = FormatOptions {
        log_size: Some(4 * MIB),
        ..FormatOptions::default()
    };
    Store::format_device(disk.device(), &options).unwrap();
    disk
}

fn open(disk: &SimDisk) -> Store {
    Store::open_device(disk.device(), &options()).unwrap()
}

/// The next event that is wanted; others are passed over.
fn await_event(events: &Events, wanted: impl Fn(&Event) -> bool) -> Event {
    loop {
        let event = events.next_within(Duration::from_secs(30));
        let event = event.expect("an event within 30 s");
        println!("{event}");
        if wanted(&event) {
            return event;
        }
    }
}
