//! What else the machine did meanwhile.

use std::fs;

use serde::Serialize;

/// Figures over a stretch of time. `None`: the kernel does not tell.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    /// Share of the processors' time that the host took away.
    pub(crate) steal: Option<f64>,
    /// Share of the processors' time that was spent working, steal left out.
    pub(crate) busy: Option<f64>,
    /// The load average of the last minute, before and after.
    pub(crate) load_before: Option<f64>,
    pub(crate) load_after: Option<f64>,
}

/// Counters at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    ticks: Option<Ticks>,
    load: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticks {
    all: u64,
    idle: u64,
    steal: u64,
}

impl Moment {
    pub(crate) fn now() -> Self {
        Self {
            ticks: fs::read_to_string("/proc/stat")
                .ok()
                .and_then(|t| ticks(&t)),
            load: fs::read_to_string("/proc/loadavg")
                .ok()
                .and_then(|t| t.split(' ').next()?.parse().ok()),
        }
    }

    /// What happened since.
    pub(crate) fn until_now(&self) -> Machine {
        self.until(&Self::now())
    }

    /// What happened until a later moment.
    pub(crate) fn until(&self, now: &Self) -> Machine {
        let share = |part: fn(Ticks, Ticks) -> u64| {
            let (then, now) = self.ticks.zip(now.ticks)?;
            let all = now.all.checked_sub(then.all).filter(|&n| n > 0)?;
            Some(part(then, now) as f64 / all as f64)
        };
        Machine {
            steal: share(|then, now| now.steal.saturating_sub(then.steal)),
            busy: share(|then, now| {
                let rest = |t: Ticks| t.all - t.idle - t.steal;
                rest(now).saturating_sub(rest(then))
            }),
            load_before: self.load,
            load_after: now.load,
        }
    }
}

/// The first line: user, nice, system, idle, iowait, irq, softirq, steal; guests'
/// time, behind these, is part of the user's.
fn ticks(stat: &str) -> Option<Ticks> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let t: Vec<u64> = line
        .split_ascii_whitespace()
        .take(8)
        .map(|w| w.parse().ok())
        .collect::<Option<_>>()?;
    Some(Ticks {
        all: t.iter().sum(),
        idle: t.get(3)? + t.get(4)?,
        steal: *t.get(7)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_line_is_read() {
        let t = ticks("cpu  10 1 5 70 4 0 0 10 3 0\ncpu0 1 2 3\n").unwrap();
        assert_eq!((t.all, t.idle, t.steal), (100, 74, 10));
        assert!(ticks("cpu  10 1 5 70\n").is_none());
        assert!(ticks("intr 1\n").is_none());
    }
}
