//! `gaur plot` and `gaur diff` on the files of runs. What is written stays in `target/tmp/pages`, where
//! the test in a browser looks at it.

use std::path::{Path, PathBuf};

use crate::common::Place;
use crate::sample::Sample;

/// Where pages are left.
fn pages() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("pages")
}

const CLOSED: Sample = Sample {
    name: "ycsb-a",
    seconds: 60,
    open_loop: false,
    slower: 1.0,
    seed: 7,
};

/// The same machine, 1.3 times as slow.
const SLOWER: Sample = Sample {
    name: "slower",
    slower: 1.3,
    seed: 8,
    ..CLOSED
};

const OPEN: Sample = Sample {
    name: "open-loop <&\"> name",
    seconds: 250,
    open_loop: true,
    ..CLOSED
};

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).expect("a page")
}

#[test]
fn pages_are_written_anew_and_runs_laid_over_each_other() {
    let place = Place::new();
    let pages = pages();
    let (closed, open) = (pages.join("closed"), pages.join("open"));
    CLOSED.write(&closed);
    OPEN.write(&open);
    let (c, o) = (closed.display(), open.display());
    place.ok(&format!("plot {c} {o} --report"));
    place.ok(&format!(
        "plot {c} {o} -o {}",
        pages.join("plot.html").display()
    ));
    for (page, titles) in [
        (closed.join("report.html"), 17),
        (open.join("report.html"), 19),
        (pages.join("plot.html"), 9),
    ] {
        let text = read(&page);
        // Nothing comes from elsewhere.
        for from in ["src=", "@import", "url(", "href=\"http"] {
            assert!(!text.contains(from), "{}: {from}", page.display());
        }
        assert_eq!(
            text.matches("<figure").count(),
            titles,
            "{}",
            page.display()
        );
        assert_eq!(text.matches("<table data-tip").count(), titles);
        assert!(!text.contains("<&\"> name") && !text.contains("NaN"));
    }
    let report = read(&closed.join("report.html"));
    for section in [
        "latency",
        "time",
        "device",
        "engine",
        "worst",
        "environment",
        "config",
    ] {
        assert!(
            report.contains(&format!("<section id=\"{section}\"")),
            "{section}"
        );
    }
    assert!(report.contains("heat-update") && report.contains("no wait under a latch"));
    assert!(read(&pages.join("plot.html")).contains("open and closed loops together"));
}

#[test]
fn plots_are_files_of_their_own() {
    let place = Place::new();
    Sample {
        seconds: 15,
        ..CLOSED
    }
    .write(&place.path("a"));
    Sample {
        seconds: 15,
        ..SLOWER
    }
    .write(&place.path("b"));
    place.ok("plot a b -o both.svg --operation read --operation scan");
    let svg = read(&place.path("both.svg"));
    assert_eq!(svg.matches("class=\"plot one\"").count(), 6);
    assert!(svg.contains("slower") && !svg.contains("update") && !svg.contains("var("));
    let said = place.gaur(["plot", "a", "b", "-o", "both.png"]);
    if said.err.contains("no font") {
        println!("skipped: no font is installed");
    } else {
        assert_eq!(said.code, 0, "{}", said.err);
        let png = std::fs::read(place.path("both.png")).expect("a PNG");
        assert!(png.starts_with(b"\x89PNG\r\n") && png.len() > 50_000);
    }
    for (line, what) in [
        ("plot a -o both.jpg", ".html, .svg or .png"),
        ("plot a --operation rmw", "there is read, update, scan"),
        ("plot nowhere", "nowhere"),
    ] {
        assert!(place.refused(line).contains(what), "{line}");
    }
    std::fs::create_dir(place.path("empty")).expect("a directory");
    assert!(place.refused("plot empty").contains("no summary.json"));
    // What is broken is named, and by which line.
    let series = place.path("a").join("series.jsonl");
    std::fs::write(&series, "{\"t\":1.0,\"seconds\":1.0}\n{\"t\":\n").expect("written");
    assert!(place.refused("plot a").contains("series.jsonl, line 2"));
    std::fs::write(place.path("b").join("run.hlog"), "no log\n").expect("written");
    assert!(place.refused("diff b b").contains("run.hlog"));
    place.file("b/summary.json", "{\"schema\": 99}");
    assert!(place.refused("plot b").contains("layout 99"));
    place.file("b/summary.json", "[]");
    assert!(
        place
            .refused("plot b --report")
            .contains("no summary of a run")
    );
}

#[test]
fn differences_are_told_with_their_intervals() {
    let place = Place::new();
    CLOSED.write(&place.path("a"));
    SLOWER.write(&place.path("b"));
    let json = place.json("diff a b --seed 3 --format json");
    let row = |operation: &str, metric: &str| {
        let rows = json["rows"].as_array().expect("rows");
        let found = rows
            .iter()
            .find(|r| r["operation"] == operation && r["metric"] == metric);
        found
            .unwrap_or_else(|| panic!("{operation}.{metric}"))
            .clone()
    };
    for (operation, metric, expected) in [
        ("read", "p50", 1.3),
        ("update", "p90", 1.3),
        ("all", "throughput", 1.0 / 1.3),
    ] {
        let r = row(operation, metric);
        let ratio = r["ratio"].as_f64().expect("a ratio");
        let end = |i: usize| r["interval"][i].as_f64().expect("an interval");
        assert!((ratio / expected - 1.0).abs() < 0.05, "{r}");
        assert!(
            end(0) <= ratio && ratio <= end(1) && end(1) - end(0) < 0.2,
            "{r}"
        );
        assert!(end(0) > 1.0 || end(1) < 1.0, "{r}");
    }
    assert!(row("scan", "p99.999")["interval"].is_null());
    assert!(row("read", "max")["no_interval"].is_string());
    let differences = json["differences"].to_string();
    assert!(differences.contains("config.run.seed"), "{differences}");
    let text = place.ok("diff a b --seed 3");
    assert!(text.contains("seed 3") && text.contains("worse"), "{text}");
    assert_eq!(text, place.ok("diff a b --seed 3"));

    for (condition, code, what) in [
        ("p50 > 1.2x", 1, "read.p50 is"),
        ("read.p50>2x", 0, ""),
        ("throughput < 0.9x", 1, "all.throughput is"),
        ("throughput < 100", 0, ""),
        ("scan.p99.9 >= 1us", 1, "scan.p99.9 is"),
        ("p99.9 > 30s", 0, ""),
        ("rmw.p99 > 1x", 2, "operations are all, read, update, scan"),
        ("p98 > 1x", 2, "is no figure"),
        ("p99 over 1x", 2, "no > or <"),
    ] {
        let said = place.gaur(["diff", "a", "b", "--fail-if", condition]);
        assert_eq!(said.code, code, "{condition}: {} {}", said.out, said.err);
        assert!(said.err.contains(what), "{condition}: {}", said.err);
    }
    Sample {
        open_loop: true,
        ..SLOWER
    }
    .write(&place.path("b"));
    assert!(place.ok("diff a b").contains("is an open loop and"));
}
