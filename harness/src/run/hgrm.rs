//! Histograms as `.hgrm` files: the four columns that HdrHistogram's
//! `outputPercentileDistribution` writes and its plotters read.

use std::io::{self, Write};

use hdrhistogram::Histogram;

/// Steps per halving of the distance to 100 %, HdrHistogram's default.
const TICKS: u32 = 5;

/// Writes nanoseconds as microseconds.
const NANOS_PER_UNIT: f64 = 1000.0;

/// Writes the distribution of a histogram of nanoseconds; values in the file are
/// microseconds.
pub(crate) fn write(h: &Histogram<u64>, out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "{:>12} {:>14} {:>10} {:>14}\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    )?;
    let mut total = 0;
    for step in h.iter_quantiles(TICKS) {
        total += step.count_since_last_iteration();
        let q = step.quantile_iterated_to();
        let value = step.value_iterated_to() as f64 / NANOS_PER_UNIT;
        // As HdrHistogram's C code does: the last line's inverse is infinite.
        if q < 1.0 {
            writeln!(
                out,
                "{value:12.3} {q:2.12} {total:10} {:14.2}",
                1.0 / (1.0 - q)
            )?;
        } else {
            writeln!(out, "{value:12.3} {q:2.12} {total:10} {:>14}", "inf")?;
        }
    }
    writeln!(
        out,
        "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]",
        h.mean() / NANOS_PER_UNIT,
        h.stdev() / NANOS_PER_UNIT
    )?;
    writeln!(
        out,
        "#[Max     = {:12.3}, Total count    = {:12}]",
        h.max() as f64 / NANOS_PER_UNIT,
        h.len()
    )?;
    writeln!(
        out,
        "#[Buckets = {:12}, SubBuckets     = {:12}]",
        h.buckets(),
        2048
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::measure::histogram;

    /// Reads a file of four columns, as a plotter does.
    fn read(text: &str) -> Vec<(f64, f64, u64, f64)> {
        text.lines()
            .skip(1)
            .filter(|l| !l.is_empty() && !l.starts_with('#'))
            .map(|l| {
                let f: Vec<&str> = l.split_whitespace().collect();
                assert_eq!(f.len(), 4, "{l}");
                (
                    f[0].parse().unwrap(),
                    f[1].parse().unwrap(),
                    f[2].parse().unwrap(),
                    f[3].parse().unwrap(),
                )
            })
            .collect()
    }

    #[test]
    fn a_reader_of_four_columns_gets_the_distribution_back() {
        let mut h = histogram::<u64>().unwrap();
        for i in 1..=100_000_u64 {
            h.record(i * 97).unwrap();
        }
        let mut out = Vec::new();
        write(&h, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let rows = read(&text);

        assert!(rows.len() > 50);
        for pair in rows.windows(2) {
            let ((v0, q0, n0, i0), (v1, q1, n1, i1)) = (pair[0], pair[1]);
            assert!(v0 <= v1 && q0 <= q1 && n0 <= n1 && i0 <= i1);
        }
        for &(value, q, total, inverse) in &rows {
            let exact = h.value_at_quantile(q) as f64 / 1000.0;
            assert!(
                (value - exact).abs() <= exact * 0.002 + 0.001,
                "{value} at {q}, not {exact}"
            );
            assert!(total as f64 >= q * 100_000.0 - 1.0);
            if q < 1.0 {
                assert!((inverse - 1.0 / (1.0 - q)).abs() <= inverse * 0.01 + 0.01);
            }
        }
        let last = rows.last().unwrap();
        assert_eq!((last.1, last.2), (1.0, 100_000));
        assert!(last.3.is_infinite());
        assert!(text.contains("Total count    =       100000]"));
        assert!(text.contains("#[Mean    =     4850.0"), "{text}");
    }

    #[test]
    fn an_empty_histogram_is_still_a_file() {
        let mut out = Vec::new();
        write(&histogram::<u64>().unwrap(), &mut out).unwrap();
        assert!(
            String::from_utf8(out)
                .unwrap()
                .contains("Total count    =            0]")
        );
    }
}
