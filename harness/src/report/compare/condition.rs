//! What must not be: `p99 > 1.2x`, `read.p99.9 > 5ms`, `throughput < 0.9x`.

use std::fmt;
use std::str::FromStr;

use super::{ALL, Comparison, Row};
use crate::failure::Failure;
use crate::report::data::summary::PERCENTILES;
use crate::report::plot::unit::nanos;
use crate::units;

/// A bound on a figure of B, or on its ratio to A's.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Condition {
    text: String,
    /// One operation; none: any, or for throughput all together.
    operation: Option<String>,
    metric: String,
    /// Above the bound fails, or below; with the bound itself or without.
    above: bool,
    or_equal: bool,
    bound: Bound,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Bound {
    /// Times A's.
    Ratio(f64),
    /// Nanoseconds, or operations a second.
    Absolute(f64),
}

const SYNTAX: &str = "write [OPERATION.]FIGURE, one of > < >= <=, and a bound: \"p99 > 1.2x\", \
                      \"read.p99.9 > 5ms\", \"throughput < 0.9x\"";

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |what: String| format!("{text:?}: {what}; {SYNTAX}");
        let at = text
            .find(['<', '>'])
            .ok_or_else(|| wrong("there is no > or <".into()))?;
        let (left, rest) = text.split_at(at);
        let above = rest.starts_with('>');
        let rest = &rest[1..];
        let (or_equal, rest) = rest.strip_prefix('=').map_or((false, rest), |r| (true, r));
        let left = left.trim();
        let known = |m: &str| {
            matches!(m, "throughput" | "mean" | "max") || PERCENTILES.iter().any(|p| p.0 == m)
        };
        // The figure may hold a dot itself.
        let (operation, metric) = match left.split_once('.') {
            _ if known(left) => (None, left),
            Some((operation, metric)) if known(metric) && !operation.is_empty() => {
                (Some(operation.to_owned()), metric)
            }
            _ => {
                let names: Vec<_> = PERCENTILES.iter().map(|p| p.0).collect();
                return Err(wrong(format!(
                    "{left:?} is no figure; there are throughput, mean, {} and max",
                    names.join(", ")
                )));
            }
        };
        if operation.as_deref() == Some(ALL) && metric != "throughput" {
            return Err(wrong(
                "all operations together have a throughput only".into(),
            ));
        }
        let bound = bound(rest.trim(), metric == "throughput").map_err(wrong)?;
        Ok(Self {
            text: text.trim().to_owned(),
            operation: operation.filter(|o| o != ALL),
            metric: metric.to_owned(),
            above,
            or_equal,
            bound,
        })
    }
}

fn bound(text: &str, rate: bool) -> Result<Bound, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number
        .parse()
        .map_err(|_| format!("{text:?} is no bound"))?;
    let scale = match unit.trim() {
        "x" => return Ok(Bound::Ratio(number)),
        "" if rate => return Ok(Bound::Absolute(number)),
        "" => return Err(format!("{text:?} has no unit: x, ns, us, ms or s")),
        "/s" if rate => return Ok(Bound::Absolute(number)),
        "ns" => 1.0,
        "us" | "µs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        other => return Err(format!("{other:?} is no unit")),
    };
    match rate {
        true => Err(format!("{text:?} is a time, and throughput is none")),
        false => Ok(Bound::Absolute(number * scale)),
    }
}

impl Condition {
    /// What holds of it: a line for each figure. Refuses what the runs do not have.
    pub(crate) fn held(&self, c: &Comparison) -> Result<Vec<String>, Failure> {
        let meant = |r: &&Row| {
            r.metric == self.metric
                && match &self.operation {
                    Some(o) => r.operation == *o,
                    None => (self.metric == "throughput") == (r.operation == ALL),
                }
        };
        let rows: Vec<&Row> = c.rows.iter().filter(meant).collect();
        if rows.is_empty() {
            let mut names: Vec<&str> = c.rows.iter().map(|r| r.operation.as_str()).collect();
            names.dedup();
            return Err(Failure::refused(format!(
                "{:?}: these runs have no such figure in common; operations are {}",
                self.text,
                names.join(", ")
            )));
        }
        let fails = |r: &&&Row| {
            let (value, bound) = match self.bound {
                Bound::Absolute(bound) => (Some(r.b), bound),
                Bound::Ratio(bound) => (r.ratio, bound),
            };
            // What is not a number is not within a bound.
            value.is_none_or(|v| match (self.above, self.or_equal) {
                (true, false) => v > bound,
                (true, true) => v >= bound,
                (false, false) => v < bound,
                (false, true) => v <= bound,
            })
        };
        let tell = |r: &&Row| {
            let interval = match r.interval {
                Some((low, high)) => format!(", 95 % {low:.3} to {high:.3}"),
                None => String::new(),
            };
            format!(
                "{}: {}.{} is {}, {}x{interval}",
                self.text,
                r.operation,
                r.metric,
                show(r.metric, r.b),
                r.ratio.map_or("?".into(), |x| format!("{x:.3}")),
            )
        };
        Ok(rows.iter().filter(fails).map(tell).collect())
    }
}

/// A figure for people.
pub(crate) fn show(metric: &str, v: f64) -> String {
    match metric {
        "throughput" => format!("{}/s", units::rate(v)),
        _ => nanos(v),
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read() {
        let c: Condition = "read.p99.9 >= 1.5ms".parse().unwrap();
        assert_eq!(
            (c.operation.as_deref(), c.metric.as_str()),
            (Some("read"), "p99.9")
        );
        assert!(c.above && c.or_equal);
        assert_eq!(c.bound, Bound::Absolute(1.5e6));
        let c: Condition = "p99.9>1.2x".parse().unwrap();
        assert_eq!((c.operation, c.bound), (None, Bound::Ratio(1.2)));
        let c: Condition = "throughput < 20000".parse().unwrap();
        assert_eq!((c.above, c.bound), (false, Bound::Absolute(20_000.0)));
        assert_eq!(
            "all.throughput < 1x"
                .parse::<Condition>()
                .unwrap()
                .operation,
            None
        );
    }

    #[test]
    fn bad_syntax_is_told() {
        for (text, what) in [
            ("", "no > or <"),
            ("p99", "no > or <"),
            ("p98 > 1x", "\"p98\" is no figure"),
            ("p99 > ", "no bound"),
            ("p99 > fast", "no bound"),
            ("p99 > 5", "no unit"),
            ("p99 > 5 parsecs", "\"parsecs\" is no unit"),
            ("throughput < 5ms", "is a time"),
            (".p99 > 1x", "is no figure"),
            ("p99 > 1.2.3x", "no bound"),
            ("p99 > 1x > 2x", "no unit"),
        ] {
            let e = text.parse::<Condition>().unwrap_err();
            assert!(e.contains(what) && e.contains("p99 > 1.2x"), "{text}: {e}");
        }
    }
}
