//! `run.hlog`: a histogram per second and operation.

use std::path::PathBuf;

use base64::Engine as _;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

use super::bins::Bins;
use crate::failure::Failure;

/// The log, decoded as it is walked: all histograms at once may not fit memory.
#[derive(Debug)]
pub(crate) struct Intervals {
    text: String,
    path: PathBuf,
}

/// One histogram of the log.
#[derive(Debug)]
pub(crate) struct Interval<'a> {
    pub(crate) operation: &'a str,
    /// Counted from the real start.
    pub(crate) service: bool,
    /// Since the start of the first phase.
    pub(crate) begin: f64,
    pub(crate) seconds: f64,
    pub(crate) bins: Bins,
}

impl Intervals {
    pub(super) fn new(text: String, path: PathBuf) -> Self {
        Self { text, path }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Calls `each` for every histogram, in the log's order.
    pub(crate) fn walk(&self, mut each: impl FnMut(Interval<'_>)) -> Result<(), Failure> {
        let wrong = |n: usize, what: &str| {
            Failure::refused(format!(
                "{}: {what} after {n} histogram(s); remove the file to do without",
                self.path.display()
            ))
        };
        // A run that was killed leaves half a line at the end.
        let whole = self.text.rfind('\n').map_or(0, |end| end + 1);
        let mut decode = Deserializer::new();
        let mut origin = 0.0;
        let mut n = 0;
        for entry in IntervalLogIterator::new(&self.text.as_bytes()[..whole]) {
            let log = match entry {
                Err(_) => return Err(wrong(n, "a line that is no interval")),
                Ok(LogEntry::StartTime(t)) => {
                    origin = t.as_secs_f64();
                    continue;
                }
                Ok(LogEntry::BaseTime(_)) => continue,
                Ok(LogEntry::Interval(log)) => log,
            };
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(log.encoded_histogram())
                .map_err(|_| wrong(n, "a histogram that is no base64"))?;
            let histogram = decode
                .deserialize::<u64, _>(&mut bytes.as_slice())
                .map_err(|_| wrong(n, "a damaged histogram"))?;
            let mut bins = Bins::default();
            bins.add_histogram(&histogram);
            let tag = log.tag().map_or("", |t| t.as_str());
            let begin = log.start_timestamp().as_secs_f64();
            n += 1;
            each(Interval {
                operation: tag.strip_suffix(".service").unwrap_or(tag),
                service: tag.ends_with(".service"),
                // Wall-clock time where it is within a year of the start, as other
                // readers of these logs have it.
                begin: match origin > 0.0 && begin > origin - 365.0 * 86_400.0 {
                    true => begin - origin,
                    false => begin,
                },
                seconds: log.duration().as_secs_f64(),
                bins,
            });
        }
        Ok(())
    }
}
