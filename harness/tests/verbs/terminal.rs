//! What the tool is to a terminal: completions and manual pages, progress, and the form of
//! its results.

use std::process::Command;

use serde_json::{Value, json};

use crate::common::Place;

/// The verbs that `gaur help` shows.
fn verbs(place: &Place) -> Vec<String> {
    let help = place.ok("--help");
    let shown = help.split("Options:").next().unwrap_or_default();
    let named = shown.lines().filter_map(|l| l.strip_prefix("  "));
    let verbs: Vec<_> = named
        .filter_map(|l| l.split_once(' '))
        .map(|(verb, _)| verb.to_owned())
        .filter(|verb| verb != "help")
        .collect();
    assert!(verbs.len() >= 20, "{help}");
    verbs
}

#[test]
fn completions_and_pages_name_every_verb() {
    let place = Place::new();
    let verbs = verbs(&place);
    let mut texts = vec![("man".to_owned(), place.ok("man").replace('\\', ""))];
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let text = place.ok(&format!("completions {shell}"));
        assert!(text.contains("--dry-run") || shell == "fish", "{shell}");
        texts.push((shell.to_owned(), text));
    }
    for (what, text) in &texts {
        for verb in &verbs {
            assert!(text.contains(verb.as_str()), "{what}: {verb}");
        }
        assert!(!text.contains("crash-child"), "{what} shows what is hidden");
    }
    place.ok("man pages/man1");
    for verb in &verbs {
        let path = place.path(&format!("pages/man1/gaur-{verb}.1"));
        let page = std::fs::read_to_string(&path).expect("a page");
        assert!(page.contains("Examples:"), "{verb}");
    }
    assert!(place.path("pages/man1/gaur-inspect-log.1").exists());
    assert!(!place.path("pages/man1/gaur-crash-child.1").exists());
    place.file("taken", "");
    assert!(place.refused("man taken").contains("taken"));
}

/// The lines of a text, each an object.
fn lines(text: &str) -> Vec<Value> {
    let one = |l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"));
    text.lines().map(one).collect()
}

#[test]
fn one_option_gives_the_form_of_all_results() {
    let place = Place::new();
    let made = place.json("format s --size 64MiB --format json");
    assert_eq!(made["block_size"], 4096);
    let said = place.ok("--format jsonl put s a 1");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(lines(&said)[0]["csn"].as_u64() > Some(0));
    assert_eq!(place.json("scan s --prefix x --format json"), json!([]));
    place.ok("put s b 2");
    let all = json!([{ "key": "a", "value": "1" }, { "key": "b", "value": "2" }]);
    assert_eq!(place.json("scan s --format json"), all);
    let each = place.ok("scan s --format jsonl");
    assert_eq!(json!(lines(&each)), all);
    assert_eq!(place.ok("scan s --json"), each);
    assert_eq!(place.ok("scan s --format text"), "a\t1\nb\t2\n");
    for verb in ["stat s", "check s", "inspect log s", "device s", "get s a"] {
        let out = place.ok(&format!("{verb} --format jsonl"));
        assert_eq!(lines(&out).len(), 1, "{verb}: {out}");
        assert_eq!(
            place.json(&format!("{verb} --json")).is_object(),
            place.json(&format!("{verb} --format json")).is_object()
        );
    }
    assert!(place.ok("dump s --format jsonl").lines().count() > 2);
    let metrics = place.ok("stat s --format prometheus");
    let capacity = "gaur_growth_capacity_bytes{store=\"s\"} 67108864\n";
    assert!(metrics.contains(capacity), "{metrics}");
    for (line, says) in [
        ("plot x --format json", "gaur plot has no structured output"),
        ("man --format json", "gaur man"),
        ("completions bash --format jsonl", "gaur completions"),
        ("experiment huge --format json", "gaur experiment huge"),
        ("experiment cow --format json", "--json FILE"),
        ("stat s --json --format text", "contradict"),
        ("get s a --raw --format json", "--raw"),
        ("dump s --format json", "--format jsonl"),
        ("stat s --format markdown", "only gaur compare"),
        ("get s a --format prometheus", "only gaur stat"),
        ("stat s --json --format prometheus", "contradict"),
    ] {
        let said = place.refused(line);
        assert!(said.contains(says), "{line}: {said}");
    }
}

const MIX: &str = "\
[store]
path = \"r.store\"
size = \"64MiB\"
create = \"fresh\"
[load]
records = 1000
[run]
seconds = 2.2
rate = 500
mix = { read = 1, update = 1 }
durability = \"buffered\"
";

#[test]
fn a_run_streams_its_seconds_and_then_the_summary() {
    let place = Place::new();
    place.file("r.toml", MIX);
    let said = place.gaur(["run", "r.toml", "--format", "jsonl", "--out", "o"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{}", said.out);
    let mut all = lines(&said.out);
    let summary = all.pop().expect("a summary");
    assert!(summary["schema"].is_number() && summary["phases"].is_array());
    let file = std::fs::read_to_string(place.path("o/series.jsonl")).expect("a series");
    assert_eq!(all, lines(&file));
    assert!(all.iter().filter(|l| l["phase"] == "run").count() >= 2);
    let one = place.json("run r.toml --format json --set run.seconds=0.2");
    assert!(one["phases"].is_array());

    // A reader that goes away ends the run in good order.
    let tool = env!("CARGO_BIN_EXE_gaur");
    let line = format!("{tool} run r.toml --format jsonl --set run.seconds=60 | head -n 2");
    let out = Command::new("sh")
        .args(["-c", &line])
        .current_dir(place.path(""))
        .output()
        .expect("a shell");
    assert_eq!(String::from_utf8_lossy(&out.stdout).lines().count(), 2);
    assert_eq!(place.json("stat r.store --json")["clean"], true);
}

#[test]
fn a_terminal_sees_the_last_seconds_latencies_and_a_dumb_one_does_not() {
    let place = Place::new();
    place.file("r.toml", MIX);
    let tool = env!("CARGO_BIN_EXE_gaur");
    let line = format!("{tool} run r.toml >/dev/null");
    let seen = |term: &str, no_color: &str| {
        let out = Command::new("script")
            .args(["-qec", &line, "/dev/null"])
            .env("TERM", term)
            .env("NO_COLOR", no_color)
            .current_dir(place.path(""))
            .output()
            .ok()?;
        Some(String::from_utf8_lossy(&out.stdout).into_owned())
    };
    let Some(plain) = seen("xterm", "1") else {
        println!("skipped: no script(1), which makes a terminal");
        return;
    };
    assert!(plain.contains("last second  p50 "), "{plain:?}");
    assert!(
        plain.contains("p99.9 ") && plain.contains(" left"),
        "{plain:?}"
    );
    assert!(!plain.contains("\u{1b}[36m"), "{plain:?}");
    let dumb = seen("dumb", "").expect("as before");
    assert!(
        !dumb.contains("last second") && !dumb.contains('\u{1b}'),
        "{dumb:?}"
    );
}
