//! A wrapper that makes one handle of any device slower.

use std::collections::BinaryHeap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::contract::{Completion, Device, Geometry, Op, Queue, Request, Wake, Waker};
use crate::counters::OpCounts;
use crate::durable::DurableMethod;
use crate::error::IoError;
use crate::latency::{Latency, LatencyProfile};
use crate::sync::rng::{Rng, seeded};
use crate::sync::time::{Duration, Instant};
use crate::sync::{Mutex, thread, time};

/// A handle whose operations take longer than the device's own: each one ends no
/// sooner than its added latency after it was submitted. It keeps the contract of
/// the device below; operations do not wait for each other.
pub struct Delayed {
    device: Arc<dyn Device>,
    profile: LatencyProfile,
    rng: Arc<Mutex<Rng>>,
}

impl fmt::Debug for Delayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delayed")
            .field("device", &self.device)
            .field("profile", &self.profile)
            .finish_non_exhaustive()
    }
}

impl Delayed {
    /// The same delay for all operations.
    #[expect(clippy::new_ret_no_self, reason = "a device is all that it is")]
    pub fn new(device: Arc<dyn Device>, delay: Duration) -> Arc<dyn Device> {
        Self::with_profile(device, LatencyProfile::all(Latency::fixed(delay)), 0)
    }

    /// A delay for each kind of operation, the jitter drawn from `seed`.
    pub fn with_profile(
        device: Arc<dyn Device>,
        profile: LatencyProfile,
        seed: u64,
    ) -> Arc<dyn Device> {
        Arc::new(Self {
            device,
            profile,
            rng: Arc::new(Mutex::new(seeded(seed))),
        })
    }

    /// Does `work` and lets it take at least `latency`.
    fn at_least<T>(&self, latency: Latency, work: impl FnOnce() -> T) -> T {
        let profile = LatencyProfile::all(latency);
        let delay = profile.draw(&Op::Flush, &mut self.rng.lock());
        let start = time::now();
        let result = work();
        let left = delay.saturating_sub(start.elapsed());
        if !left.is_zero() {
            thread::sleep(left);
        }
        result
    }
}

impl Device for Delayed {
    fn geometry(&self) -> Geometry {
        self.device.geometry()
    }

    fn driver(&self) -> &'static str {
        self.device.driver()
    }

    fn queue(&self, depth: u32) -> Result<Box<dyn Queue>, IoError> {
        let queue = self.device.queue(depth)?;
        Ok(Box::new(DelayedQueue {
            bell: Arc::new(DelayedWake {
                woken: AtomicBool::new(false),
                inner: queue.waker(),
            }),
            queue,
            profile: self.profile,
            rng: self.rng.clone(),
            pending: Vec::new(),
            free: Vec::new(),
            held: BinaryHeap::new(),
            arrived: Vec::new(),
        }))
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), IoError> {
        self.at_least(self.profile.read, || self.device.read_at(offset, buf))
    }

    fn write_at(&self, offset: u64, buf: &[u8]) -> Result<(), IoError> {
        self.at_least(self.profile.write, || self.device.write_at(offset, buf))
    }

    fn flush(&self) -> Result<(), IoError> {
        self.at_least(self.profile.flush, || self.device.flush())
    }

    fn refresh(&self) -> Result<Geometry, IoError> {
        self.device.refresh()
    }

    fn grow(&self, capacity: u64, allocated_from: Option<u64>) -> Result<Geometry, IoError> {
        self.at_least(self.profile.flush, || {
            self.device.grow(capacity, allocated_from)
        })
    }

    fn treat_as_sparse(&self) {
        self.device.treat_as_sparse();
    }

    fn preallocate(&self) -> Result<(), IoError> {
        self.at_least(self.profile.flush, || self.device.preallocate())
    }

    fn next_data(&self, offset: u64) -> Result<Option<u64>, IoError> {
        self.device.next_data(offset)
    }

    fn durable_method(&self) -> DurableMethod {
        self.device.durable_method()
    }

    fn with_durable_method(&self, method: DurableMethod) -> Arc<dyn Device> {
        Arc::new(Self {
            device: self.device.with_durable_method(method),
            profile: self.profile,
            rng: self.rng.clone(),
        })
    }

    fn notes(&self) -> Vec<String> {
        self.device.notes()
    }

    fn counters(&self) -> OpCounts {
        self.device.counters()
    }
}

/// A completion that came before its time. Ordered so that the heap's top is the
/// one due first.
#[derive(Debug)]
struct Held {
    due: Instant,
    completion: Completion,
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}

impl Eq for Held {}

impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Held {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.due.cmp(&self.due)
    }
}

/// Tells a wake from the other reasons for which the queue below returns.
#[derive(Debug)]
struct DelayedWake {
    woken: AtomicBool,
    inner: Waker,
}

impl Wake for DelayedWake {
    fn wake(&self) {
        self.woken.store(true, Ordering::Release);
        self.inner.wake();
    }
}

struct DelayedQueue {
    queue: Box<dyn Queue>,
    profile: LatencyProfile,
    rng: Arc<Mutex<Rng>>,
    bell: Arc<DelayedWake>,
    /// The caller's token and the time, by the token used below: tokens of the
    /// caller need not be unique.
    pending: Vec<Option<(u64, Instant)>>,
    free: Vec<usize>,
    held: BinaryHeap<Held>,
    arrived: Vec<Completion>,
}

impl fmt::Debug for DelayedQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DelayedQueue")
            .field("queue", &self.queue)
            .field("held", &self.held.len())
            .finish_non_exhaustive()
    }
}

impl DelayedQueue {
    /// Holds what arrived from below until its time, and gives out what is due.
    fn deliver(&mut self, out: &mut Vec<Completion>) {
        for mut completion in self.arrived.drain(..) {
            let index = completion.token as usize;
            if let Some((token, due)) = self.pending[index].take() {
                self.free.push(index);
                completion.token = token;
                self.held.push(Held { due, completion });
            }
        }
        let now = time::now();
        while self.held.peek().is_some_and(|held| held.due <= now) {
            if let Some(held) = self.held.pop() {
                out.push(held.completion);
            }
        }
    }
}

impl Queue for DelayedQueue {
    fn submit(&mut self, requests: &mut Vec<Request>) -> Result<(), IoError> {
        let now = time::now();
        {
            let mut rng = self.rng.lock();
            for request in requests.iter_mut() {
                let due = now + self.profile.draw(&request.op, &mut rng);
                let entry = Some((request.token, due));
                let index = match self.free.pop() {
                    Some(index) => {
                        self.pending[index] = entry;
                        index
                    }
                    None => {
                        self.pending.push(entry);
                        self.pending.len() - 1
                    }
                };
                request.token = index as u64;
            }
        }
        self.queue.submit(requests)
    }

    fn wait(
        &mut self,
        at_least: usize,
        timeout: Option<Duration>,
        out: &mut Vec<Completion>,
    ) -> Result<usize, IoError> {
        let before = out.len();
        let any = at_least == usize::MAX;
        let look = !any && (at_least == 0 || self.in_flight() < at_least);
        let goal = if any { 1 } else { at_least };
        let deadline = timeout.and_then(|t| time::now().checked_add(t));
        loop {
            self.queue.wait(0, None, &mut self.arrived)?;
            self.deliver(out);
            let n = out.len() - before;
            let woken = at_least > 0 && self.bell.woken.swap(false, Ordering::AcqRel);
            if woken || look || n >= goal {
                return Ok(n);
            }
            let now = time::now();
            let next = self.held.peek().map(|held| held.due);
            let until = match (deadline, next) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            if deadline.is_some_and(|d| d <= now) {
                return Ok(n);
            }
            let sleep = until.map(|t| t.saturating_duration_since(now));
            self.queue.wait(usize::MAX, sleep, &mut self.arrived)?;
        }
    }

    fn in_flight(&self) -> usize {
        self.pending.len() - self.free.len() + self.held.len()
    }

    fn waker(&self) -> Waker {
        self.bell.clone()
    }

    fn hand_over(&mut self) {
        self.queue.hand_over();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Op;
    use crate::error::IoErrorKind;
    use crate::open::{DriverChoice, OpenOptions, open};
    use crate::sim::{Fault, FaultKind, OpKind, SimDisk, SimOptions};

    const DELAY: Duration = Duration::from_millis(5);

    #[test]
    fn a_delayed_file_can_do_what_the_file_can() {
        let dir = tempfile::tempdir().unwrap();
        let options = OpenOptions {
            create: Some(1 << 20),
            sparse: true,
            driver: DriverChoice::Psync,
            ..OpenOptions::default()
        };
        let device = open(dir.path().join("file"), &options).unwrap().device;
        let slow = Delayed::new(device.clone(), DELAY);
        let start = time::now();
        assert_eq!(slow.grow(2 << 20, None).unwrap().capacity, 2 << 20);
        slow.preallocate().unwrap();
        assert!(start.elapsed() >= 2 * DELAY);
        assert_eq!(slow.refresh().unwrap(), device.geometry());
        assert_eq!(
            slow.next_data(4096).unwrap(),
            device.next_data(4096).unwrap()
        );
        slow.treat_as_sparse();
        assert!(device.geometry().discard_zeroes);
        assert_eq!(slow.notes(), device.notes());
        assert_eq!(slow.driver(), "psync");
        assert!(format!("{slow:?}").starts_with("Delayed { device: PsyncDevice"));
        let other = slow.with_durable_method(DurableMethod::Dsync);
        assert_eq!(other.durable_method(), DurableMethod::Dsync);
        let start = time::now();
        other.flush().unwrap();
        assert!(start.elapsed() >= DELAY);
    }

    #[test]
    fn what_fails_below_fails_as_late() {
        let disk = SimDisk::new(SimOptions::default());
        disk.inject(Fault::once(
            OpKind::Flush,
            0,
            FaultKind::Fail(IoErrorKind::Failed),
        ));
        let mut queue = Delayed::new(disk.device(), DELAY).queue(2).unwrap();
        let start = time::now();
        let flush = |token| Request {
            token,
            op: Op::Flush,
        };
        queue.submit(&mut vec![flush(1), flush(1)]).unwrap();
        assert!(format!("{queue:?}").contains("held: 0"));
        let mut out = Vec::new();
        // The time is over before anything is due.
        let early = queue.wait(2, Some(Duration::ZERO), &mut out).unwrap();
        assert!(early == 0 || start.elapsed() >= DELAY);
        while out.len() < 2 {
            queue.wait(2 - out.len(), None, &mut out).unwrap();
        }
        assert!(start.elapsed() >= DELAY);
        assert_eq!(out.iter().filter(|c| c.result.is_err()).count(), 1);
        assert!(out.iter().all(|c| c.token == 1), "tokens need not differ");
        // Another thread may go on with it.
        queue.hand_over();
        thread::spawn("other", move || {
            queue.submit(&mut vec![flush(3)]).unwrap();
            queue.wait(1, None, &mut Vec::new()).unwrap()
        })
        .unwrap()
        .join()
        .unwrap();
    }
}
