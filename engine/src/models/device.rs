//! A device of a model: completes at once what is submitted, and stores nothing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use gaur_iodriver::sync::atomic::{AtomicU64, Ordering};
use gaur_iodriver::sync::channel::{self, Receiver, Sender};
use gaur_iodriver::{
    Completion, Device, DurableMethod, Geometry, IoError, IoErrorKind, Op, OpCounts, Queue,
    Request, Wake, Waker,
};

use crate::format::log::LogHeader;

/// The device; what it knows of the log is the newest commit that was written to it.
#[derive(Debug)]
pub(crate) struct Media {
    capacity: u64,
    written: AtomicU64,
}

impl Media {
    pub(crate) fn new(capacity: u64) -> Arc<Self> {
        Arc::new(Self {
            capacity,
            written: AtomicU64::new(0),
        })
    }

    /// The newest commit on it. Orders nothing.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }
}

/// Has the device's queues.
#[derive(Debug)]
struct Handle(Arc<Media>);

impl Media {
    pub(crate) fn device(self: &Arc<Self>) -> Arc<dyn Device> {
        Arc::new(Handle(self.clone()))
    }
}

/// Wakes are kept for the next wait; several may become one.
#[derive(Debug)]
struct Bell {
    ring: Sender<()>,
    rung: Receiver<()>,
}

impl Bell {
    fn new() -> Arc<Self> {
        let (ring, rung) = channel::bounded(1);
        Arc::new(Self { ring, rung })
    }
}

impl Wake for Bell {
    fn wake(&self) {
        let _ = self.ring.try_send(());
    }
}

#[derive(Debug)]
struct ModelQueue {
    media: Arc<Media>,
    bell: Arc<Bell>,
    taken: VecDeque<Request>,
}

impl Queue for ModelQueue {
    fn submit(&mut self, requests: &mut Vec<Request>) -> Result<(), IoError> {
        self.taken.extend(requests.drain(..));
        Ok(())
    }

    fn wait(
        &mut self,
        at_least: usize,
        _timeout: Option<Duration>,
        out: &mut Vec<Completion>,
    ) -> Result<usize, IoError> {
        if self.taken.is_empty() && at_least == usize::MAX {
            self.bell.rung.recv().expect("the bell has its other end");
        }
        let before = out.len();
        for Request { token, op } in self.taken.drain(..) {
            let buf = match op {
                Op::Read { buf, .. } => Some(buf),
                Op::Write { buf, .. } => {
                    let header = LogHeader::decode(&buf);
                    let last = header.first_csn + u64::from(header.records) - 1;
                    self.media.written.store(last, Ordering::Relaxed);
                    Some(buf)
                }
                Op::Flush | Op::Discard { .. } => None,
            };
            out.push(Completion {
                token,
                result: Ok(()),
                buf,
            });
        }
        Ok(out.len() - before)
    }

    fn in_flight(&self) -> usize {
        self.taken.len()
    }

    fn waker(&self) -> Waker {
        self.bell.clone()
    }
}

fn unsupported() -> IoError {
    IoError {
        kind: IoErrorKind::Unsupported,
        what: "a model's device",
        offset: 0,
        len: 0,
        os: None,
        detail: String::new(),
    }
}

impl Device for Handle {
    fn geometry(&self) -> Geometry {
        Geometry {
            capacity: self.0.capacity,
            logical_block: 512,
            physical_block: 512,
            offset_align: 512,
            memory_align: 512,
            volatile_cache: false,
            discard_granularity: 0,
            discard_alignment: 0,
            max_discard: 0,
            discard_zeroes: false,
            is_block_device: false,
            direct: true,
        }
    }

    fn driver(&self) -> &'static str {
        "model"
    }

    fn queue(&self, _depth: u32) -> Result<Box<dyn Queue>, IoError> {
        Ok(Box::new(ModelQueue {
            media: self.0.clone(),
            bell: Bell::new(),
            taken: VecDeque::new(),
        }))
    }

    fn read_at(&self, _offset: u64, _buf: &mut [u8]) -> Result<(), IoError> {
        Err(unsupported())
    }

    fn write_at(&self, _offset: u64, _buf: &[u8]) -> Result<(), IoError> {
        Err(unsupported())
    }

    fn flush(&self) -> Result<(), IoError> {
        Ok(())
    }

    fn refresh(&self) -> Result<Geometry, IoError> {
        Ok(self.geometry())
    }

    fn grow(&self, _capacity: u64, _allocated_from: Option<u64>) -> Result<Geometry, IoError> {
        Err(unsupported())
    }

    fn durable_method(&self) -> DurableMethod {
        DurableMethod::default()
    }

    fn with_durable_method(&self, _method: DurableMethod) -> Arc<dyn Device> {
        self.0.device()
    }

    fn counters(&self) -> OpCounts {
        OpCounts::default()
    }
}
