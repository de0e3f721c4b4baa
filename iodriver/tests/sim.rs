//! What the simulated disk does beyond the contract: power cuts, faults, damage.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use gaur_iodriver::{
    Completion, CrashMode, Delayed, Device, DiscardFill, Fault, FaultKind, IoBuf, IoErrorKind,
    Latency, LatencyProfile, Op, OpKind, Queue, Request, SimDisk, SimOptions,
};

const BLOCK: usize = 4096;
const B: u64 = BLOCK as u64;

fn disk() -> SimDisk {
    SimDisk::new(SimOptions::default())
}

fn block(byte: u8) -> IoBuf {
    blocks(1, byte)
}

fn blocks(n: usize, byte: u8) -> IoBuf {
    let mut buf = IoBuf::zeroed(n * BLOCK);
    buf.fill(byte);
    buf
}

/// The byte that fills a block, if one does.
fn at(disk: &SimDisk, number: u64) -> Option<u8> {
    let bytes = disk.peek(number * B, BLOCK);
    bytes.iter().all(|&b| b == bytes[0]).then_some(bytes[0])
}

fn put(device: &Arc<dyn Device>, number: u64, byte: u8) {
    device.write_at(number * B, &block(byte)).expect("write");
}

fn write_request(token: u64, number: u64, buf: IoBuf, durable: bool) -> Request {
    Request {
        token,
        op: Op::Write {
            offset: number * B,
            buf,
            durable,
        },
    }
}

fn flush_request(token: u64) -> Request {
    Request {
        token,
        op: Op::Flush,
    }
}

fn submit(queue: &mut dyn Queue, requests: Vec<Request>) {
    queue.submit(&mut { requests }).expect("submit");
}

fn finish(queue: &mut dyn Queue) -> Vec<Completion> {
    let mut out = Vec::new();
    while queue.in_flight() > 0 {
        queue.wait(queue.in_flight(), None, &mut out).expect("wait");
    }
    out.sort_by_key(|c| c.token);
    out
}

fn failed_with(result: Result<(), gaur_iodriver::IoError>) -> IoErrorKind {
    result.expect_err("must fail").kind
}

#[test]
fn a_flush_saves_what_was_complete_before_it() {
    let disk = disk();
    let device = disk.device();
    put(&device, 1, 1);
    device.flush().expect("flush");
    put(&device, 1, 2);
    put(&device, 2, 2);
    assert_eq!(at(&disk, 1), Some(2), "reads see unflushed writes");
    let after = disk.crash_with(CrashMode::Nothing, 0);
    assert_eq!((at(&after, 1), at(&after, 2)), (Some(1), Some(0)));
    let after = disk.crash_with(CrashMode::Everything, 0);
    assert_eq!((at(&after, 1), at(&after, 2)), (Some(2), Some(2)));
}

#[test]
fn a_flush_does_not_save_what_was_in_flight_with_it() {
    let disk = disk();
    let device = disk.device();
    let mut queue = device.queue(8).expect("a queue");
    let batch = vec![write_request(1, 1, block(1), false), flush_request(2)];
    submit(queue.as_mut(), batch);
    assert!(finish(queue.as_mut()).iter().all(|c| c.result.is_ok()));
    let after = disk.crash_with(CrashMode::Nothing, 0);
    assert_eq!(at(&after, 1), Some(0), "nothing ordered the two");
}

#[test]
fn a_durable_write_saves_itself_and_nothing_else() {
    let disk = disk();
    let device = disk.device();
    put(&device, 1, 1);
    put(&device, 2, 1);
    let mut queue = device.queue(8).expect("a queue");
    submit(queue.as_mut(), vec![write_request(1, 1, block(2), true)]);
    assert!(finish(queue.as_mut())[0].result.is_ok());
    for seed in 0..50 {
        let after = disk.crash(seed);
        assert_eq!(at(&after, 1), Some(2), "never an older version");
        assert!(matches!(at(&after, 2), Some(0 | 1)));
    }
}

#[test]
fn a_power_cut_keeps_any_version_of_each_sector() {
    let disk = disk();
    let device = disk.device();
    for byte in 1..=3 {
        for number in 0..16 {
            put(&device, number, byte);
        }
        if byte == 1 {
            device.flush().expect("flush");
        }
    }
    let mut seen = BTreeSet::new();
    let mut mixed = false;
    for seed in 0..100 {
        let after = disk.crash(seed);
        let now: Vec<u8> = (0..16)
            .map(|n| at(&after, n).expect("whole sectors"))
            .collect();
        assert!(now.iter().all(|b| (1..=3).contains(b)), "{now:?}");
        mixed |= now.iter().any(|b| *b != now[0]);
        seen.extend(now);
    }
    assert_eq!(seen, BTreeSet::from([1, 2, 3]));
    assert!(mixed);
}

#[test]
fn a_write_in_flight_is_torn_between_sectors() {
    let mut torn = 0;
    let (mut whole, mut none) = (0, 0);
    for seed in 0..200 {
        let disk = disk();
        let device = disk.device();
        let mut queue = device.queue(8).expect("a queue");
        submit(
            queue.as_mut(),
            vec![write_request(1, 4, blocks(16, 9), true)],
        );
        let after = disk.crash(seed);
        let done = (4..20)
            .filter(|&n| match at(&after, n) {
                Some(9) => true,
                Some(0) => false,
                other => panic!("block {n} is {other:?}"),
            })
            .count();
        match done {
            0 => none += 1,
            16 => whole += 1,
            _ => torn += 1,
        }
        assert_eq!(at(&after, 3), Some(0));
        assert_eq!(at(&after, 20), Some(0));
        let out = finish(queue.as_mut());
        assert_eq!(
            failed_with(out.into_iter().next().expect("a completion").result),
            IoErrorKind::Failed
        );
    }
    assert!(torn > 50 && whole > 5 && none > 5, "{torn} {whole} {none}");
}

#[test]
fn sectors_smaller_than_the_write_are_torn_too() {
    let mut inside = false;
    for seed in 0..50 {
        let disk = SimDisk::new(SimOptions {
            logical_block: 512,
            physical_block: 512,
            ..SimOptions::default()
        });
        put(&disk.device(), 0, 7);
        let after = disk.crash(seed);
        for sector in disk.peek(0, BLOCK).as_chunks::<512>().0 {
            assert!(sector.iter().all(|b| *b == 7));
        }
        inside |= at(&after, 0).is_none();
    }
    assert!(inside, "a block of eight sectors comes out mixed");
}

#[test]
fn a_part_of_a_physical_block_endangers_the_rest() {
    let options = SimOptions {
        logical_block: 512,
        physical_block: 4096,
        ..SimOptions::default()
    };
    let mut spoilt = 0;
    for seed in 0..200 {
        let disk = SimDisk::new(options.clone());
        let device = disk.device();
        put(&device, 0, 1);
        put(&device, 1, 1);
        device.flush().expect("flush");
        // A sector of block 0, and the whole of block 2.
        device.write_at(512, &IoBuf::zeroed(512)).expect("write");
        put(&device, 2, 2);
        let after = disk.crash(seed);
        spoilt += usize::from(after.peek(0, 512) != vec![1; 512]);
        assert_eq!(at(&after, 1), Some(1), "its neighbour block is safe");
        assert_eq!(at(&after, 3), Some(0));
    }
    assert!((5..100).contains(&spoilt), "{spoilt}");
}

#[test]
fn handles_of_a_crashed_disk_fail() {
    let disk = disk();
    let device = disk.device();
    put(&device, 1, 1);
    device.flush().expect("flush");
    let mut queue = device.queue(2).expect("a queue");
    // One in flight, one over the depth.
    submit(queue.as_mut(), (0..5).map(flush_request).collect());
    let after = disk.crash(1);
    assert!(!disk.is_powered());
    let e = device.read_at(B, &mut block(0)).expect_err("off");
    assert!(e.detail.contains("power is off"), "{e}");
    assert_eq!(
        failed_with(device.write_at(B, &block(0))),
        IoErrorKind::Failed
    );
    assert_eq!(failed_with(device.flush()), IoErrorKind::Failed);
    let out = finish(queue.as_mut());
    assert_eq!(out.len(), 5);
    assert!(out.iter().all(|c| c.result.is_err()));
    // The new disk is a disk of its own.
    let device = after.device();
    assert_eq!(at(&after, 1), Some(1));
    put(&device, 1, 5);
    assert_eq!(at(&disk, 1), Some(1));
}

#[test]
fn the_power_fails_at_a_chosen_event() {
    // Events: write, write, flush, write, flush.
    let script = |disk: &SimDisk| -> Vec<bool> {
        let device = disk.device();
        vec![
            device.write_at(0, &block(1)).is_ok(),
            device.write_at(B, &block(1)).is_ok(),
            device.flush().is_ok(),
            device.write_at(0, &block(2)).is_ok(),
            device.flush().is_ok(),
        ]
    };
    let whole = disk();
    assert!(script(&whole).iter().all(|&ok| ok));
    assert_eq!(whole.stats().events, 5);
    for n in 1..=5 {
        let disk = disk();
        disk.crash_after(n);
        let done = script(&disk);
        assert_eq!(done.iter().filter(|&&ok| ok).count() as u64, n - 1, "{n}");
        assert!(done[..n as usize - 1].iter().all(|&ok| ok));
        assert!(!disk.is_powered());
        let mut outcomes = BTreeSet::new();
        for seed in 0..40 {
            let after = disk.crash(seed);
            outcomes.insert((at(&after, 0), at(&after, 1)));
        }
        let (zero, one, two) = (Some(0), Some(1), Some(2));
        let expected: &[_] = match n {
            1 => &[(zero, zero), (one, zero)],
            2 | 3 => &[(zero, zero), (zero, one), (one, zero), (one, one)],
            _ => &[(one, one), (two, one)],
        };
        assert_eq!(outcomes, expected.iter().copied().collect(), "cut at {n}");
    }
}

#[test]
fn a_power_cut_ends_waits_elsewhere() {
    let disk = disk();
    disk.inject_next(OpKind::Read, FaultKind::Stall);
    let device = disk.device();
    let mut queue = device.queue(4).expect("a queue");
    let buf = block(0);
    submit(
        queue.as_mut(),
        vec![Request {
            token: 1,
            op: Op::Read { offset: 0, buf },
        }],
    );
    let waiting = thread::spawn(move || finish(queue.as_mut()));
    disk.inject_next(OpKind::Read, FaultKind::Stall);
    let lone = thread::spawn(move || device.read_at(0, &mut block(0)));
    thread::sleep(Duration::from_millis(20));
    assert!(!waiting.is_finished() && !lone.is_finished());
    disk.crash_after(1);
    assert!(disk.device().write_at(0, &block(1)).is_err());
    let out = waiting.join().expect("the waiting thread");
    assert!(out[0].result.is_err());
    assert!(lone.join().expect("the lone reader").is_err());
}

#[test]
fn the_same_calls_give_the_same_disk() {
    let script = |seed: u64| -> (u64, Vec<u64>, Vec<u64>) {
        let disk = SimDisk::new(SimOptions {
            seed,
            ..SimOptions::default()
        });
        disk.inject(Fault::once(
            OpKind::Write,
            30,
            FaultKind::Fail(IoErrorKind::Failed),
        ));
        let device = disk.device();
        let mut queue = device.queue(4).expect("a queue");
        let mut order = Vec::new();
        for round in 0..10u64 {
            let mut requests: Vec<Request> = (0..8)
                .map(|i| write_request(round * 8 + i, i * 3, blocks(4, round as u8), false))
                .collect();
            requests.push(Request {
                token: 1000,
                op: Op::Discard {
                    offset: 5 * B,
                    len: 3 * B,
                },
            });
            submit(queue.as_mut(), requests);
            let mut out = Vec::new();
            while queue.in_flight() > 0 {
                queue.wait(1, None, &mut out).expect("wait");
            }
            order.extend(out.iter().map(|c| c.token));
            if round == 6 {
                device.flush().expect("flush");
            }
        }
        let crashes = (0..20).map(|s| disk.crash(s).image_hash()).collect();
        (disk.image_hash(), order, crashes)
    };
    let first = script(1);
    assert_eq!(first, script(1));
    assert_ne!(first, script(2), "another seed is another disk");
    let different: BTreeSet<_> = first.2.iter().collect();
    assert!(different.len() > 10, "power cuts differ by their seed");
}

#[test]
fn faults_come_at_their_call() {
    let disk = disk();
    let device = disk.device();
    disk.inject(Fault::once(
        OpKind::Write,
        1,
        FaultKind::Fail(IoErrorKind::NoSpace),
    ));
    disk.inject(Fault::for_good(
        OpKind::Read,
        2,
        FaultKind::Fail(IoErrorKind::Failed),
    ));
    let writes: Vec<bool> = (0..4)
        .map(|n| device.write_at(n * B, &block(1)).is_ok())
        .collect();
    assert_eq!(writes, [true, false, true, true]);
    let reads: Vec<bool> = (0..5)
        .map(|_| device.read_at(0, &mut block(0)).is_ok())
        .collect();
    assert_eq!(reads, [true, true, false, false, false]);
    disk.clear_faults();
    device.read_at(0, &mut block(0)).expect("read");
    disk.inject_next(OpKind::Flush, FaultKind::Fail(IoErrorKind::Failed));
    assert!(device.flush().is_err());
    device.flush().expect("flush");
    assert_eq!(disk.stats().failed, 5);
    // In a queue the same.
    disk.inject_next(OpKind::Write, FaultKind::Fail(IoErrorKind::NoSpace));
    let mut queue = device.queue(4).expect("a queue");
    let requests = (0..3)
        .map(|i| write_request(i, i, block(1), false))
        .collect();
    submit(queue.as_mut(), requests);
    let out = finish(queue.as_mut());
    let ok: Vec<bool> = out.iter().map(|c| c.result.is_ok()).collect();
    assert_eq!(ok, [false, true, true]);
    assert!(out[0].buf.is_some());
}

#[test]
fn a_failed_flush_is_not_made_good_by_the_next() {
    let disk = disk();
    let device = disk.device();
    put(&device, 1, 1);
    disk.inject_next(OpKind::Flush, FaultKind::Fail(IoErrorKind::Failed));
    assert!(device.flush().is_err());
    put(&device, 2, 2);
    device.flush().expect("flush");
    assert_eq!(at(&disk, 1), Some(1), "reads still see it");
    let after = disk.crash_with(CrashMode::Nothing, 0);
    assert_eq!((at(&after, 1), at(&after, 2)), (Some(0), Some(2)));
}

#[test]
fn a_failed_write_may_have_been_done_in_part() {
    let mut parts = BTreeSet::new();
    for seed in 0..60 {
        let disk = SimDisk::new(SimOptions {
            seed,
            ..SimOptions::default()
        });
        disk.inject_next(OpKind::Write, FaultKind::Fail(IoErrorKind::Failed));
        assert!(disk.device().write_at(0, &blocks(4, 3)).is_err());
        parts.insert((0..4).filter(|&n| at(&disk, n) == Some(3)).count());
    }
    assert_eq!(parts, BTreeSet::from([0, 1, 2, 3, 4]));
}

#[test]
fn short_transfers_and_eagain_are_hidden() {
    let disk = disk();
    let device = disk.device();
    disk.inject(Fault::once(OpKind::Write, 0, FaultKind::Short(5000)));
    disk.inject(Fault::once(OpKind::Write, 1, FaultKind::Again(3)));
    disk.inject(Fault::once(OpKind::Read, 0, FaultKind::Short(1)));
    disk.inject(Fault::once(OpKind::Read, 1, FaultKind::Again(2)));
    let mut queue = device.queue(4).expect("a queue");
    let writes = vec![
        write_request(1, 0, blocks(4, 1), false),
        write_request(2, 4, blocks(4, 2), true),
    ];
    submit(queue.as_mut(), writes);
    assert!(finish(queue.as_mut()).iter().all(|c| c.result.is_ok()));
    for n in 0..8 {
        assert_eq!(at(&disk, n), Some(if n < 4 { 1 } else { 2 }));
    }
    let mut buf = blocks(4, 0);
    device.read_at(0, &mut buf).expect("read");
    assert!(buf.iter().all(|&b| b == 1));
    device.read_at(4 * B, &mut buf).expect("read");
    assert!(buf.iter().all(|&b| b == 2));
    let stats = disk.stats();
    assert_eq!((stats.short, stats.again), (2, 5));
    // One that never ends does end.
    disk.inject_next(OpKind::Read, FaultKind::Again(u32::MAX));
    assert_eq!(
        failed_with(device.read_at(0, &mut buf)),
        IoErrorKind::Failed
    );
}

#[test]
fn lost_misdirected_and_stale() {
    let disk = disk();
    let device = disk.device();
    put(&device, 1, 1);
    put(&device, 2, 2);
    device.flush().expect("flush");
    disk.inject_next(OpKind::Write, FaultKind::Lost);
    put(&device, 1, 9);
    assert_eq!(at(&disk, 1), Some(1), "reported and not done");
    disk.inject_next(OpKind::Write, FaultKind::Misdirected(5 * B + 100));
    put(&device, 1, 8);
    assert_eq!((at(&disk, 1), at(&disk, 5)), (Some(1), Some(8)));
    let mut buf = block(0);
    disk.inject_next(OpKind::Read, FaultKind::Misdirected(2 * B));
    device.read_at(B, &mut buf).expect("read");
    assert_eq!(buf[0], 2);
    put(&device, 1, 7);
    disk.inject_next(OpKind::Read, FaultKind::Stale);
    device.read_at(B, &mut buf).expect("read");
    assert_eq!(buf[0], 1);
    device.read_at(B, &mut buf).expect("read");
    assert_eq!(buf[0], 7);
    disk.inject_next(OpKind::Flush, FaultKind::Lost);
    device.flush().expect("a flush that lies");
    assert_eq!(at(&disk.crash_with(CrashMode::Nothing, 0), 1), Some(1));
}

#[test]
fn damage_stays() {
    let disk = disk();
    let device = disk.device();
    put(&device, 1, 1);
    disk.flip_bit(B + 17, 3);
    assert_eq!(disk.peek(B, BLOCK)[17], 1 ^ 8);
    put(&device, 2, 1);
    put(&device, 4, 1);
    disk.corrupt(2 * B + 10, 8000);
    assert_eq!(disk.peek(2 * B, BLOCK)[..10], [1; 10]);
    assert!(at(&disk, 3).is_none());
    disk.poke(4 * B, &[5; BLOCK]);
    let after = disk.crash_with(CrashMode::Nothing, 0);
    assert_eq!(after.peek(B, BLOCK)[17], 1 ^ 8);
    assert_eq!(at(&after, 4), Some(5));
}

#[test]
fn a_stall_holds_only_its_operation() {
    let disk = disk();
    let device = disk.device();
    disk.inject_next(OpKind::Write, FaultKind::Stall);
    let mut queue = device.queue(4).expect("a queue");
    let requests = (0..3)
        .map(|i| write_request(i, i, block(1), false))
        .collect();
    submit(queue.as_mut(), requests);
    let mut out = Vec::new();
    let short = Some(Duration::from_millis(20));
    assert_eq!(queue.wait(3, short, &mut out).expect("wait"), 2);
    let other = disk.clone();
    let releasing = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        other.release_stalls();
    });
    assert_eq!(queue.wait(1, None, &mut out).expect("wait"), 1);
    assert_eq!(out[2].token, 0);
    releasing.join().expect("the releasing thread");
    // A queue with a stalled operation can be dropped.
    disk.inject_next(OpKind::Write, FaultKind::Stall);
    submit(queue.as_mut(), vec![write_request(9, 9, block(9), false)]);
    drop(queue);
    assert_eq!(at(&disk, 9), Some(9));
}

#[test]
fn latencies_are_kept() {
    let disk = disk();
    let device = disk.device();
    let slow = Duration::from_millis(25);
    disk.set_latency(LatencyProfile {
        flush: Latency::fixed(slow),
        ..LatencyProfile::default()
    });
    let start = Instant::now();
    put(&device, 1, 1);
    assert!(start.elapsed() < slow, "writes are not slow");
    device.flush().expect("flush");
    assert!(start.elapsed() >= slow);
    // Side by side up to the depth, in turn above it.
    let mut queue = device.queue(2).expect("a queue");
    let start = Instant::now();
    submit(queue.as_mut(), (0..4).map(flush_request).collect());
    finish(queue.as_mut());
    assert!(start.elapsed() >= 2 * slow);
    assert!(
        start.elapsed() < 4 * slow + slow / 2,
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn a_delayed_handle_slows_no_other() {
    let disk = disk();
    let slow = Delayed::new(disk.device(), Duration::from_millis(30));
    let fast = disk.device();
    let start = Instant::now();
    put(&fast, 1, 1);
    assert!(start.elapsed() < Duration::from_millis(30));
    let start = Instant::now();
    put(&slow, 1, 1);
    assert!(start.elapsed() >= Duration::from_millis(30));
    let mut queue = slow.queue(8).expect("a queue");
    let start = Instant::now();
    let requests = (0..8)
        .map(|i| write_request(7, i, block(1), false))
        .collect();
    submit(queue.as_mut(), requests);
    assert_eq!(queue.in_flight(), 8);
    let out = finish(queue.as_mut());
    assert!(out.iter().all(|c| c.token == 7), "tokens may repeat");
    let time = start.elapsed();
    assert!(time >= Duration::from_millis(30));
    assert!(
        time < Duration::from_millis(30 * 7),
        "side by side: {time:?}"
    );
    assert_eq!(slow.counters().writes, 9);
}

#[test]
fn a_huge_disk_costs_nothing() {
    let disk = SimDisk::new(SimOptions {
        capacity: 8 << 40,
        ..SimOptions::default()
    });
    let device = disk.device();
    let last = (8 << 40) / B - 1;
    put(&device, last, 3);
    put(&device, 0, 3);
    device.flush().expect("flush");
    assert_eq!(at(&disk, last), Some(3));
    let mut queue = device.queue(1).expect("a queue");
    submit(
        queue.as_mut(),
        vec![Request {
            token: 0,
            op: Op::Discard {
                offset: 0,
                len: 8 << 40,
            },
        }],
    );
    assert!(finish(queue.as_mut())[0].result.is_ok());
    assert!(disk.stats().resident_bytes <= 4 * B);
    assert!(disk.image_hash() != SimDisk::new(SimOptions::default()).image_hash());
}

#[test]
fn discarded_blocks_hold_anything() {
    for (fill, expected) in [
        (DiscardFill::Keep, Some(1)),
        (DiscardFill::Zero, Some(0)),
        (DiscardFill::Garbage, None),
    ] {
        let disk = SimDisk::new(SimOptions {
            discard_fill: fill,
            ..SimOptions::default()
        });
        let device = disk.device();
        for n in 0..4 {
            put(&device, n, 1);
        }
        device.flush().expect("flush");
        let mut queue = device.queue(1).expect("a queue");
        let discard = Op::Discard {
            offset: B,
            len: 2 * B,
        };
        submit(
            queue.as_mut(),
            vec![Request {
                token: 0,
                op: discard,
            }],
        );
        assert!(finish(queue.as_mut())[0].result.is_ok());
        for n in 0..4 {
            let expected = if n == 1 || n == 2 { expected } else { Some(1) };
            assert_eq!(at(&disk, n), expected, "{fill:?}, block {n}");
        }
        // A power cut may undo it.
        assert_eq!(at(&disk.crash_with(CrashMode::Nothing, 0), 1), Some(1));
    }
}

#[test]
fn growing_and_being_enlarged() {
    let options = SimOptions {
        capacity: 16 * B,
        file: true,
        ..SimOptions::default()
    };
    let disk = SimDisk::new(options.clone());
    let device = disk.device();
    let mut queue = device.queue(1).expect("a queue");
    assert_eq!(
        failed_with(device.write_at(16 * B, &block(1))),
        IoErrorKind::OutOfRange
    );
    assert_eq!(device.grow(32 * B, Some(0)).expect("grow").capacity, 32 * B);
    assert_eq!(device.grow(16 * B, Some(0)).expect("grow").capacity, 32 * B);
    put(&device, 16, 1);
    submit(queue.as_mut(), vec![write_request(0, 17, block(1), false)]);
    assert!(finish(queue.as_mut())[0].result.is_ok());
    disk.inject_next(OpKind::Grow, FaultKind::Fail(IoErrorKind::NoSpace));
    assert_eq!(
        device.grow(64 * B, Some(0)).expect_err("full").kind,
        IoErrorKind::NoSpace
    );
    assert_eq!(device.geometry().capacity, 32 * B);
    assert_eq!(disk.crash(0).device().geometry().capacity, 32 * B);

    let disk = SimDisk::new(SimOptions {
        file: false,
        ..options
    });
    let device = disk.device();
    assert_eq!(
        device.grow(32 * B, Some(0)).expect_err("a device").kind,
        IoErrorKind::Unsupported
    );
    disk.set_capacity(64 * B);
    assert_eq!(device.geometry().capacity, 16 * B, "not before a refresh");
    assert_eq!(device.refresh().expect("refresh").capacity, 64 * B);
    put(&device, 63, 1);
}

#[test]
fn a_full_cache_empties_itself() {
    let disk = SimDisk::new(SimOptions {
        cache_bytes: 8 * B,
        ..SimOptions::default()
    });
    let device = disk.device();
    for n in 0..9 {
        put(&device, n, 1);
    }
    assert!(disk.stats().unflushed <= 8);
    let after = disk.crash_with(CrashMode::Nothing, 0);
    assert_eq!(at(&after, 0), Some(1));
    // Without a volatile cache nothing waits for a flush.
    let disk = SimDisk::new(SimOptions {
        volatile_cache: false,
        ..SimOptions::default()
    });
    put(&disk.device(), 0, 1);
    assert_eq!(at(&disk.crash_with(CrashMode::Nothing, 0), 0), Some(1));
}

#[test]
fn a_snapshot_is_a_copy() {
    let disk = disk();
    let device = disk.device();
    put(&device, 1, 1);
    let copy = disk.snapshot();
    assert_eq!(copy.image_hash(), disk.image_hash());
    put(&device, 1, 2);
    put(&copy.device(), 2, 3);
    assert_eq!((at(&copy, 1), at(&copy, 2)), (Some(1), Some(3)));
    assert_eq!((at(&disk, 1), at(&disk, 2)), (Some(2), Some(0)));
    let after = copy.crash_with(CrashMode::Nothing, 0);
    assert_eq!(at(&after, 1), Some(1), "what is copied is stable");
}

#[test]
fn requests_held_back_are_dropped_undone() {
    let disk = disk();
    let device = disk.device();
    let mut queue = device.queue(2).expect("a queue");
    let requests = (0..5)
        .map(|i| write_request(i, i, block(1), false))
        .collect();
    submit(queue.as_mut(), requests);
    drop(queue);
    let done: Vec<_> = (0..5).map(|n| at(&disk, n)).collect();
    assert_eq!(done, [Some(1), Some(1), Some(0), Some(0), Some(0)]);
}

#[test]
fn recorded_cuts_are_what_the_power_would_have_left() {
    let disk = disk();
    let device = disk.device();
    put(&device, 1, 1);
    disk.record_cuts();
    disk.mark(3);
    put(&device, 1, 2);
    disk.mark(2);
    assert_eq!(disk.marked(), 3, "a mark never goes back");
    disk.inject_next(OpKind::Flush, FaultKind::Fail(IoErrorKind::Failed));
    device.flush().expect_err("injected");
    put(&device, 2, 3);
    device.flush().expect("flush");
    let cuts = disk.take_cuts();
    let told: Vec<_> = cuts.iter().map(|c| (c.event, c.flush, c.fails)).collect();
    assert_eq!(
        told,
        [
            (2, false, false),
            (3, true, true),
            (4, false, false),
            (5, true, false)
        ]
    );
    assert!(cuts.iter().all(|c| c.mark == 3 && c.site.is_empty()));
    // The first write in the cache, the second about to be made.
    assert_eq!(cuts[0].loose(), 2);
    let mut outcomes = BTreeSet::new();
    for seed in 0..40 {
        let after = cuts[0].crash(seed);
        assert_eq!(after.image_hash(), cuts[0].crash(seed).image_hash());
        outcomes.insert(at(&after, 1));
    }
    assert_eq!(outcomes, [Some(0), Some(1), Some(2)].into());
    let last = cuts[3].crash_with(CrashMode::Everything, 0);
    assert_eq!((at(&last, 1), at(&last, 2)), (Some(2), Some(3)));
    // Taken once, and the disk goes on.
    put(&device, 2, 4);
    assert!(disk.take_cuts().is_empty() && disk.is_powered());
    assert_eq!(at(&disk, 2), Some(4));
}

#[test]
fn asking_for_the_size_and_growing_can_fail() {
    let disk = SimDisk::new(SimOptions {
        file: true,
        ..SimOptions::default()
    });
    let device = disk.device();
    let before = device.geometry();
    disk.inject_next(OpKind::Refresh, FaultKind::Fail(IoErrorKind::Failed));
    let e = device.refresh().expect_err("injected");
    assert_eq!((e.kind, e.what), (IoErrorKind::Failed, "refresh"));
    assert_eq!(device.refresh().expect("asked"), before);
    let e = device.grow(before.capacity + 1, None).expect_err("odd");
    assert_eq!(e.kind, IoErrorKind::Misaligned);
    let stats = disk.stats();
    assert_eq!(
        (stats.next(OpKind::Grow), stats.next(OpKind::Refresh)),
        (stats.grows, stats.refreshes)
    );
    disk.power_off();
    let e = device.grow(2 * before.capacity, None).expect_err("off");
    assert!(e.detail.contains("power is off"), "{e}");
}

#[test]
fn a_write_behind_the_end_of_a_disk_that_shrank_fails() {
    let disk = disk();
    let device = disk.device();
    disk.set_capacity(16 * B);
    let e = device.write_at(16 * B, &block(1)).expect_err("the end");
    assert_eq!(e.kind, IoErrorKind::OutOfRange);
    assert!(e.detail.contains("now ends at byte 65536"), "{e}");
    put(&device, 15, 1);
    device
        .read_at(0, &mut block(0)[..0])
        .expect("nothing to do");
    device.write_at(0, &block(0)[..0]).expect("nothing to do");
}

#[test]
fn too_many_refusals_are_an_error() {
    let disk = disk();
    let device = disk.device();
    disk.inject_next(OpKind::Read, FaultKind::Again(u32::MAX));
    let e = device.read_at(0, &mut block(0)).expect_err("for ever");
    assert_eq!(e.os, Some(libc::EAGAIN));
}

#[test]
fn a_panic_is_injected_once() {
    let disk = disk();
    for (op, name) in [
        (OpKind::Read, "read"),
        (OpKind::Write, "write"),
        (OpKind::Flush, "flush"),
    ] {
        disk.inject_next(op, FaultKind::Panic);
        let device = disk.device();
        let panicked = thread::spawn(move || match op {
            OpKind::Read => device.read_at(0, &mut block(0)),
            OpKind::Write => device.write_at(0, &block(1)),
            _ => device.flush(),
        })
        .join()
        .expect_err("a panic");
        let words = panicked.downcast_ref::<String>().expect("words");
        assert_eq!(*words, format!("injected panic in a {name}"));
    }
    put(&disk.device(), 0, 2);
}
