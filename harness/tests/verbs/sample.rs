//! Directories of runs as `docs/run-files.md` describes them, made up: with what a
//! short run on a file does not show (an open loop, the device's floor, stalls).

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

/// What a made-up run is like.
pub(crate) struct Sample {
    pub(crate) name: &'static str,
    pub(crate) seconds: u64,
    pub(crate) open_loop: bool,
    /// All latencies times this, throughput divided by it.
    pub(crate) slower: f64,
    pub(crate) seed: u64,
}

const OPS: [(&str, u64, f64); 3] = [
    ("read", 2400, 450.0),
    ("update", 1500, 1_900.0),
    ("scan", 150, 21_000.0),
];

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("bounds")
}

fn figures(h: &Histogram<u64>) -> Value {
    json!({ "count": h.len(), "mean_ns": h.mean(),
        "p50_ns": h.value_at_quantile(0.5), "p90_ns": h.value_at_quantile(0.9),
        "p99_ns": h.value_at_quantile(0.99), "p99_9_ns": h.value_at_quantile(0.999),
        "max_ns": h.max() })
}

fn latency(h: &Histogram<u64>, seconds: f64) -> Value {
    let mut v = figures(h);
    for (name, q) in [
        ("p75_ns", 0.75),
        ("p99_99_ns", 0.9999),
        ("p99_999_ns", 0.99999),
    ] {
        v[name] = h.value_at_quantile(q).into();
    }
    v["per_second"] = (h.len() as f64 / seconds).into();
    v["min_ns"] = h.min().into();
    v["stdev_ns"] = h.stdev().into();
    v
}

fn hgrm(h: &Histogram<u64>) -> String {
    let mut out = String::from("       Value     Percentile TotalCount 1/(1-Percentile)\n\n");
    for step in h.iter_quantiles(5) {
        let q = step.quantile_iterated_to();
        let inverse = match q {
            1.0 => "inf".into(),
            q => format!("{:.2}", 1.0 / (1.0 - q)),
        };
        let value = step.value_iterated_to() as f64 / 1e3;
        let seen = (step.quantile() * h.len() as f64).round();
        let _ = writeln!(out, "{value:12.3} {q:14.12} {seen:10} {inverse:>14}");
    }
    out
}

impl Sample {
    /// Writes the files of the run into `dir`.
    pub(crate) fn write(&self, dir: &Path) {
        fs::create_dir_all(dir).expect("a directory");
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let load = 4_u64;
        let tags = |op: &str| [op.to_owned(), format!("{op}.service")];
        let mut whole: Vec<[Histogram<u64>; 2]> =
            OPS.iter().map(|_| [histogram(), histogram()]).collect();
        let mut log = Vec::new();
        let mut series = String::new();
        let mut serializer = V2DeflateSerializer::new();
        let mut writer = IntervalLogWriterBuilder::new()
            .with_start_time(SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_000_000))
            .with_base_time(SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_000_000))
            .begin_log_with(&mut log, &mut serializer)
            .expect("a log");
        for t in 0..load + self.seconds {
            let second = Duration::from_secs(1);
            let from = Duration::from_secs(t);
            let checkpoint = t % 7 == 6;
            let stall = t == load + self.seconds / 2;
            let mut ops = json!({});
            if t < load {
                let mut h = histogram();
                for _ in 0..700 {
                    h.record(rng.random_range(150_000..900_000)).expect("fits");
                }
                writer
                    .write_histogram(&h, from, second, Tag::new("load"))
                    .expect("written");
                ops["load"] = figures(&h);
            } else {
                for (i, (name, each, typical)) in OPS.iter().enumerate() {
                    let mut pair = [histogram(), histogram()];
                    let wobble: f64 = rng.random_range(0.93..1.07);
                    let slow = self.slower * if checkpoint { 1.25 } else { 1.0 };
                    for _ in 0..(*each as f64 * wobble / slow) as u64 {
                        let u: f64 = rng.random_range(0.0..1.0);
                        let mut ns = typical * slow * wobble * (0.6 + 0.5 * u / (1.002 - u));
                        if rng.random_range(0..90) == 0 {
                            ns += rng.random_range(60_000.0..140_000.0) * self.slower;
                        }
                        if stall && rng.random_range(0..400) == 0 {
                            ns += 2.1e8;
                        }
                        pair[1].record(ns as u64).expect("fits");
                        let late = if checkpoint { u * 900_000.0 } else { 0.0 };
                        pair[0]
                            .record((ns + late * f64::from(self.open_loop)) as u64)
                            .expect("fits");
                    }
                    for (j, tag) in tags(name).iter().enumerate() {
                        if j == 0 || self.open_loop {
                            let h = &pair[if self.open_loop { j } else { 1 }];
                            whole[i][j].add(h).expect("same bounds");
                            writer
                                .write_histogram(h, from, second, Tag::new(tag))
                                .expect("written");
                        }
                    }
                    ops[*name] = figures(&pair[usize::from(!self.open_loop)]);
                }
            }
            let writes: u64 = rng.random_range(900..1_300) + if checkpoint { 2_500 } else { 0 };
            let line = json!({
                "t": t + 1, "seconds": 1.0, "phase": if t < load { "load" } else { "run" },
                "operations": ops,
                "device": { "reads": rng.random_range(2_000..2_600), "read_bytes": rng.random_range(9_000_000..10_000_000),
                    "writes": writes, "written_bytes": writes * 16_384, "flushes": rng.random_range(80..120),
                    "discards": 0, "discarded_bytes": 0 },
                "user_bytes": 3_000_000, "write_amplification": 2.0 + writes as f64 / 1_000.0,
                "hit_rate": 0.98 - 0.04 * f64::from(checkpoint) + rng.random_range(0.0..0.015),
                "resident_bytes": 150_000_000 + t * 400_000, "checkpoints": u64::from(checkpoint),
                "steal": if stall { 0.08 } else { 0.0 }, "counters": {}
            });
            let _ = writeln!(series, "{line}");
        }
        drop(writer);
        let write = |name: &str, bytes: &[u8]| fs::write(dir.join(name), bytes).expect("written");
        write("run.hlog", &log);
        write("series.jsonl", series.as_bytes());
        let seconds = self.seconds as f64;
        let mut operations = Vec::new();
        for ((name, ..), [intended, service]) in OPS.iter().zip(&whole) {
            write(&format!("{name}.hgrm"), hgrm(intended).as_bytes());
            let mut op = json!({ "name": name, "records": intended.len(), "missing": 0,
                "latency": latency(intended, seconds), "service": null });
            if self.open_loop {
                write(&format!("{name}.service.hgrm"), hgrm(service).as_bytes());
                op["service"] = latency(service, seconds);
            }
            operations.push(op);
        }
        let summary = self.summary(load as f64, &operations);
        write("summary.json", format!("{summary:#}\n").as_bytes());
        let config = toml::to_string(&summary["config"]).expect("TOML");
        write("run.toml", config.as_bytes());
    }

    fn summary(&self, begin: f64, operations: &[Value]) -> Value {
        let count = |v: u64| json!({ "value": v, "unit": "count" });
        let nanos = |v: u64| json!({ "value": v, "unit": "ns" });
        let worst: Vec<Value> = (0..8_u64)
            .map(|i| {
                json!({ "operation": OPS[i as usize % 3].0, "at": begin + self.seconds as f64 / 2.0 + 0.01 * i as f64,
                    "thread": i % 4, "latency_ns": 214_000_000 - i * 9_000_000, "service_ns": 190_000_000 - i * 9_000_000,
                    "late_ns": if self.open_loop { 24_000_000 } else { 0 },
                    "waits": { "durable": 110_000_000 - i * 11_000_000, "log_space": 31_000_000, "read": i * 1_000_000 },
                    "off_cpu_ns": 7_000_000 })
            })
            .collect();
        let rate = if self.open_loop {
            json!(4050.0)
        } else {
            Value::Null
        };
        let mut config = json!({
            "store": { "path": "/dev/nvme0n1p3", "size": "8GiB", "cache": "256MiB", "driver": "auto" },
            "load": { "records": 200_000, "key_bytes": 16, "value_bytes": 100 },
            "run": { "threads": 4, "seconds": self.seconds, "seed": self.seed, "mix": { "read": 60.0, "update": 37.0, "scan": 3.0 } },
        });
        if self.open_loop {
            config["run"]["rate"] = rate;
        }
        json!({
            "schema": 2, "name": self.name, "seed": self.seed, "started": "2026-11-24T10:00:00Z",
            "stream_checksum": "xxh3:0123456789abcdef",
            "environment": { "gaur": "0.1.0", "optimised": true, "kernel": "6.12.9", "cpu": "a processor of eight cores",
                "cpus": 8, "memory": 33_554_432_000_u64, "direct": true, "driver": "io_uring", "durable_method": "write-flush",
                "device": { "path": "/dev/nvme0n1p3", "model": "A drive of 1 TB", "scheduler": "none", "write_cache": "write back",
                    "logical_block_bytes": 512, "discard": true }, "notes": [] },
            "phases": [
                { "name": "load", "kind": "load", "begin": 0.0, "seconds": begin, "threads": 2, "open_loop": false,
                  "operations": [ { "name": "load", "records": 280_000, "missing": 0, "latency": { "count": 2_800, "per_second": 700.0,
                    "mean_ns": 520_000.0, "stdev_ns": 2.0, "min_ns": 150_000, "p50_ns": 520_000, "p75_ns": 700_000, "p90_ns": 820_000,
                    "p99_ns": 893_000, "p99_9_ns": 899_000, "p99_99_ns": 899_900, "p99_999_ns": 899_900, "max_ns": 899_900 }, "service": null } ],
                  "not_started": 0, "counters": {}, "device": null, "worst": [] },
                { "name": "run", "kind": "run", "begin": begin, "seconds": self.seconds as f64, "threads": 4,
                  "open_loop": self.open_loop, "steady": !self.open_loop, "operations": operations,
                  "not_started": if self.open_loop { 12 } else { 0 }, "user_bytes": 180_000_000_u64, "write_amplification": 3.42, "hit_rate": 0.9731,
                  "counters": {
                    "reservations": { "taken_from_channel": count(53_776), "taken_by_request": count(200), "blocks_used": count(53_963), "blocks_returned": count(13), "blocks_stashed": count(30) },
                    "restarts": { "lost_races": count(2), "restarts_batch": count(0), "restarts_empty": count(20), "restarts_frame": count(4), "restarts_log": count(1), "restarts_parked": count(0), "restarts_upgrade": count(7) },
                    "waits": { "durable": count(41_201), "durable_nanos": nanos(91_201_000_000), "log_space": count(3), "log_space_nanos": nanos(93_000_000), "read": count(120), "read_nanos": nanos(14_000_000), "under_latch": count(0) },
                    "allocator": { "channel_dry": count(20), "refills": count(92), "requests": count(25), "freezes": count(4) },
                    "throttle": { "commits": count(1_651), "nanos": nanos(654_663_133), "stalls": count(0) },
                    "checkpoints": { "checkpoints": count(8), "nanos": nanos(1_424_960_120), "bytes": { "value": 203_890_688_u64, "unit": "bytes" } },
                    "log": { "batches": count(168), "records": count(569_840) } },
                  "device": { "reads": 138_000, "read_bytes": 565_000_000, "writes": 91_000, "written_bytes": 1_490_000_000, "flushes": 6_012, "discards": 0, "discarded_bytes": 0 },
                  "worst": worst, "harness": { "cost_ns": 61.0, "share_of_median": 0.13, "over": true } }
            ],
            "floor": {
                "cells": [
                    { "name": "random read 4 KiB", "depth": 1, "per_second": 11_200.0, "bytes_per_second": 45_875_200.0, "p50_ns": 84_000, "p99_ns": 131_000 },
                    { "name": "random read 4 KiB", "depth": 32, "per_second": 212_000.0, "bytes_per_second": 868_352_000.0, "p50_ns": 141_000, "p99_ns": 402_000 },
                    { "name": "write and flush 4 KiB", "depth": 1, "per_second": 1_450.0, "bytes_per_second": 5_939_200.0, "p50_ns": 640_000, "p99_ns": 2_100_000 } ],
                "share": [
                    { "what": "reads", "engine_per_second": 2_300.0, "device_per_second": 212_000.0, "share": 0.0108 },
                    { "what": "durable writes", "engine_per_second": 1_020.0, "device_per_second": 1_450.0, "share": 0.703 } ] },
            "memory": { "peak_bytes": 190_000_000_u64, "bound_bytes": 362_387_865_u64 },
            "check": { "clean": true, "problems": [] }, "missed": [], "interrupted": false,
            "config": config
        })
    }
}
