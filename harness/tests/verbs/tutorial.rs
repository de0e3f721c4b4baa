//! The commands of `docs/tutorial.md`, as they stand there, with less of everything.

use std::process::Command;

use crate::common::Place;

const TUTORIAL: &str = include_str!("../../../docs/tutorial.md");

/// What takes its time there, and what is done here.
const SHORTER: [(&str, &str); 5] = [
    ("truncate -s 2G", "truncate -s 256M"),
    ("records = 400_000", "records = 4_000"),
    ("warmup_seconds = 5\n", "warmup_seconds = 0.5\n"),
    ("\nseconds = 30\n", "\nseconds = 2\n"),
    ("--seconds 20", "--seconds 1"),
];

/// Others look for free devices too, and a failure leaves none behind. By its file:
/// the number may be somebody else's by then.
const AROUND: &str = "set -eu
losetup() { for _ in 1 2 3 4 5 6 7 8 9 10; do
  command losetup \"$@\" && return; sleep 0.1; done; return 1; }
trap 'command losetup -n -O NAME -j study.img | xargs -r losetup -d' EXIT
";

#[test]
fn the_tutorials_commands_work_in_order() {
    let blocks = TUTORIAL.split("```sh\n").skip(1);
    let mut script: String = blocks.filter_map(|b| b.split("```").next()).collect();
    for (long, short) in SHORTER {
        assert!(script.contains(long), "the tutorial has no {long:?}");
        script = script.replace(long, short);
    }
    let has = |tool: &str| Command::new(tool).arg("--version").output().is_ok();
    if !nix::unistd::geteuid().is_root() || !has("losetup") || !has("jq") {
        println!("skipped: the tutorial needs root, losetup and jq");
        return;
    }
    let place = Place::new();
    let tool = std::path::Path::new(env!("CARGO_BIN_EXE_gaur"));
    let path = std::env::var("PATH").unwrap_or_default();
    let dir = tool.parent().expect("a directory").display();
    let out = Command::new("sh")
        .args(["-c", &format!("{AROUND}{script}")])
        .env("PATH", format!("{dir}:{path}"))
        .current_dir(place.path(""))
        .output()
        .expect("a shell");
    let (said, err) = (
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr),
    );
    assert!(out.status.success(), "{said}\n{err}");
    for file in [
        "both.html",
        "runs/open/report.html",
        "runs/small/report.html",
    ] {
        assert!(place.path(file).exists(), "{file}\n{said}\n{err}");
    }
    assert!(said.contains("loop     open"), "{said}");
}
