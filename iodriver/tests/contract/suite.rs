//! The cases. Each takes a device of 32 MiB that nobody else uses.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use gaur_iodriver::{
    Completion, Device, DurableMethod, IoBuf, IoErrorKind, Op, Queue, Request, measure_durability,
};

use crate::subject::{MIB, Subject};

const BLOCK: usize = 4096;
/// Longer than anything here takes; a hang becomes a failure.
const LONG: Duration = Duration::from_secs(30);

/// A block that tells where it belongs.
fn pattern(len: usize, seed: u64) -> IoBuf {
    let mut buf = IoBuf::zeroed(len);
    for (i, word) in buf.chunks_exact_mut(8).enumerate() {
        let value = (i as u64 + 1).wrapping_mul(seed.wrapping_mul(2) + 1);
        word.copy_from_slice(&value.to_le_bytes());
    }
    buf
}

fn write(token: u64, offset: u64, buf: IoBuf) -> Request {
    let durable = false;
    Request {
        token,
        op: Op::Write {
            offset,
            buf,
            durable,
        },
    }
}

fn durable_write(token: u64, offset: u64, buf: IoBuf) -> Request {
    let durable = true;
    Request {
        token,
        op: Op::Write {
            offset,
            buf,
            durable,
        },
    }
}

fn read(token: u64, offset: u64, len: usize) -> Request {
    let buf = IoBuf::zeroed(len);
    Request {
        token,
        op: Op::Read { offset, buf },
    }
}

fn flush(token: u64) -> Request {
    Request {
        token,
        op: Op::Flush,
    }
}

fn discard(token: u64, offset: u64, len: u64) -> Request {
    Request {
        token,
        op: Op::Discard { offset, len },
    }
}

/// Submits and waits for everything in flight, in the order of tokens.
fn run(queue: &mut dyn Queue, mut requests: Vec<Request>) -> Vec<Completion> {
    queue.submit(&mut requests).expect("submit");
    assert!(requests.is_empty(), "submit leaves nothing");
    finish(queue)
}

fn finish(queue: &mut dyn Queue) -> Vec<Completion> {
    let mut out = Vec::new();
    let start = Instant::now();
    while queue.in_flight() > 0 {
        let before = out.len();
        let n = queue
            .wait(queue.in_flight(), Some(LONG), &mut out)
            .expect("wait");
        assert_eq!(n, out.len() - before);
        assert!(start.elapsed() < LONG, "requests hang: {queue:?}");
    }
    out.sort_by_key(|c| c.token);
    out
}

/// Runs one request and gives its result and buffer.
fn one(queue: &mut dyn Queue, request: Request) -> Completion {
    let mut out = run(queue, vec![request]);
    assert_eq!(out.len(), 1);
    out.remove(0)
}

fn kind_of(completion: &Completion) -> Option<IoErrorKind> {
    completion.result.as_ref().err().map(|e| e.kind)
}

fn assert_ok(completions: &[Completion]) {
    for c in completions {
        if let Err(e) = &c.result {
            panic!("request {}: {e}", c.token);
        }
    }
}

pub(crate) fn batch_completes_and_returns_buffers(s: &Subject) {
    let mut queue = s.device.queue(16).expect("a queue");
    let requests = (0..16)
        .map(|i| write(100 + i, i * BLOCK as u64, pattern(BLOCK, i)))
        .collect();
    let out = run(queue.as_mut(), requests);
    assert_ok(&out);
    let tokens: Vec<u64> = out.iter().map(|c| c.token).collect();
    assert_eq!(tokens, (100..116).collect::<Vec<_>>());
    for (i, c) in out.iter().enumerate() {
        let buf = c.buf.as_ref().expect("the buffer comes back");
        assert_eq!(buf[..], pattern(BLOCK, i as u64)[..], "and is unchanged");
    }
    assert_eq!(queue.in_flight(), 0);
}

pub(crate) fn written_is_read_back(s: &Subject) {
    let mut queue = s.device.queue(8).expect("a queue");
    let places: Vec<u64> = vec![0, 3, 7, 8190, 8191, 4000];
    let writes = places
        .iter()
        .map(|&p| write(p, p * BLOCK as u64, pattern(BLOCK, p)))
        .collect();
    assert_ok(&run(queue.as_mut(), writes));
    let reads = places
        .iter()
        .map(|&p| read(p, p * BLOCK as u64, BLOCK))
        .collect();
    let out = run(queue.as_mut(), reads);
    assert_ok(&out);
    for c in &out {
        let buf = c.buf.as_ref().expect("a buffer");
        assert_eq!(buf[..], pattern(BLOCK, c.token)[..], "block {}", c.token);
    }
}

pub(crate) fn lone_reads_and_writes(s: &Subject) {
    s.device.write_at(8192, &pattern(8192, 5)).expect("write");
    s.device.flush().expect("flush");
    let mut buf = IoBuf::zeroed(8192);
    s.device.read_at(8192, &mut buf).expect("read");
    assert_eq!(buf[..], pattern(8192, 5)[..]);
    s.device
        .read_at(8192 + 4096, &mut buf[..4096])
        .expect("read");
    assert_eq!(buf[..4096], pattern(8192, 5)[4096..]);
}

pub(crate) fn out_of_range_is_refused(s: &Subject) {
    let end = s.device.geometry().capacity;
    let mut queue = s.device.queue(4).expect("a queue");
    let block = BLOCK as u64;
    let last = u64::MAX - block + 1;
    for (offset, len) in [(end, BLOCK), (end - block, 2 * BLOCK), (last, BLOCK)] {
        let r = one(queue.as_mut(), read(1, offset, len));
        assert_eq!(kind_of(&r), Some(IoErrorKind::OutOfRange), "at {offset}");
        assert!(r.buf.is_some(), "the buffer comes back all the same");
        let w = one(queue.as_mut(), write(2, offset, pattern(len, 1)));
        assert_eq!(kind_of(&w), Some(IoErrorKind::OutOfRange));
        let mut buf = IoBuf::zeroed(len);
        let e = s.device.read_at(offset, &mut buf).expect_err("read_at");
        assert_eq!(e.kind, IoErrorKind::OutOfRange);
        let e = s.device.write_at(offset, &buf).expect_err("write_at");
        assert_eq!(e.kind, IoErrorKind::OutOfRange);
    }
    // The last block is in range.
    assert_ok(&[one(queue.as_mut(), read(3, end - block, BLOCK))]);
    let e = one(queue.as_mut(), read(4, end, BLOCK))
        .result
        .expect_err("out");
    assert_eq!((e.offset, e.len, e.what), (end, block, "read"));
}

pub(crate) fn misaligned_is_refused(s: &Subject) {
    let align = u64::from(s.device.geometry().offset_align);
    assert!(align > 1);
    let mut queue = s.device.queue(4).expect("a queue");
    let r = one(queue.as_mut(), read(1, align / 2, BLOCK));
    assert_eq!(kind_of(&r), Some(IoErrorKind::Misaligned));
    let r = one(queue.as_mut(), read(1, 0, align as usize / 2));
    assert_eq!(kind_of(&r), Some(IoErrorKind::Misaligned));
    let w = one(queue.as_mut(), write(2, align + 1, pattern(BLOCK, 1)));
    assert_eq!(kind_of(&w), Some(IoErrorKind::Misaligned));
    let e = s
        .device
        .read_at(1, &mut IoBuf::zeroed(BLOCK))
        .expect_err("read_at");
    assert_eq!(e.kind, IoErrorKind::Misaligned);
    let e = s
        .device
        .write_at(1, &IoBuf::zeroed(BLOCK))
        .expect_err("write_at");
    assert_eq!(e.kind, IoErrorKind::Misaligned);
}

pub(crate) fn unaligned_memory_is_refused(s: &Subject) {
    let align = s.device.geometry().memory_align as usize;
    let mut buf = IoBuf::zeroed(2 * BLOCK);
    if align > 1 {
        let e = s
            .device
            .read_at(0, &mut buf[1..=BLOCK])
            .expect_err("unaligned memory");
        assert_eq!(e.kind, IoErrorKind::Misaligned);
        let e = s
            .device
            .write_at(0, &buf[1..=BLOCK])
            .expect_err("unaligned memory");
        assert_eq!(e.kind, IoErrorKind::Misaligned);
    }
    // The alignment that is told is enough.
    s.device
        .write_at(0, &buf[align..align + BLOCK])
        .expect("write");
    s.device
        .read_at(0, &mut buf[align..align + BLOCK])
        .expect("read");
}

pub(crate) fn flush_and_durable_writes_complete(s: &Subject) {
    for method in DurableMethod::ALL {
        let device = s.device.with_durable_method(method);
        let mut queue = device.queue(8).expect("a queue");
        let mut requests: Vec<Request> = (0..4)
            .map(|i| durable_write(i, i * BLOCK as u64, pattern(BLOCK, 40 + i)))
            .collect();
        requests.push(flush(9));
        requests.push(write(10, 16 * BLOCK as u64, pattern(BLOCK, 3)));
        let out = run(queue.as_mut(), requests);
        assert_ok(&out);
        assert_eq!(out.len(), 6);
        assert!(out[4].buf.is_none(), "a flush has no buffer");
        assert!(out[3].buf.is_some());
        let back = one(queue.as_mut(), read(0, 3 * BLOCK as u64, BLOCK));
        assert_eq!(back.buf.expect("a buffer")[..], pattern(BLOCK, 43)[..]);
    }
}

pub(crate) fn discard_as_the_geometry_says(s: &Subject) {
    let unit = u64::from(s.device.geometry().discard_granularity);
    let mut queue = s.device.queue(4).expect("a queue");
    assert_ok(&[one(queue.as_mut(), write(1, 0, pattern(4 * BLOCK, 8)))]);
    let unit_or_block = if unit == 0 { BLOCK as u64 } else { unit };
    let at = unit_or_block.max(BLOCK as u64);
    let c = one(queue.as_mut(), discard(2, at, unit_or_block));
    if unit == 0 {
        assert_eq!(kind_of(&c), Some(IoErrorKind::Unsupported));
    } else {
        assert_ok(&[c]);
        let c = one(
            queue.as_mut(),
            discard(3, s.device.geometry().capacity, unit),
        );
        assert_eq!(kind_of(&c), Some(IoErrorKind::OutOfRange));
        // It can be written and read again.
        assert_ok(&[one(queue.as_mut(), write(4, at, pattern(BLOCK, 9)))]);
        let back = one(queue.as_mut(), read(5, at, BLOCK));
        assert_eq!(back.buf.expect("a buffer")[..], pattern(BLOCK, 9)[..]);
    }
    // What lies beside is untouched.
    let back = one(queue.as_mut(), read(6, 0, BLOCK));
    assert_eq!(
        back.buf.expect("a buffer")[..],
        pattern(4 * BLOCK, 8)[..BLOCK]
    );
    // A discard and its neighbours in one batch all complete.
    let out = run(
        queue.as_mut(),
        vec![
            read(7, 0, BLOCK),
            discard(8, at, unit_or_block),
            flush(9),
            discard(10, at, unit_or_block),
        ],
    );
    assert_eq!(out.len(), 4);
}

pub(crate) fn discards_give_space_back_where_they_may(s: &Subject) {
    let geometry = s.device.geometry();
    let unit = u64::from(geometry.discard_granularity);
    assert!(unit == 0 || u64::from(geometry.discard_alignment) < unit);
    assert!(unit == 0 || geometry.max_discard == 0 || geometry.max_discard >= unit);
    let mut queue = s.device.queue(4).expect("a queue");
    let writes = (0..8).map(|i| write(i, i * MIB, pattern(MIB as usize, i)));
    assert_ok(&run(queue.as_mut(), writes.collect()));
    assert_ok(&[one(queue.as_mut(), flush(8))]);
    let Some(before) = s.space_taken() else {
        return;
    };
    assert!(before >= 8 * MIB);
    let c = one(queue.as_mut(), discard(9, MIB, 6 * MIB));
    assert_ok(&[one(queue.as_mut(), flush(10))]);
    let after = s.space_taken().expect("as before");
    if unit == 0 {
        assert_eq!(kind_of(&c), Some(IoErrorKind::Unsupported));
        assert_eq!(after, before, "a preallocated file keeps its space");
    } else {
        assert_ok(&[c]);
        assert!(after <= before - 5 * MIB, "{before} bytes, then {after}");
    }
    for (token, at) in [(11, 0), (12, 7)] {
        let back = one(queue.as_mut(), read(token, at * MIB, BLOCK));
        assert_eq!(
            back.buf.expect("a buffer")[..],
            pattern(MIB as usize, at)[..BLOCK]
        );
    }
}

pub(crate) fn more_requests_than_the_depth(s: &Subject) {
    let mut queue = s.device.queue(3).expect("a queue");
    let requests = (0..200)
        .map(|i| write(i, i * BLOCK as u64, pattern(BLOCK, i)))
        .collect();
    let out = run(queue.as_mut(), requests);
    assert_ok(&out);
    let tokens: BTreeSet<u64> = out.iter().map(|c| c.token).collect();
    assert_eq!(tokens.len(), 200);
    let requests = (0..200).map(|i| read(i, i * BLOCK as u64, BLOCK)).collect();
    for c in run(queue.as_mut(), requests) {
        let buf = c.buf.expect("a buffer");
        assert_eq!(buf[..], pattern(BLOCK, c.token)[..]);
    }
}

pub(crate) fn drop_with_requests_in_flight(s: &Subject) {
    for round in 0..20 {
        let mut queue = s.device.queue(8).expect("a queue");
        let mut requests: Vec<Request> = (0..12)
            .map(|i| match i % 4 {
                0 => read(i, i * MIB, MIB as usize),
                1 => durable_write(i, i * MIB, pattern(BLOCK, round)),
                2 => discard(i, i * MIB, MIB),
                _ => write(i, i * MIB, pattern(MIB as usize, round)),
            })
            .collect();
        queue.submit(&mut requests).expect("submit");
        drop(queue);
        // What was written into freed memory would show here.
        let buffers: Vec<IoBuf> = (0..8).map(|_| IoBuf::zeroed(MIB as usize)).collect();
        assert!(buffers.iter().all(|b| b.iter().all(|&x| x == 0)));
    }
    // The device goes on.
    let mut queue = s.device.queue(8).expect("a queue");
    assert_ok(&[one(queue.as_mut(), read(1, 0, BLOCK))]);
}

pub(crate) fn drop_waits_for_what_it_started(s: &Subject) {
    for round in 1..6 {
        let mut queue = s.device.queue(8).expect("a queue");
        let len = 2 * MIB as usize;
        let mut requests = (0..8)
            .map(|i| write(i, i * 2 * MIB, pattern(len, round * 10 + i)))
            .collect();
        queue.submit(&mut requests).expect("submit");
        drop(queue);
        let mut buf = IoBuf::zeroed(len);
        for i in (0..8).rev() {
            s.device.read_at(i * 2 * MIB, &mut buf).expect("read");
            assert!(
                buf[..] == pattern(len, round * 10 + i)[..],
                "write {i} was not over when its queue was"
            );
        }
    }
}

pub(crate) fn held_back_requests_go_on_by_themselves(s: &Subject) {
    if s.device.driver() == "sim" {
        println!("skipped: the simulator does nothing by itself");
        return;
    }
    // What a wait starts must be with the device when it returns, not at the
    // next call.
    let mut queue = s.device.queue(1).expect("a queue");
    let mut requests = (0..2)
        .map(|i| write(i, i * BLOCK as u64, pattern(BLOCK, 70 + i)))
        .collect();
    queue.submit(&mut requests).expect("submit");
    let mut out = Vec::new();
    while out.is_empty() {
        queue.wait(1, None, &mut out).expect("wait");
    }
    let start = Instant::now();
    let mut buf = IoBuf::zeroed(BLOCK);
    loop {
        s.device.read_at(BLOCK as u64, &mut buf).expect("read");
        if buf[..] == pattern(BLOCK, 71)[..] {
            break;
        }
        assert!(start.elapsed() < LONG, "the second write lies about");
        thread::sleep(Duration::from_millis(1));
    }
    finish(queue.as_mut());
}

pub(crate) fn durable_writes_reach_the_medium(s: &Subject) {
    let Some(mut before) = s.flushes_seen() else {
        return;
    };
    for method in DurableMethod::ALL {
        let device = s.device.with_durable_method(method);
        let mut queue = device.queue(1).expect("a queue");
        assert_ok(&[one(queue.as_mut(), write(1, 0, pattern(BLOCK, 1)))]);
        assert_eq!(
            s.flushes_seen(),
            Some(before),
            "a plain write flushes nothing"
        );
        assert_ok(&[one(queue.as_mut(), durable_write(2, 0, pattern(BLOCK, 2)))]);
        let after = s.flushes_seen().expect("known before");
        assert!(after > before, "{method} did not reach the medium");
        before = after;
    }
    let mut queue = s.device.queue(1).expect("a queue");
    assert_ok(&[one(queue.as_mut(), flush(3))]);
    s.device.flush().expect("flush");
    let after = s.flushes_seen().expect("known before");
    assert!(after >= before + 2);
}

pub(crate) fn drop_on_another_thread(s: &Subject) {
    let mut queue = s.device.queue(8).expect("a queue");
    let mut requests = (0..8)
        .map(|i| write(i, i * MIB, pattern(MIB as usize, i)))
        .collect();
    queue.submit(&mut requests).expect("submit");
    thread::spawn(move || drop(queue)).join().expect("dropped");
    let mut queue = s.device.queue(8).expect("a queue");
    assert_ok(&[one(queue.as_mut(), read(1, 0, BLOCK))]);
}

pub(crate) fn moves_to_its_owner_before_use(s: &Subject) {
    let mut queue = s.device.queue(8).expect("a queue");
    let waker = queue.waker();
    waker.wake();
    let (out, mut queue) = thread::spawn(move || {
        let mut out = Vec::new();
        queue.wait(usize::MAX, Some(LONG), &mut out).expect("wait");
        assert!(out.is_empty(), "the early wake was for this");
        (run(queue.as_mut(), vec![read(1, 0, BLOCK)]), queue)
    })
    .join()
    .expect("the owner");
    assert_ok(&out);
    // A quiet queue may move again.
    assert_ok(&[one(queue.as_mut(), read(2, 0, BLOCK))]);
}

pub(crate) fn wake_before_wait(s: &Subject) {
    let mut queue = s.device.queue(4).expect("a queue");
    queue.waker().wake();
    let start = Instant::now();
    let mut out = Vec::new();
    let n = queue.wait(usize::MAX, Some(LONG), &mut out).expect("wait");
    assert_eq!(n, 0);
    assert!(start.elapsed() < LONG / 2, "the wake was kept");
    // And used up.
    let start = Instant::now();
    let short = Duration::from_millis(30);
    queue.wait(usize::MAX, Some(short), &mut out).expect("wait");
    assert!(start.elapsed() >= short, "one wake, one return");
}

pub(crate) fn wake_during_wait(s: &Subject) {
    let mut queue = s.device.queue(4).expect("a queue");
    let waker = queue.waker();
    for round in 0..20 {
        let other = waker.clone();
        let waking = thread::spawn(move || {
            thread::sleep(Duration::from_millis(round % 5));
            other.wake();
        });
        let start = Instant::now();
        let n = queue
            .wait(usize::MAX, Some(LONG), &mut Vec::new())
            .expect("wait");
        assert_eq!(n, 0);
        assert!(start.elapsed() < LONG / 2);
        waking.join().expect("the waking thread");
    }
}

pub(crate) fn wakes_are_merged(s: &Subject) {
    let mut queue = s.device.queue(4).expect("a queue");
    let waker = queue.waker();
    for _ in 0..1000 {
        waker.wake();
    }
    let mut out = Vec::new();
    queue.wait(usize::MAX, Some(LONG), &mut out).expect("wait");
    let start = Instant::now();
    let short = Duration::from_millis(30);
    queue.wait(usize::MAX, Some(short), &mut out).expect("wait");
    assert!(start.elapsed() >= short, "the others were the same wake");
}

pub(crate) fn a_look_leaves_the_wake(s: &Subject) {
    let mut queue = s.device.queue(4).expect("a queue");
    queue.waker().wake();
    let mut out = Vec::new();
    assert_eq!(queue.wait(0, None, &mut out).expect("a look"), 0);
    let start = Instant::now();
    queue.wait(usize::MAX, Some(LONG), &mut out).expect("wait");
    assert!(start.elapsed() < LONG / 2);
}

pub(crate) fn a_wake_comes_with_completions_in_flight(s: &Subject) {
    // Wakes and completions race; neither may swallow the other.
    let mut queue = s.device.queue(8).expect("a queue");
    let waker = queue.waker();
    let (ask, asked) = mpsc::channel::<()>();
    let waking = thread::spawn(move || {
        let mut n = 0;
        while asked.recv().is_ok() {
            waker.wake();
            n += 1;
        }
        n
    });
    let mut done = 0;
    for round in 0..200u64 {
        let mut requests = vec![read(round, round * BLOCK as u64, BLOCK)];
        queue.submit(&mut requests).expect("submit");
        ask.send(()).expect("the waking thread");
        let mut out = Vec::new();
        let start = Instant::now();
        while out.is_empty() {
            queue.wait(usize::MAX, Some(LONG), &mut out).expect("wait");
            assert!(start.elapsed() < LONG, "a completion was lost");
        }
        done += out.len();
    }
    assert_eq!(done, 200);
    drop(ask);
    assert_eq!(waking.join().expect("the waking thread"), 200);
}

pub(crate) fn waker_outlives_its_queue(s: &Subject) {
    let queue = s.device.queue(4).expect("a queue");
    let waker = queue.waker();
    drop(queue);
    waker.wake();
    waker.wake();
}

pub(crate) fn timeouts(s: &Subject) {
    let mut queue = s.device.queue(4).expect("a queue");
    let mut out = Vec::new();
    let short = Duration::from_millis(40);
    let start = Instant::now();
    let n = queue.wait(usize::MAX, Some(short), &mut out).expect("wait");
    assert_eq!(n, 0);
    assert!(start.elapsed() >= short);
    assert!(start.elapsed() < LONG / 2);
    let start = Instant::now();
    queue
        .wait(usize::MAX, Some(Duration::ZERO), &mut out)
        .expect("wait");
    assert!(start.elapsed() < LONG / 2);
    // A timeout that no clock can add does not overflow.
    queue.waker().wake();
    queue
        .wait(usize::MAX, Some(Duration::MAX), &mut out)
        .expect("wait");
    // A look gets what is there, in the end.
    queue.submit(&mut vec![read(1, 0, BLOCK)]).expect("submit");
    let start = Instant::now();
    while out.is_empty() {
        queue.wait(0, None, &mut out).expect("a look");
        assert!(start.elapsed() < LONG, "looks alone must get on");
    }
    assert_ok(&out);
}

pub(crate) fn an_idle_wait_takes_no_processor_time(s: &Subject) {
    let mut queue = s.device.queue(4).expect("a queue");
    let waker = queue.waker();
    for _ in 0..3 {
        // What is left of a wake must not make the next wait spin.
        waker.wake();
        queue
            .wait(usize::MAX, Some(LONG), &mut Vec::new())
            .expect("wait");
    }
    let clock = || {
        let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID);
        Duration::from(time.expect("a clock"))
    };
    let before = clock();
    let idle = Duration::from_millis(100);
    queue
        .wait(usize::MAX, Some(idle), &mut Vec::new())
        .expect("wait");
    let used = clock() - before;
    assert!(used < idle / 4, "{used:?} of {idle:?}");
}

pub(crate) fn returns_at_once_if_too_few_in_flight(s: &Subject) {
    let mut queue = s.device.queue(4).expect("a queue");
    let start = Instant::now();
    let mut out = Vec::new();
    assert_eq!(queue.wait(1, None, &mut out).expect("wait"), 0);
    assert_eq!(queue.wait(5, Some(LONG), &mut out).expect("wait"), 0);
    queue.submit(&mut vec![read(1, 0, BLOCK)]).expect("submit");
    assert_eq!(queue.in_flight(), 1);
    let n = queue.wait(2, Some(LONG), &mut out).expect("wait");
    assert!(n <= 1);
    assert!(start.elapsed() < LONG / 2);
    finish(queue.as_mut());
}

pub(crate) fn queues_side_by_side(s: &Subject) {
    let threads: Vec<_> = (0..4u64)
        .map(|t| {
            let device = s.device.clone();
            thread::spawn(move || {
                let mut queue = device.queue(8).expect("a queue");
                let base = t * 4 * MIB;
                for round in 0..10 {
                    let writes = (0..32)
                        .map(|i| {
                            let at = base + i * BLOCK as u64;
                            write(i, at, pattern(BLOCK, at + round))
                        })
                        .collect();
                    assert_ok(&run(queue.as_mut(), writes));
                    let reads = (0..32)
                        .map(|i| read(i, base + i * BLOCK as u64, BLOCK))
                        .collect();
                    for c in run(queue.as_mut(), reads) {
                        let at = base + c.token * BLOCK as u64;
                        let buf = c.buf.expect("a buffer");
                        assert_eq!(buf[..], pattern(BLOCK, at + round)[..]);
                    }
                }
            })
        })
        .collect();
    for t in threads {
        t.join().expect("a queue's thread");
    }
}

pub(crate) fn large_transfers(s: &Subject) {
    let mut queue = s.device.queue(4).expect("a queue");
    let len = 4 * MIB as usize;
    let out = run(
        queue.as_mut(),
        (0..3)
            .map(|i| durable_write(i, i * 5 * MIB, pattern(len, i)))
            .collect(),
    );
    assert_ok(&out);
    let out = run(
        queue.as_mut(),
        (0..3).map(|i| read(i, i * 5 * MIB, len)).collect(),
    );
    assert_ok(&out);
    for c in out {
        assert_eq!(c.buf.expect("a buffer")[..], pattern(len, c.token)[..]);
    }
    let mut buf = IoBuf::zeroed(len);
    s.device.read_at(5 * MIB, &mut buf).expect("read_at");
    assert_eq!(buf[..], pattern(len, 1)[..]);
}

pub(crate) fn reads_under_writes_are_whole_sectors(s: &Subject) {
    // Many rounds on one queue reuse slots and buffers; a mix-up shows.
    let mut queue = s.device.queue(16).expect("a queue");
    for round in 0..50u64 {
        let mut requests = Vec::new();
        for i in 0..16 {
            let at = (i * 37 % 64) * BLOCK as u64;
            requests.push(write(i, at, pattern(BLOCK, round * 100 + i)));
        }
        assert_ok(&run(queue.as_mut(), requests));
        let reads = (0..16)
            .map(|i| read(i, (i * 37 % 64) * BLOCK as u64, BLOCK))
            .collect();
        for c in run(queue.as_mut(), reads) {
            assert_eq!(
                c.buf.expect("a buffer")[..],
                pattern(BLOCK, round * 100 + c.token)[..]
            );
        }
    }
}

pub(crate) fn counts(s: &Subject) {
    let before = s.device.counters();
    let other = s.device.with_durable_method(DurableMethod::Dsync);
    let mut queue = s.device.queue(4).expect("a queue");
    let end = s.device.geometry().capacity;
    run(
        queue.as_mut(),
        vec![
            read(1, 0, BLOCK),
            write(2, 0, pattern(2 * BLOCK, 1)),
            durable_write(3, 8 * BLOCK as u64, pattern(BLOCK, 1)),
            flush(4),
            read(5, end, BLOCK),
        ],
    );
    s.device
        .read_at(0, &mut IoBuf::zeroed(BLOCK))
        .expect("read");
    s.device.write_at(0, &IoBuf::zeroed(BLOCK)).expect("write");
    s.device.flush().expect("flush");
    let now = s.device.counters();
    assert_eq!(
        now.reads - before.reads,
        2,
        "the refused one is not counted"
    );
    assert_eq!(now.read_bytes - before.read_bytes, 2 * BLOCK as u64);
    assert_eq!(now.writes - before.writes, 3);
    assert_eq!(now.written_bytes - before.written_bytes, 4 * BLOCK as u64);
    assert_eq!(now.durable_writes - before.durable_writes, 1);
    assert_eq!(now.flushes - before.flushes, 2);
    assert_eq!(other.counters().reads, 0, "each handle counts its own");
}

pub(crate) fn methods_can_be_chosen(s: &Subject) {
    for method in DurableMethod::ALL {
        let device: Arc<dyn Device> = s.device.with_durable_method(method);
        assert_eq!(device.durable_method(), method);
        assert_eq!(device.geometry(), s.device.geometry());
        assert_eq!(device.driver(), s.device.driver());
    }
}

pub(crate) fn durability_is_measured(s: &Subject) {
    let report = measure_durability(s.device.as_ref(), MIB, MIB, 3).expect("a report");
    assert_eq!(report.methods.len(), 2);
    for times in &report.methods {
        assert_eq!(times.writes, 3);
        assert!(times.min <= times.median && times.median <= times.max);
    }
    assert!(report.of(report.recommended).is_some());
    let e = measure_durability(s.device.as_ref(), 0, 512, 3).expect_err("no room");
    assert_eq!(e.kind, IoErrorKind::OutOfRange);
}
