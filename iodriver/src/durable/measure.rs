//! Measuring the durable methods against each other.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::DurableMethod;
use crate::buf::IoBuf;
use crate::contract::{Device, Op, Queue, Request};
use crate::error::{IoError, IoErrorKind};
use crate::sync::time;

/// Differences below this are noise; the conservative method wins them.
const NOISE: f64 = 0.05;

/// What is never written in part.
const SECTOR: usize = 512;
/// What is written, over and over.
const TEXT: &[u8; 64] = b"gaur measured here how writes are made durable; nobody needs it\n";

/// A sector as it is written.
fn written() -> [u8; SECTOR] {
    std::array::from_fn(|i| TEXT[i % TEXT.len()])
}

/// Whether a sector of 512 bytes is one that [`measure_durability`] wrote: what an
/// end in its middle left may be written over.
pub fn was_measured(sector: &[u8]) -> bool {
    *sector == written()
}

/// How long one method's writes took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MethodTimes {
    /// The method.
    pub method: DurableMethod,
    /// Writes timed.
    pub writes: usize,
    /// The fastest.
    pub min: Duration,
    /// The median.
    pub median: Duration,
    /// The 99th percentile.
    pub p99: Duration,
    /// The slowest.
    pub max: Duration,
}

/// What [`measure_durability`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DurabilityReport {
    /// Size of each write in bytes.
    pub write_size: u32,
    /// The times, in the order of [`DurableMethod::ALL`].
    pub methods: Vec<MethodTimes>,
    /// The method to use on this device.
    pub recommended: DurableMethod,
}

impl DurabilityReport {
    /// The times of one method.
    pub fn of(&self, method: DurableMethod) -> Option<&MethodTimes> {
        self.methods.iter().find(|t| t.method == method)
    }
}

impl fmt::Display for DurabilityReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "durable writes of {} bytes:", self.write_size)?;
        for t in &self.methods {
            writeln!(
                f,
                "  {:<12} median {:?}, p99 {:?}, max {:?} ({} writes)",
                t.method, t.median, t.p99, t.max, t.writes
            )?;
        }
        write!(f, "  use {}", self.recommended)
    }
}

/// Times `rounds` durable writes by each method, one at a time and the methods
/// in turn, inside `offset..offset + len`. **Overwrites that range**, which the
/// caller must own, with what [`was_measured`] knows. The writes go through it in
/// sequence, as a log's do.
///
/// # Errors
/// `OutOfRange` or `Misaligned` if the range does not hold one write of the
/// physical block size (at least 4 KiB); otherwise as the device says.
pub fn measure_durability(
    device: &dyn Device,
    offset: u64,
    len: u64,
    rounds: usize,
) -> Result<DurabilityReport, IoError> {
    let geometry = device.geometry();
    let size = geometry.physical_block.max(4096);
    let places = len / u64::from(size);
    if places == 0 || rounds == 0 {
        return Err(IoError::new(
            IoErrorKind::OutOfRange,
            "measure durability",
            offset,
            len,
            format!("needs at least one round and a range of at least {size} bytes"),
        ));
    }
    let place = |i: u64| offset + (i % places) * u64::from(size);

    // The first write to a place may cost more than all later ones (allocation
    // below a file or a thin device), so every place is touched before.
    let mut buf = IoBuf::zeroed(size as usize);
    for sector in buf.chunks_mut(SECTOR) {
        sector.copy_from_slice(&written()[..sector.len()]);
    }
    let touched = places.min(2 * rounds as u64);
    for i in 0..touched {
        device.write_at(place(i), &buf)?;
    }
    device.flush()?;

    let handles: Vec<Arc<dyn Device>> = DurableMethod::ALL
        .into_iter()
        .map(|m| device.with_durable_method(m))
        .collect();
    let mut queues = handles
        .iter()
        .map(|d| d.queue(1))
        .collect::<Result<Vec<_>, _>>()?;
    let mut times = vec![Vec::with_capacity(rounds); queues.len()];
    let mut next = 0;
    for round in 0..=rounds {
        for k in 0..queues.len() {
            // The order alternates, so that neither always follows the other.
            let m = if round % 2 == 0 {
                k
            } else {
                queues.len() - 1 - k
            };
            let (time, back) = timed_write(queues[m].as_mut(), place(next), buf)?;
            buf = back;
            next += 1;
            // Round 0 warms up.
            if round > 0 {
                times[m].push(time);
            }
        }
    }
    let methods: Vec<MethodTimes> = DurableMethod::ALL
        .into_iter()
        .zip(times)
        .map(|(method, times)| summarize(method, times))
        .collect();
    let recommended = recommend(&methods);
    Ok(DurabilityReport {
        write_size: size,
        methods,
        recommended,
    })
}

fn timed_write(
    queue: &mut dyn Queue,
    offset: u64,
    buf: IoBuf,
) -> Result<(Duration, IoBuf), IoError> {
    let len = buf.len() as u64;
    let start = time::now();
    queue.submit(&mut vec![Request {
        token: 0,
        op: Op::Write {
            offset,
            buf,
            durable: true,
        },
    }])?;
    let mut done = Vec::with_capacity(1);
    while done.is_empty() {
        queue.wait(1, None, &mut done)?;
    }
    let time = start.elapsed();
    let completion = done.swap_remove(0);
    completion.result?;
    completion.buf.map(|buf| (time, buf)).ok_or_else(|| {
        IoError::new(
            IoErrorKind::Queue,
            "write",
            offset,
            len,
            "the driver kept the buffer",
        )
    })
}

fn summarize(method: DurableMethod, mut times: Vec<Duration>) -> MethodTimes {
    times.sort_unstable();
    let at = |q: f64| times[((times.len() - 1) as f64 * q).round() as usize];
    MethodTimes {
        method,
        writes: times.len(),
        min: at(0.0),
        median: at(0.5),
        p99: at(0.99),
        max: at(1.0),
    }
}

fn recommend(methods: &[MethodTimes]) -> DurableMethod {
    let median = |m| {
        methods
            .iter()
            .find(|t| t.method == m)
            .map_or(f64::MAX, |t| t.median.as_secs_f64())
    };
    let safe = DurableMethod::default();
    methods
        .iter()
        .map(|t| t.method)
        .filter(|&m| median(m) < median(safe) * (1.0 - NOISE))
        .min_by(|&a, &b| median(a).total_cmp(&median(b)))
        .unwrap_or(safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(method: DurableMethod, micros: u64) -> MethodTimes {
        summarize(method, vec![Duration::from_micros(micros); 3])
    }

    #[test]
    fn recommends_the_faster_but_not_for_noise() {
        let of = |flush, dsync| {
            recommend(&[
                times(DurableMethod::WriteFlush, flush),
                times(DurableMethod::Dsync, dsync),
            ])
        };
        assert_eq!(of(1000, 100), DurableMethod::Dsync);
        assert_eq!(of(100, 1000), DurableMethod::WriteFlush);
        assert_eq!(of(1000, 990), DurableMethod::WriteFlush);
    }

    #[test]
    fn a_report_names_each_method_and_the_one_to_use() {
        let report = DurabilityReport {
            write_size: 4096,
            methods: vec![
                times(DurableMethod::WriteFlush, 1000),
                times(DurableMethod::Dsync, 100),
            ],
            recommended: DurableMethod::Dsync,
        };
        assert_eq!(
            report.to_string(),
            "durable writes of 4096 bytes:\n  \
             write-flush  median 1ms, p99 1ms, max 1ms (3 writes)\n  \
             dsync        median 100µs, p99 100µs, max 100µs (3 writes)\n  \
             use dsync"
        );
        let of = |method| report.of(method).map(|t| t.min);
        assert_eq!(of(DurableMethod::Dsync), Some(Duration::from_micros(100)));
    }
}
