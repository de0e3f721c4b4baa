//! Models of group commit, of waiting for space, and of stopping; see `crate::models`.

use std::sync::Arc;
use std::time::Duration;

use gaur_iodriver::Wake;

use super::ring::Ring;
use super::shared::Shared;
use super::{Log, LogConfig, LogHead, LogTail, OpsBuilder, Record, record_check};
use crate::error::Error;
use crate::format::{Csn, Geometry, Run};
use crate::models::{Media, explore, explore_deep, spawn};

const BLOCKS: u32 = 256;

fn config() -> (Ring, LogConfig) {
    let geometry = Geometry::new(512, u64::from(BLOCKS + 3) * 512, 0);
    let ring = Ring::from_pieces(
        geometry,
        &[Run {
            start: 3,
            len: BLOCKS,
        }],
    );
    let geometry = Geometry::new(512, 1 << 30, ring.len());
    let mut c = LogConfig::new(geometry, 1, 1);
    c.max_record = 512;
    c.in_flight = 1;
    // No time runs out: who is not woken waits for ever.
    c.buffered_interval = Duration::from_secs(1 << 20);
    (ring, c)
}

fn log(media: &Arc<Media>) -> Arc<Log> {
    let (ring, config) = config();
    let (head, tail) = (LogHead::default(), LogTail::default());
    Arc::new(Log::start_on(ring, media.device(), config, head, tail, Box::new(|| {})).unwrap())
}

fn append(log: &Log) -> Option<Csn> {
    let mut ops = OpsBuilder::new();
    ops.put(1, b"k", b"v").unwrap();
    log.try_append(&Record {
        ops: ops.as_bytes(),
        count: ops.count(),
        check: record_check(ops.as_bytes()),
        names_extents: false,
        sync: true,
    })
    .ok()
}

#[test]
fn who_is_told_durable_is_on_the_device() {
    explore_deep(2, || {
        let media = Media::new(1 << 20);
        let log = log(&media);
        let (l, m) = (log.clone(), media.clone());
        let other = spawn(move || {
            let csn = append(&l).unwrap();
            l.wait_durable(csn).unwrap();
            assert!(m.written() >= csn, "not on the device");
        });
        let durable = log.durable_csn();
        assert!(media.written() >= durable, "not on the device");
        other.join().unwrap();
        log.shutdown().unwrap();
    });
}

#[test]
fn a_group_is_woken() {
    // A deadlock, if one of the two is not.
    explore_deep(1, || {
        let media = Media::new(1 << 20);
        let log = log(&media);
        let committers = [(); 2].map(|()| {
            let (l, m) = (log.clone(), media.clone());
            spawn(move || {
                let csn = append(&l).unwrap();
                l.wait_durable(csn).unwrap();
                assert!(m.written() >= csn, "not on the device");
            })
        });
        committers.into_iter().for_each(|c| c.join().unwrap());
        assert_eq!(log.shutdown().unwrap().last_csn, 2);
    });
}

#[test]
fn who_waits_when_the_log_stops_is_told() {
    explore_deep(2, || {
        let media = Media::new(1 << 20);
        let log = log(&media);
        let l = log.clone();
        let other = spawn(move || {
            if let Some(csn) = append(&l) {
                match l.wait_durable(csn) {
                    Ok(()) | Err(Error::OutcomeUnknown { .. }) => {}
                    Err(e) => panic!("{e}"),
                }
            }
        });
        log.stop("a model".into());
        other.join().unwrap();
        assert!(log.shutdown().is_err());
    });
}

#[derive(Debug)]
struct NoThread;

impl Wake for NoThread {
    fn wake(&self) {}
}

/// What the threads share, without a log thread.
fn shared() -> Arc<Shared> {
    let (ring, config) = config();
    Arc::new(Shared::new(
        config,
        ring,
        LogHead::default(),
        LogTail::default(),
        Media::new(1 << 20).device(),
        Arc::new(NoThread),
        Box::new(|| {}),
    ))
}

#[test]
fn who_waits_for_space_is_woken() {
    explore(None, || {
        let shared = shared();
        shared.state.lock().pressed = true;
        let s = shared.clone();
        let waiter = spawn(move || {
            // As `Log::wait_space` looks: under the lock of the state.
            s.wait_space(|| !s.state.lock().pressed);
        });
        shared.state.lock().pressed = false;
        shared.space_freed();
        waiter.join().unwrap();
    });
}

#[test]
fn who_waits_for_space_when_the_log_stops_is_woken() {
    explore(None, || {
        let shared = shared();
        let s = shared.clone();
        let waiter = spawn(move || s.wait_space(|| false));
        shared.release_all();
        waiter.join().unwrap();
    });
}

#[test]
fn who_waits_for_a_commit_when_the_log_ends_is_woken() {
    explore(None, || {
        let shared = shared();
        let s = shared.clone();
        let waiter = spawn(move || s.wait_durable(1).is_err());
        shared.release_all();
        assert!(waiter.join().unwrap());
    });
}
