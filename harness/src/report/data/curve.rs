//! `.hgrm` files: percentile curves.

use std::path::Path;

use super::summary::Summary;
use crate::failure::Failure;

/// One operation's latency by percentile.
#[derive(Clone, Debug)]
pub(crate) struct Curve {
    pub(crate) operation: String,
    /// From the real start, where latency counts from the intended one.
    pub(crate) service: bool,
    /// Quantile (1 for the largest) and latency in nanoseconds, both growing.
    pub(crate) points: Vec<(f64, f64)>,
    pub(crate) count: u64,
}

impl Curve {
    /// The latency at a quantile: of the first point that reaches it.
    pub(crate) fn at(&self, quantile: f64) -> Option<f64> {
        let i = self.points.partition_point(|p| p.0 < quantile);
        self.points.get(i).or(self.points.last()).map(|p| p.1)
    }

    /// Points by 1/(1-q). The largest value stands where its rank puts it.
    pub(crate) fn by_rank(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        let end = (self.count as f64).max(1.0);
        self.points
            .iter()
            .map(move |&(q, v)| ((1.0 / (1.0 - q).max(1e-12)).min(end), v))
    }
}

/// Reads the curves of all operations that the summary names.
pub(super) fn read_all(dir: &Path, summary: &Summary) -> Result<Vec<Curve>, Failure> {
    let mut curves: Vec<Curve> = Vec::new();
    for operation in summary.phases.iter().flat_map(|p| &p.operations) {
        if curves.iter().any(|c| c.operation == operation.name) || !is_plain(&operation.name) {
            continue;
        }
        for service in [false, true] {
            // Such a file may be left from an earlier run in the same directory.
            if service && operation.service.is_none() {
                continue;
            }
            let suffix = if service { ".service.hgrm" } else { ".hgrm" };
            let path = dir.join(format!("{}{suffix}", operation.name));
            let Some(text) = super::optional(&path)? else {
                continue;
            };
            let (points, count) = parse(&text, &path)?;
            if count > 0 {
                curves.push(Curve {
                    operation: operation.name.clone(),
                    service,
                    points,
                    count,
                });
            }
        }
    }
    Ok(curves)
}

/// A name that leads nowhere else when it is made a file's.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Points and total count. Values are microseconds.
fn parse(text: &str, at: &Path) -> Result<(Vec<(f64, f64)>, u64), Failure> {
    let (mut points, mut count) = (Vec::new(), 0);
    for (i, line) in text.lines().enumerate() {
        let mut fields = line.split_whitespace();
        let (Some(value), Some(quantile), Some(total)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        if line.starts_with('#') || value == "Value" {
            continue;
        }
        let number = |text: &str| {
            text.parse::<f64>()
                .ok()
                .filter(|x| x.is_finite() && *x >= 0.0)
        };
        match (number(value), number(quantile), total.parse::<u64>()) {
            (Some(value), Some(q), Ok(total)) if q <= 1.0 => {
                points.push((q, value * 1e3));
                count = total;
            }
            _ => {
                return Err(Failure::refused(format!(
                    "{}, line {}: no value, percentile and count; remove the file to do without",
                    at.display(),
                    i + 1
                )));
            }
        }
    }
    Ok((points, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
       Value     Percentile TotalCount 1/(1-Percentile)

       1.000 0.000000000000          1           1.00
       2.000 0.500000000000          2           2.00
      10.000 0.750000000000          4           4.00
      10.000 1.000000000000          4            inf
#[Mean    =        3.0, StdDeviation   =      1.0]
#[Max     =       10.0, Total count    =       4]
#[Buckets =           26, SubBuckets     =         2048]
";

    #[test]
    fn curves_are_read() {
        let (points, count) = parse(TEXT, Path::new("x")).unwrap();
        assert_eq!(count, 4);
        let curve = Curve {
            operation: "read".into(),
            service: false,
            points,
            count,
        };
        assert_eq!(curve.at(0.5), Some(2000.0));
        assert_eq!(curve.at(0.6), Some(10_000.0));
        assert_eq!(curve.by_rank().last(), Some((4.0, 10_000.0)));
    }

    #[test]
    fn what_is_no_number_is_refused_with_its_line() {
        let e = parse("1.0 0.5 2 2.0\nx 0.7 3 1\n", Path::new("read.hgrm")).unwrap_err();
        assert!(e.to_string().contains("read.hgrm, line 2"), "{e}");
    }
}
