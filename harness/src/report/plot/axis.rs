//! Axes: where a value lies, which values are named, and how.

use super::unit::Unit;

/// How values are spread over an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Linear,
    /// Equal ratios, equal lengths.
    Log,
    /// Of 1/(1-q), logarithmic, named by percentile: the axis of HdrHistogram plots.
    Percentile,
}

/// One axis: what it shows, from where to where.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    pub(crate) kind: Kind,
    pub(crate) unit: Unit,
    pub(crate) title: String,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// A line of the grid; `label` is empty for one between named ones.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tick {
    pub(crate) value: f64,
    pub(crate) label: String,
}

impl Axis {
    /// From zero to just above the largest value, so that lengths compare.
    pub(crate) fn from_zero(title: &str, unit: Unit, values: impl Iterator<Item = f64>) -> Self {
        let most = values.filter(|v| v.is_finite()).fold(0.0, f64::max);
        let most = if most > 0.0 { most } else { 1.0 };
        let step = step(most * 1.02, 5, unit);
        Self {
            kind: Kind::Linear,
            unit,
            title: title.to_owned(),
            low: 0.0,
            high: (most * 1.02 / step).ceil() * step,
        }
    }

    /// From 0 to 1.
    pub(crate) fn share(title: &str) -> Self {
        Self {
            kind: Kind::Linear,
            unit: Unit::Share,
            title: title.to_owned(),
            low: 0.0,
            high: 1.0,
        }
    }

    /// A stretch of time, without zero where the run began later.
    pub(crate) fn time(title: &str, low: f64, high: f64) -> Self {
        Self {
            kind: Kind::Linear,
            unit: Unit::Seconds,
            title: title.to_owned(),
            low,
            high: high.max(low + 1e-3),
        }
    }

    /// Latency: from a tick below the least to a tick above the largest.
    pub(crate) fn latency(values: impl Iterator<Item = f64>) -> Self {
        let (mut low, mut high) = (f64::INFINITY, 0.0_f64);
        for v in values.filter(|v| v.is_finite() && *v > 0.0) {
            low = low.min(v);
            high = high.max(v);
        }
        if !low.is_finite() {
            (low, high) = (1e3, 1e6);
        }
        let (mut low, mut high) = (below(low), above(high));
        // A decade at least, so that noise does not look like news.
        while high / low < 9.9 {
            (low, high) = (below(low * 0.99), above(high * 1.01));
        }
        Self {
            kind: Kind::Log,
            unit: Unit::Nanos,
            title: "latency, logarithmic".into(),
            low,
            high,
        }
    }

    /// Percentiles up to 1/(1-q).
    pub(crate) fn percentile(most: f64) -> Self {
        Self {
            kind: Kind::Percentile,
            unit: Unit::Count,
            title: "percentile".into(),
            low: 1.0,
            high: most.max(10.0) * 1.1,
        }
    }

    /// Where a value lies, from 0 to 1; outside what the axis shows, at its end.
    pub(crate) fn place(&self, value: f64) -> f64 {
        let (v, low, high) = match self.kind {
            Kind::Linear => (value, self.low, self.high),
            _ => (value.max(1e-12).ln(), self.low.ln(), self.high.ln()),
        };
        ((v - low) / (high - low)).clamp(0.0, 1.0)
    }

    /// Ticks in growing order, at most about `room` of them named.
    pub(crate) fn ticks(&self, room: usize) -> Vec<Tick> {
        match self.kind {
            Kind::Linear => self.linear(room),
            Kind::Log => self.decades(room),
            Kind::Percentile => self.percentiles(),
        }
    }

    fn linear(&self, room: usize) -> Vec<Tick> {
        let step = step(self.high - self.low, room, self.unit);
        let first = (self.low / step - 1e-9).ceil() as i64;
        let last = (self.high / step + 1e-9).floor() as i64;
        (first..=last)
            .map(|i| {
                let value = i as f64 * step;
                let label = self.unit.tick(value, step);
                Tick { value, label }
            })
            .collect()
    }

    fn decades(&self, room: usize) -> Vec<Tick> {
        let (first, last) = (
            self.low.log10().floor() as i32,
            self.high.log10().ceil() as i32,
        );
        let decades = (self.high / self.low).log10();
        let named: &[u32] = match decades * 3.0 <= room as f64 {
            true => &[1, 2, 5],
            false => &[1],
        };
        let mut ticks = Vec::new();
        for e in first..=last {
            for m in 1..10_u32 {
                let value = f64::from(m) * 10_f64.powi(e);
                if value < self.low * 0.999 || value > self.high * 1.001 {
                    continue;
                }
                let label = match named.contains(&m) {
                    true => self.unit.tick(value, value),
                    false => String::new(),
                };
                ticks.push(Tick { value, label });
            }
        }
        ticks
    }

    fn percentiles(&self) -> Vec<Tick> {
        let mut ticks = Vec::new();
        let mut tick = |value: f64, label: &str| {
            if value <= self.high {
                let label = label.to_owned();
                ticks.push(Tick { value, label });
            }
        };
        tick(1.0, "0 %");
        tick(2.0, "50 %");
        tick(10.0, "90 %");
        for nines in 2..=9_i32 {
            let digits = "9".repeat(nines.max(3) as usize - 2);
            let label = match nines {
                2 => "99 %".to_owned(),
                _ => format!("99.{digits} %"),
            };
            tick(10_f64.powi(nines), &label);
        }
        ticks
    }
}

/// The largest of 1, 2, 5, 10 … that is not above.
fn below(x: f64) -> f64 {
    let decade = 10_f64.powf(x.log10().floor());
    let m = x / decade;
    decade
        * [5.0, 2.0, 1.0]
            .into_iter()
            .find(|s| *s <= m * 1.0001)
            .unwrap_or(1.0)
}

/// The least of 1, 2, 5, 10 … that is not below.
fn above(x: f64) -> f64 {
    let decade = 10_f64.powf(x.log10().floor());
    let m = x / decade;
    decade
        * [1.0, 2.0, 5.0]
            .into_iter()
            .find(|s| *s >= m * 0.9999)
            .unwrap_or(10.0)
}

/// A round step that gives at most about `room` parts.
fn step(range: f64, room: usize, unit: Unit) -> f64 {
    let least = range / room.max(1) as f64;
    if unit.is_bytes() && least >= 1.0 {
        let power = 1024_f64.powf(least.log(1024.0).floor());
        let steps = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1024.0];
        let m = least / power;
        return power * steps.into_iter().find(|s| *s >= m).unwrap_or(1024.0);
    }
    if unit == Unit::Seconds && least > 5.0 {
        let steps = [
            10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0,
        ];
        return steps
            .into_iter()
            .find(|s| *s >= least)
            .unwrap_or_else(|| (least / 3600.0).ceil() * 3600.0);
    }
    let step = above(least);
    if unit.is_whole() { step.max(1.0) } else { step }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throughput_begins_at_zero() {
        let a = Axis::from_zero("ops", Unit::Count, [120_000.0, 180_321.0].into_iter());
        assert_eq!((a.low, a.high), (0.0, 200_000.0));
        let labels: Vec<_> = a.ticks(5).into_iter().map(|t| t.label).collect();
        assert_eq!(labels, ["0", "50 k", "100 k", "150 k", "200 k"]);
        // Nothing at all still makes an axis.
        assert!(Axis::from_zero("x", Unit::Count, std::iter::empty()).high > 0.0);
    }

    #[test]
    fn latency_ends_on_round_values() {
        let a = Axis::latency([441.0, 76_087_295.0, f64::NAN].into_iter());
        assert_eq!((a.low.round(), a.high.round()), (200.0, 1e8));
        let one = Axis::latency([1000.0].into_iter());
        assert!(one.high / one.low > 9.0, "{one:?}");
    }

    #[test]
    fn percentiles_are_spread_by_nines() {
        let a = Axis::percentile(1e6);
        let labels: Vec<_> = a.ticks(9).into_iter().map(|t| t.label).collect();
        assert_eq!(
            labels,
            [
                "0 %",
                "50 %",
                "90 %",
                "99 %",
                "99.9 %",
                "99.99 %",
                "99.999 %",
                "99.9999 %"
            ]
        );
        let gap = |x: f64| a.place(x * 10.0) - a.place(x);
        assert!((gap(1.0) - gap(1000.0)).abs() < 1e-9);
    }

    #[test]
    fn bytes_go_by_powers_of_two() {
        let a = Axis::from_zero("B", Unit::Bytes, [180.0 * 1024.0 * 1024.0].into_iter());
        let labels: Vec<_> = a.ticks(5).into_iter().map(|t| t.label).collect();
        assert_eq!(labels[1], "50 MiB", "{labels:?}");
    }
}
