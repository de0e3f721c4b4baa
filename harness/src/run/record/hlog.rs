//! `run.hlog`: a histogram per second and operation, in the format that
//! HdrHistogram's log readers and plotters know.

use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use super::interval::Ops;
use crate::failure::Failure;
use crate::run::measure::Op;

/// Maxima stand in the log as milliseconds, which only people read.
const NANOS_PER_MILLI: f64 = 1e6;

fn failed(e: impl std::fmt::Display) -> Failure {
    Failure::refused(format!("cannot write the histogram log: {e}"))
}

/// The lines before the first histogram.
pub(super) fn head(start: SystemTime) -> Result<Vec<u8>, Failure> {
    let mut out = Vec::new();
    IntervalLogWriterBuilder::new()
        .add_comment("[Histogram log format version 1.3]")
        .add_comment("[Values are nanoseconds; Interval_Max is in milliseconds]")
        .with_start_time(start)
        .begin_log_with(&mut out, &mut V2DeflateSerializer::new())
        .map_err(failed)?;
    out.extend(
        b"\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n",
    );
    Ok(out)
}

/// A line for each operation that occurred, and for its time from the real start.
pub(super) fn lines(begin: Duration, took: Duration, ops: &Ops) -> Result<Vec<u8>, Failure> {
    let mut out = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let mut log = IntervalLogWriterBuilder::new();
    let mut log = log
        .with_max_value_divisor(NANOS_PER_MILLI)
        .begin_log_with(&mut out, &mut serializer)
        .map_err(failed)?;
    let mut write = |name: &str, h: &Histogram<u32>| {
        log.write_histogram(h, begin, took, Tag::new(name))
            .map_err(|e| failed(format_args!("{e:?}")))
    };
    for (op, short) in Op::ALL.into_iter().zip(ops) {
        let Some(short) = short.as_ref().filter(|s| !s.is_empty()) else {
            continue;
        };
        write(op.name(), &short.latency)?;
        if let Some(service) = &short.service {
            write(&format!("{}.service", op.name()), service)?;
        }
    }
    Ok(out)
}
