//! A device in memory: completions out of order, a volatile cache of which a crash
//! keeps any part, failures by index.

use std::sync::Arc;
use std::time::Duration;

use gaur_iodriver::contract::Wake;
use gaur_iodriver::sync::channel::{Receiver, Sender, bounded};
use gaur_iodriver::sync::rng::{Rng, seeded};
use gaur_iodriver::sync::{Mutex, thread};
use gaur_iodriver::{
    Completion, Device, Geometry, IoBuf, IoError, IoErrorKind, Op, Queue, Request, Waker,
};
use rand::RngExt;

const SECTOR: usize = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A write was submitted.
    Write(u64),
    /// A flush has completed.
    Flush,
}

#[derive(Debug, Default)]
pub(super) struct Disk {
    /// What a read sees.
    bytes: Vec<u8>,
    /// What certainly survives.
    stable: Vec<u8>,
    /// Writes that may survive in part: id, offset, data, completed.
    volatile: Vec<(u64, usize, Vec<u8>, bool)>,
    writes: u64,
    flushes: u64,
    /// Fails the write, or flush, of this index.
    pub(super) fail_write: Option<u64>,
    pub(super) fail_flush: Option<u64>,
    /// Time that each round of completions takes.
    pub(super) latency: Duration,
    pub(super) trace: Vec<Event>,
}

#[derive(Clone, Debug)]
pub(super) struct MemDevice {
    pub(super) disk: Arc<Mutex<Disk>>,
    seed: u64,
}

impl MemDevice {
    pub(super) fn new(bytes: usize, seed: u64) -> Self {
        Self::with(vec![0; bytes], seed)
    }

    fn with(bytes: Vec<u8>, seed: u64) -> Self {
        let disk = Disk {
            stable: bytes.clone(),
            bytes,
            ..Disk::default()
        };
        Self {
            disk: Arc::new(Mutex::new(disk)),
            seed,
        }
    }

    /// What the power cut leaves: any part of what was not durable.
    pub(super) fn crash(&self, rng: &mut Rng) -> Self {
        let disk = self.disk.lock();
        let mut bytes = disk.stable.clone();
        let keep = [0.0, 0.3, 0.7, 1.0][rng.random_range(0..4)];
        for (_, offset, data, _) in &disk.volatile {
            // Whole writes lost or kept, or torn.
            let keep = if rng.random() {
                keep
            } else {
                f64::from(rng.random::<bool>())
            };
            for (i, sector) in data.chunks(SECTOR).enumerate() {
                if rng.random_bool(keep) {
                    let at = offset + i * SECTOR;
                    bytes[at..at + sector.len()].copy_from_slice(sector);
                }
            }
        }
        Self::with(bytes, rng.random())
    }

    /// Changes one byte of what is there.
    pub(super) fn flip(&self, offset: u64) {
        let mut disk = self.disk.lock();
        disk.bytes[offset as usize] ^= 0x40;
        disk.stable[offset as usize] ^= 0x40;
    }

    pub(super) fn copy(&self) -> Self {
        Self::with(self.disk.lock().bytes.clone(), self.seed)
    }
}

fn failed(what: &'static str) -> IoError {
    IoError {
        kind: IoErrorKind::Failed,
        what,
        offset: 0,
        len: 0,
        os: Some(5),
        detail: "injected".into(),
    }
}

impl Disk {
    fn begin(&mut self, offset: u64, data: &[u8]) -> Result<u64, IoError> {
        let id = self.writes;
        self.writes += 1;
        self.trace.push(Event::Write(offset));
        let at = offset as usize;
        assert!(at.is_multiple_of(SECTOR) && data.len().is_multiple_of(SECTOR));
        self.volatile.push((id, at, data.to_vec(), false));
        if self.fail_write == Some(id) {
            return Err(failed("write"));
        }
        self.bytes[at..at + data.len()].copy_from_slice(data);
        Ok(id)
    }

    fn end(&mut self, id: u64, durable: bool) {
        let i = self.volatile.iter().position(|w| w.0 == id).unwrap();
        self.volatile[i].3 = true;
        if durable {
            let (_, at, data, _) = self.volatile.swap_remove(i);
            self.stable[at..at + data.len()].copy_from_slice(&data);
        }
    }

    fn flush(&mut self) -> Result<(), IoError> {
        self.flushes += 1;
        if self.fail_flush == Some(self.flushes - 1) {
            return Err(failed("flush"));
        }
        let stable = &mut self.stable;
        self.volatile.retain(|(_, at, data, done)| {
            if *done {
                stable[*at..at + data.len()].copy_from_slice(data);
            }
            !done
        });
        self.trace.push(Event::Flush);
        Ok(())
    }
}

impl Device for MemDevice {
    fn geometry(&self) -> Geometry {
        Geometry {
            capacity: self.disk.lock().bytes.len() as u64,
            logical_block: SECTOR as u32,
            physical_block: SECTOR as u32,
            offset_align: SECTOR as u32,
            memory_align: SECTOR as u32,
            volatile_cache: true,
            discard_granularity: 0,
            is_block_device: false,
            direct: true,
        }
    }

    fn driver(&self) -> &'static str {
        "sim"
    }

    fn queue(&self, _depth: u32) -> Result<Box<dyn Queue>, IoError> {
        let (wake, woken) = bounded(1);
        Ok(Box::new(MemQueue {
            device: self.clone(),
            rng: seeded(self.seed),
            running: Vec::new(),
            wake: Arc::new(MemWaker(wake)),
            woken,
        }))
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), IoError> {
        let at = offset as usize;
        buf.copy_from_slice(&self.disk.lock().bytes[at..at + buf.len()]);
        Ok(())
    }

    fn write_at(&self, offset: u64, buf: &[u8]) -> Result<(), IoError> {
        let mut disk = self.disk.lock();
        let id = disk.begin(offset, buf)?;
        disk.end(id, false);
        Ok(())
    }

    fn flush(&self) -> Result<(), IoError> {
        self.disk.lock().flush()
    }

    fn refresh(&self) -> Result<Geometry, IoError> {
        Ok(self.geometry())
    }
}

#[derive(Debug)]
struct MemWaker(Sender<()>);

impl Wake for MemWaker {
    fn wake(&self) {
        let _ = self.0.try_send(());
    }
}

/// Token, kind of end, buffer.
type Running = (u64, Result<Option<(u64, bool)>, IoError>, Option<IoBuf>);

#[derive(Debug)]
struct MemQueue {
    device: MemDevice,
    rng: Rng,
    running: Vec<Running>,
    wake: Arc<MemWaker>,
    woken: Receiver<()>,
}

impl Queue for MemQueue {
    fn submit(&mut self, requests: &mut Vec<Request>) -> Result<(), IoError> {
        let mut disk = self.device.disk.lock();
        for r in requests.drain(..) {
            self.running.push(match r.op {
                Op::Write {
                    offset,
                    buf,
                    durable,
                } => (
                    r.token,
                    disk.begin(offset, &buf).map(|id| Some((id, durable))),
                    Some(buf),
                ),
                Op::Flush => (r.token, Ok(None), None),
                other => unreachable!("the log thread only writes: {other:?}"),
            });
        }
        Ok(())
    }

    fn wait(
        &mut self,
        _at_least: usize,
        timeout: Option<Duration>,
        out: &mut Vec<Completion>,
    ) -> Result<usize, IoError> {
        if self.running.is_empty() {
            let _ = match timeout {
                Some(t) => self.woken.recv_timeout(t).is_ok(),
                None => self.woken.recv().is_ok(),
            };
            return Ok(0);
        }
        let latency = self.device.disk.lock().latency;
        if latency.is_zero() {
            thread::yield_now();
        } else {
            thread::sleep(latency);
        }
        let n = self.rng.random_range(0..=self.running.len());
        for _ in 0..n {
            let i = self.rng.random_range(0..self.running.len());
            let (token, how, buf) = self.running.swap_remove(i);
            let mut disk = self.device.disk.lock();
            let result = match how {
                Ok(Some((id, durable))) => {
                    disk.end(id, durable);
                    Ok(())
                }
                Ok(None) => disk.flush(),
                Err(e) => Err(e),
            };
            out.push(Completion { token, result, buf });
        }
        Ok(n)
    }

    fn in_flight(&self) -> usize {
        self.running.len()
    }

    fn waker(&self) -> Waker {
        self.wake.clone()
    }
}
