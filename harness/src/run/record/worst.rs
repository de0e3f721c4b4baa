//! The slowest operations, explained: what they waited for.
//!
//! That is found out for slow operations alone. Who may become one is not known
//! when it begins, so what must be known from before has to be cheap: the engine's
//! waits are read anew only after an operation that had one, which is seen by one
//! load; the time off the processor at most once a millisecond.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use gaur::waits::{self, Waits};
use nix::sys::resource::{Resource, getrlimit};

use crate::run::measure::Op;

/// How old the reading of the time off the processor may be. A reading takes about
/// a microsecond, so this bounds its cost to a thousandth.
const FRESH: Duration = Duration::from_millis(1);

/// So many descriptors are left to others.
const SPARE_DESCRIPTORS: u64 = 64;

/// One slow operation.
#[derive(Clone, Debug)]
pub(crate) struct Slow {
    pub(crate) op: Op,
    /// Its real start.
    pub(crate) begin: Instant,
    pub(crate) thread: usize,
    pub(crate) latency: u64,
    pub(crate) service: u64,
    pub(crate) waits: Waits,
    /// Runnable and not running; none if the kernel does not tell.
    pub(crate) off_cpu: Option<u64>,
}

/// One thread's slowest operations.
#[derive(Debug)]
pub(crate) struct Worst {
    wanted: usize,
    thread: usize,
    slow: Vec<Slow>,
    /// Only what took longer belongs here; the least latency in `slow` once it is full.
    threshold: u64,
    waits: Waits,
    count: u64,
    delay: RunDelay,
}

impl Worst {
    /// For the calling thread; keeps `wanted`.
    pub(crate) fn new(wanted: usize, thread: usize) -> Self {
        Self {
            wanted,
            thread,
            slow: Vec::with_capacity(wanted),
            threshold: if wanted == 0 { u64::MAX } else { 0 },
            waits: waits::of_this_thread(),
            count: waits::count(),
            delay: RunDelay::of_this_thread(wanted > 0),
        }
    }

    /// Looks at an operation that has just ended; times are nanoseconds.
    #[inline]
    pub(crate) fn look(&mut self, op: Op, begin: Instant, end: Instant, latency: u64) {
        let slow = latency > self.threshold;
        if slow || self.count != waits::count() {
            self.renew(slow, op, begin, end, latency);
        }
        if end.saturating_duration_since(self.delay.read_at) >= FRESH {
            self.delay.read(end);
        }
    }

    #[cold]
    fn renew(&mut self, slow: bool, op: Op, begin: Instant, end: Instant, latency: u64) {
        let waits = waits::of_this_thread();
        if slow {
            let before = self.delay.nanos;
            self.delay.read(end);
            let off_cpu = self.delay.nanos.zip(before).map(|(now, then)| now - then);
            self.keep(Slow {
                op,
                begin,
                thread: self.thread,
                latency,
                service: nanos(end.saturating_duration_since(begin)),
                waits: waits.since(&self.waits),
                off_cpu: off_cpu.map(|n| n.min(latency)),
            });
        }
        self.waits = waits;
        self.count = waits::count();
    }

    fn keep(&mut self, slow: Slow) {
        let least = |slow: &[Slow]| (0..slow.len()).min_by_key(|&i| slow[i].latency);
        if self.slow.len() < self.wanted {
            self.slow.push(slow);
        } else if let Some(i) = least(&self.slow) {
            self.slow[i] = slow;
        }
        if self.slow.len() == self.wanted {
            self.threshold = least(&self.slow).map_or(u64::MAX, |i| self.slow[i].latency);
        }
    }

    /// What was kept, in no order.
    pub(crate) fn into_slow(self) -> Vec<Slow> {
        self.slow
    }
}

/// How long the thread has been runnable and not running.
#[derive(Debug)]
struct RunDelay {
    file: Option<File>,
    nanos: Option<u64>,
    read_at: Instant,
}

impl RunDelay {
    fn of_this_thread(wanted: bool) -> Self {
        let open = || {
            let file = File::open("/proc/thread-self/schedstat").ok()?;
            let (most, _) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
            // Where descriptors are scarce the engine needs them more.
            let room = most.saturating_sub(file.as_raw_fd() as u64);
            (room > SPARE_DESCRIPTORS).then_some(file)
        };
        let mut delay = Self {
            file: if wanted { open() } else { None },
            nanos: None,
            read_at: Instant::now(),
        };
        delay.read(delay.read_at);
        delay
    }

    /// The second of three numbers, says the kernel's Documentation/scheduler/sched-stats.rst.
    fn read(&mut self, now: Instant) {
        self.read_at = now;
        let Some(file) = &self.file else { return };
        let mut text = [0; 96];
        let len = file.read_at(&mut text, 0).unwrap_or(0);
        let mut words = text[..len].split(|b| *b == b' ');
        let number = |w: &[u8]| std::str::from_utf8(w).ok()?.parse::<u64>().ok();
        self.nanos = words.nth(1).and_then(number);
    }
}

/// Nanoseconds, without the division that a `u128` needs.
#[inline]
pub(crate) fn nanos(d: Duration) -> u64 {
    d.as_secs()
        .saturating_mul(1_000_000_000)
        .saturating_add(d.subsec_nanos().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_stay() {
        let mut worst = Worst::new(3, 7);
        let begin = Instant::now();
        for latency in [5, 90, 1, 70, 2, 80, 3, 4, 60] {
            let end = begin + Duration::from_nanos(latency);
            worst.look(Op::Read, begin, end, latency);
        }
        let mut kept: Vec<u64> = worst.into_slow().iter().map(|s| s.latency).collect();
        kept.sort_unstable();
        assert_eq!(kept, [70, 80, 90]);

        let mut none = Worst::new(0, 0);
        none.look(Op::Read, begin, begin, u64::MAX - 1);
        assert!(none.into_slow().is_empty());
    }

    #[test]
    fn who_was_kept_from_running_shows_it() {
        if !std::path::Path::new("/proc/thread-self/schedstat").exists() {
            println!("skipped: this kernel has no schedstat");
            return;
        }
        let mut worst = Worst::new(1, 0);
        let begin = Instant::now();
        let end = begin + Duration::from_secs(3600);
        worst.look(Op::Read, begin, end, nanos(end - begin));
        let slow = &worst.into_slow()[0];
        assert!(slow.off_cpu.is_some_and(|n| n < 3_600_000_000_000));
        assert_eq!(slow.waits.each().count(), 0);
    }
}
