//! Who had the processors: on a machine that others use, figures are theirs too.

use std::fs;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, sysconf};

/// The processors' time until a moment, in seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProcessorTime {
    own: f64,
    /// Of all processes, and of the machine below a virtual one.
    all: Option<f64>,
}

impl ProcessorTime {
    pub(super) fn now() -> Self {
        let own = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID);
        let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten();
        let stat = fs::read_to_string("/proc/stat").ok();
        Self {
            own: own.map_or(0.0, |t| Duration::from(t).as_secs_f64()),
            all: ticks
                .zip(stat)
                .and_then(|(t, s)| Some(busy(&s)? / t as f64)),
        }
    }

    /// Seconds that this process used, and the part of all processors' time, in
    /// `elapsed`, that others did.
    pub(super) fn since(self, elapsed: Duration) -> (f64, Option<f64>) {
        let now = Self::now();
        let own = now.own - self.own;
        let cpus = std::thread::available_parallelism().map_or(1, Into::into);
        let there = elapsed.as_secs_f64() * cpus as f64;
        let others = now
            .all
            .zip(self.all)
            .map(|(to, from)| (to - from - own) / there);
        // The kernel counts in ticks.
        (own, others.map(|o| o.clamp(0.0, 1.0)))
    }
}

/// Ticks of the first line of `/proc/stat` in which a processor was not idle.
fn busy(stat: &str) -> Option<f64> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<f64> = line
        .split_whitespace()
        .map_while(|n| n.parse().ok())
        .collect();
    // user nice system idle iowait irq softirq steal; what guests use is in the first.
    let working = [0, 1, 2, 5, 6, 7];
    (ticks.len() >= 8).then(|| working.iter().map(|&i| ticks[i]).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_ticks_do_not_count() {
        let stat = "cpu  10 20 30 1000 2000 1 2 3 99 99\ncpu0 5 5 5 5 5 5 5 5\n";
        assert_eq!(busy(stat), Some(66.0));
        assert_eq!(busy("cpu  1 2 3\n"), None);
        assert_eq!(busy(""), None);
        let begun = ProcessorTime::now();
        let (own, others) = begun.since(Duration::from_millis(1));
        assert!(own >= 0.0 && others.is_none_or(|o| (0.0..=1.0).contains(&o)));
    }
}
