//! What numbers mean, and how they are written.

use crate::units;

/// The unit of an axis or a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Count,
    /// A number with a fraction, as amplification.
    Ratio,
    Share,
    Bytes,
    BytesPerSecond,
    PerSecond,
    Nanos,
    Seconds,
}

impl Unit {
    pub(crate) fn is_bytes(self) -> bool {
        matches!(self, Self::Bytes | Self::BytesPerSecond)
    }

    pub(crate) fn is_whole(self) -> bool {
        matches!(self, Self::Count | Self::Nanos)
    }

    /// A value in full, for tables.
    pub(crate) fn show(self, v: f64) -> String {
        if !v.is_finite() {
            return "–".into();
        }
        match self {
            Self::Count => units::count(v.round().max(0.0) as u64),
            Self::PerSecond => units::rate(v),
            Self::Ratio => format!("{v:.2}"),
            Self::Share => format!("{:.2} %", v * 100.0),
            Self::Bytes => units::bytes(v.round().max(0.0) as u64),
            Self::BytesPerSecond => format!("{}/s", units::bytes(v.round().max(0.0) as u64)),
            Self::Nanos => nanos(v),
            Self::Seconds => seconds(v),
        }
    }

    /// A value at an axis, as short as `step` allows.
    pub(crate) fn tick(self, v: f64, step: f64) -> String {
        match self {
            Self::Count | Self::PerSecond | Self::Ratio => thousands(v, step),
            Self::Share => format!("{} %", trimmed(v * 100.0, step * 100.0)),
            Self::Bytes | Self::BytesPerSecond => {
                let power = (step.max(1.0).log(1024.0) + 1e-9).floor().clamp(0.0, 4.0) as usize;
                // The unit of the whole, not of the step: 1 GiB, not 1024 MiB.
                let power = match v >= 1024_f64.powi(power as i32 + 1) {
                    true if v % 1024_f64.powi(power as i32 + 1) == 0.0 => power + 1,
                    _ => power,
                };
                let unit = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"][power.min(5)];
                let scaled = v / 1024_f64.powi(power as i32);
                if v == 0.0 {
                    "0".into()
                } else {
                    format!("{} {unit}", trimmed(scaled, 1.0))
                }
            }
            Self::Nanos => {
                let (scale, unit) = match v {
                    _ if v < 999.5 => (1.0, "ns"),
                    _ if v < 999.5e3 => (1e3, "µs"),
                    _ if v < 999.5e6 => (1e6, "ms"),
                    _ => (1e9, "s"),
                };
                format!("{} {unit}", trimmed(v / scale, 1.0))
            }
            Self::Seconds if step >= 60.0 && (v / 60.0).fract() == 0.0 => {
                format!("{} min", v / 60.0)
            }
            Self::Seconds if step >= 30.0 && v >= 60.0 => {
                format!("{}:{:02} min", (v / 60.0).floor(), (v % 60.0).round())
            }
            Self::Seconds => format!("{} s", trimmed(v, step)),
        }
    }
}

/// Nanoseconds, with the unit's proper sign.
pub(crate) fn nanos(v: f64) -> String {
    units::nanos(v.round().max(0.0) as u64).replace(" us", " µs")
}

fn seconds(v: f64) -> String {
    match v {
        _ if v < 600.0 => format!("{v:.1} s"),
        _ => format!("{}:{:04.1} min", (v / 60.0).floor(), v % 60.0),
    }
}

fn thousands(v: f64, step: f64) -> String {
    let (scale, suffix) = match v.abs().max(step) {
        x if x >= 1e9 => (1e9, " G"),
        x if x >= 1e6 => (1e6, " M"),
        x if x >= 1e3 => (1e3, " k"),
        _ => (1.0, ""),
    };
    if v == 0.0 {
        return "0".into();
    }
    format!("{}{suffix}", trimmed(v / scale, step / scale))
}

/// As many digits after the point as the step needs, and no zeros at the end.
fn trimmed(v: f64, step: f64) -> String {
    let digits = (-step.log10()).ceil().clamp(0.0, 6.0) as usize;
    let text = format!("{v:.digits$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_short() {
        assert_eq!(Unit::Count.tick(1.5e6, 5e5), "1.5 M");
        assert_eq!(Unit::Nanos.tick(2e4, 2e4), "20 µs");
        assert_eq!(Unit::Nanos.tick(1e9, 1e9), "1 s");
        assert_eq!(Unit::Bytes.tick(1073741824.0, 536870912.0), "1 GiB");
        assert_eq!(Unit::Ratio.tick(0.5, 0.5), "0.5");
        assert_eq!(Unit::Share.tick(0.5, 0.25), "50 %");
        assert_eq!(Unit::Seconds.tick(2.0, 2.0), "2 s");
        assert_eq!(Unit::Seconds.tick(90.0, 30.0), "1:30 min");
        assert_eq!(Unit::Seconds.tick(120.0, 60.0), "2 min");
    }
}
