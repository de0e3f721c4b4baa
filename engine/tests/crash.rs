//! Power cuts on the simulated disk: what is acknowledged survives, what survives
//! is a prefix, and the store goes on from there.
//!
//! ```text
//! cargo test -p gaur --test crash                      # 2,000 cut points
//! GAUR_CRASH_CUTS=100000 cargo test --release -p gaur --test crash power_cuts -- --nocapture
//! ```
//!
//! A failure names its seed. This repeats the story of seed 17, a hundred times
//! (threads do not interleave the same way twice; stories with one writer nearly do):
//!
//! ```text
//! GAUR_CRASH_SEED=17 GAUR_CRASH_STORIES=100 GAUR_CRASH_SAME=1 \
//!     cargo test -p gaur --test crash power_cuts -- --nocapture
//! ```
//!
//! | variable | meaning |
//! |---|---|
//! | `GAUR_CRASH_SEED` | seed of the first story (default 1); `random` draws one |
//! | `GAUR_CRASH_CUTS` | power cuts in all (default 2,000) |
//! | `GAUR_CRASH_STORIES` | stories, instead |
//! | `GAUR_CRASH_SAME` | all stories have the same seed |

mod campaign;
mod common;
mod growth;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use campaign::{Story, Tally, Watchdog};

/// Rounds in one story.
const ROUNDS: u64 = 25;

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Says how to repeat a story that failed.
struct Repeat {
    seed: u64,
    text: String,
}

impl Drop for Repeat {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "\nthe story: {}\nto repeat it: GAUR_CRASH_SEED={} GAUR_CRASH_STORIES=100 \
                 GAUR_CRASH_SAME=1 cargo test -p gaur --test crash power_cuts -- --nocapture\n",
                self.text, self.seed
            );
        }
    }
}

#[test]
fn power_cuts() {
    let number = |name: &str| env(name).map(|v| v.parse::<u64>().expect("a number"));
    let first = match env("GAUR_CRASH_SEED").as_deref() {
        None => 1,
        Some("random") => gaur_iodriver::sync::rng::fresh_seed() >> 16,
        Some(n) => n.parse().expect("a number or `random`"),
    };
    let cuts = number("GAUR_CRASH_CUTS").unwrap_or(2000);
    let stories = number("GAUR_CRASH_STORIES").unwrap_or(cuts.div_ceil(ROUNDS));
    let same = env("GAUR_CRASH_SAME").is_some();
    println!("{stories} stories of {ROUNDS} rounds from seed {first}");

    let begun = Instant::now();
    let next = AtomicU64::new(0);
    let failed = AtomicBool::new(false);
    let total = Mutex::new(Tally::default());
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(8));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let watchdog = Watchdog::start(Duration::from_secs(120));
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= stories || failed.load(Ordering::Relaxed) {
                        return;
                    }
                    let seed = first + if same { 0 } else { n };
                    failed.fetch_or(!story(seed, &watchdog, &total), Ordering::Relaxed);
                }
            });
        }
    });
    let total = total.into_inner().unwrap();
    println!("{total} in {:.1?}", begun.elapsed());
    assert!(!failed.into_inner(), "a story failed; see above");
    assert!(total.images.len() as u64 * 10 >= total.cuts * 9, "{total}");
    if stories >= 40 && !same {
        assert!(total.written_early > 0 && total.half_pairs > 0, "{total}");
        assert!(total.grown > 0, "{total}");
    }
}

/// Whether the story went well.
fn story(seed: u64, watchdog: &Watchdog, total: &Mutex<Tally>) -> bool {
    let run = || {
        let mut story = Story::new(seed, watchdog);
        let mut repeat = Repeat {
            seed,
            text: story.describe(),
        };
        for round in 0..ROUNDS {
            repeat.text = format!("{}, round {}", story.describe(), round + 1);
            story.round();
        }
        story.tally
    };
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)) {
        Ok(tally) => {
            total.lock().unwrap().merge(tally);
            true
        }
        Err(_) => false,
    }
}
