//! Threads that record while their seconds are taken from them.

use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::sync::Mutex;
use std::thread;

use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

use super::*;
use crate::run::measure::{Measured, histogram};
use crate::run::summary::Kind;

fn one(written: u64) -> Done {
    Done {
        records: 1,
        missing: 0,
        written,
    }
}

/// Four threads record `n` operations each while seconds end all the time.
fn record(journal: &mut Journal, n: u64) -> (Recorded, Histogram<u64>) {
    let mut tape = Tape::begin(journal, &Nothing, Kind::Run, 3).unwrap();
    let all: Mutex<Histogram<u64>> = Mutex::new(histogram().unwrap());
    let (recorders, slots): (Vec<_>, Vec<_>) = (0..4)
        .map(|thread| {
            let r = Recorder::new([Op::Read, Op::Update], true, 3, thread).unwrap();
            let slot = r.slot().clone();
            (r, slot)
        })
        .unzip();
    thread::scope(|s| {
        let all = &all;
        let workers: Vec<_> = (0..)
            .zip(recorders)
            .map(|(thread, mut r)| {
                s.spawn(move || {
                    let mut mine: Histogram<u64> = histogram().unwrap();
                    for i in 0..n {
                        let took = 1 + i * 7 + thread;
                        mine.record(took + 1000).unwrap();
                        let (took, late) = (Duration::from_nanos(took), Duration::from_nanos(1000));
                        let op = if i % 3 == 0 { Op::Update } else { Op::Read };
                        r.record(op, Instant::now(), took, Some(late), one(2));
                    }
                    all.lock().unwrap().add(mine).unwrap();
                    r
                })
            })
            .collect();
        while !workers.iter().all(|w| w.is_finished()) {
            slots.iter().for_each(|slot| tape.take(slot).unwrap());
            tape.line().unwrap();
        }
        for worker in workers {
            tape.end_of(worker.join().unwrap()).unwrap();
        }
    });
    (tape.finish().unwrap(), all.into_inner().unwrap())
}

fn whole(m: &Measured) -> Histogram<u64> {
    let mut sum = histogram().unwrap();
    m.each()
        .for_each(|(_, seen)| sum.add(&seen.latency).unwrap());
    sum
}

#[test]
fn every_operation_is_in_exactly_one_second() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::new(Path::new("none"), Some(dir.path()));
    let (recorded, exact) = record(&mut journal, 20_000);
    let measured = &recorded.measured;
    assert_eq!(whole(measured), exact);
    assert_eq!(measured.written(), 160_000);
    // The slowest of all threads, the slowest first.
    let slowest: Vec<u64> = recorded.worst.iter().map(|(_, s)| s.latency).collect();
    assert_eq!(slowest, [3, 2, 1].map(|t| 1001 + 19_999 * 7 + t));

    // The lines add up to the phase.
    let series = fs::read_to_string(dir.path().join("series.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> = series
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert!(lines.len() > 2, "only {} lines", lines.len());
    let count: u64 = lines
        .iter()
        .flat_map(|l| l["operations"].as_object().unwrap().values())
        .map(|o| o["count"].as_u64().unwrap())
        .sum();
    assert_eq!(count, 80_000);
    let mut at = 0.0;
    for line in &lines {
        let (t, seconds) = (
            line["t"].as_f64().unwrap(),
            line["seconds"].as_f64().unwrap(),
        );
        assert!((t - seconds - at).abs() < 1e-6, "a gap before {line}");
        at = t;
    }

    // And so do the log's histograms, by tag.
    let log = fs::read(dir.path().join("run.hlog")).unwrap();
    for (op, seen) in measured.each() {
        for (tag, expected) in [
            (op.name().to_owned(), &seen.latency),
            (
                format!("{}.service", op.name()),
                seen.service.as_ref().unwrap(),
            ),
        ] {
            assert_eq!(&of_log(&log, &tag), expected, "{tag}");
        }
    }
}

/// The sum of a log's histograms under one tag.
fn of_log(log: &[u8], wanted: &str) -> Histogram<u64> {
    let mut sum = histogram().unwrap();
    for entry in IntervalLogIterator::new(log) {
        let LogEntry::Interval(line) = entry.expect("a line") else {
            continue;
        };
        if line.tag().is_some_and(|t| t.as_str() == wanted) {
            let bytes = base64(line.encoded_histogram());
            let h: Histogram<u64> = Deserializer::new()
                .deserialize(&mut Cursor::new(bytes))
                .unwrap();
            sum.add(h).unwrap();
        }
    }
    sum
}

fn base64(text: &str) -> Vec<u8> {
    let value = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let text = text.trim_end_matches('=').as_bytes();
    let mut out = Vec::new();
    for four in text.chunks(4) {
        let bits = four.iter().fold(0, |n, c| n << 6 | u32::from(value(*c)));
        let bits = bits << (6 * (4 - four.len()) + 8);
        out.extend(&bits.to_be_bytes()[..four.len() * 6 / 8]);
    }
    out
}

#[test]
fn an_open_loop_keeps_both_figures() {
    let mut journal = Journal::new(Path::new("none"), None);
    let mut tape = Tape::begin(&mut journal, &Nothing, Kind::Run, 1).unwrap();
    let mut r = Recorder::new([Op::Read], true, 1, 0).unwrap();
    let (service, late) = (Duration::from_micros(10), Duration::from_millis(1));
    r.record(Op::Read, Instant::now(), service, Some(late), one(0));
    tape.end_of(r).unwrap();
    let recorded = tape.finish().unwrap();
    let (_, seen) = recorded.measured.each().next().unwrap();
    assert!(seen.latency.max() >= 1_010_000);
    assert!((10_000..10_100).contains(&seen.service.as_ref().unwrap().max()));
    let slow = &recorded.worst[0].1;
    assert_eq!((slow.latency, slow.service), (1_010_000, 10_000));
}

#[test]
fn over_a_minute_counts_as_a_minute() {
    let mut r = Recorder::new([Op::Scan], false, 0, 0).unwrap();
    r.record(
        Op::Scan,
        Instant::now(),
        Duration::from_secs(100),
        None,
        one(0),
    );
    let ops = r.slot().lock();
    let max = ops[Op::Scan as usize].as_ref().unwrap().latency.max();
    assert!((60_000_000_000..61_000_000_000).contains(&max));
}

/// Not a test of speed, but the way to measure it: run alone, optimised.
#[test]
#[ignore = "measures; run it by hand"]
fn what_a_record_costs() {
    const N: u32 = 10_000_000;
    for worst in [0, 20] {
        let mut r = Recorder::new([Op::Read], false, worst, 0).unwrap();
        let begin = Instant::now();
        for i in 0..N {
            let took = Duration::from_nanos(u64::from(i.wrapping_mul(2_654_435_761) >> 16));
            r.record(Op::Read, begin, took, None, one(1));
        }
        println!("worst {worst}: {:?} each", begin.elapsed() / N);
    }
}
