//! `gaur plot` on the files of runs. What is written stays in `target/tmp/pages`, where
//! the test in a browser looks at it.

use std::path::PathBuf;

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

#[test]
fn reports_are_written_anew() {
    let place = Place::new();
    let pages = pages();
    CLOSED.write(&pages.join("closed"));
    Sample {
        name: "open-loop <&\"> name",
        open_loop: true,
        seconds: 400,
        ..CLOSED
    }
    .write(&pages.join("open"));
    for run in ["closed", "open"] {
        let dir = pages.join(run);
        place.ok(&format!("plot {} --report", dir.display()));
        let page = std::fs::read_to_string(dir.join("report.html")).expect("a report");
        // Nothing comes from elsewhere.
        for from in ["src=", "@import", "url(", "href=\"http"] {
            assert!(!page.contains(from), "{run}: {from}");
        }
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
                page.contains(&format!("<section id=\"{section}\"")),
                "{run}: {section}"
            );
        }
        assert_eq!(
            page.matches("<figure").count(),
            page.matches("<table data-tip").count()
        );
        assert!(page.contains("heat-update"), "{run}");
        assert!(!page.contains("<&\"> name"), "escaped");
        assert!(!page.contains("NaN"), "{run}");
    }
}
