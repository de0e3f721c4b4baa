//! The campaigns, each a program to run.

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use gaur_iodriver::faults::{Fault, VARIABLE};
use gaur_iodriver::sync::thread;
use serde_json::Value;

use super::verdict;
use crate::failure::Failure;

/// The campaign that simulates.
const SIM: &str = "sim";
/// What a campaign with a budget of its own may take longer, to come to its end.
const GRACE: Duration = Duration::from_secs(30);
/// How often to look whether a campaign has ended.
const LOOK: Duration = Duration::from_millis(20);

/// One campaign.
#[derive(Debug)]
pub(crate) struct Finder {
    /// What it is called on the command line and in results.
    pub(crate) name: &'static str,
    program: PathBuf,
    arguments: Vec<String>,
    variables: Vec<(&'static str, String)>,
    /// Where it expects to run.
    directory: PathBuf,
    /// Its last argument is how long it may take.
    takes_budget: bool,
}

/// How a campaign ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// It failed; by which check.
    Noticed(String),
    /// Nothing was noticed, or not in time.
    Well,
}

/// A test program of the engine, and which of its tests.
struct Test {
    name: &'static str,
    program: &'static str,
    tests: &'static [&'static str],
}

/// The cheap and likely ones first.
const TESTS: [Test; 6] = [
    Test {
        name: "crash",
        program: "crash",
        tests: &["power_cuts"],
    },
    Test {
        name: "damage",
        program: "damage",
        tests: &[],
    },
    Test {
        name: "concurrency",
        program: "concurrency",
        tests: &[],
    },
    Test {
        name: "full",
        program: "full",
        tests: &[],
    },
    Test {
        name: "errors",
        program: "faults",
        tests: &[],
    },
    Test {
        name: "stale",
        program: "stale",
        tests: &[],
    },
];

/// Campaigns, built with the faults, those with these names or all: the simulation
/// first.
pub(crate) fn all(seed: u64, names: &[String]) -> Result<Vec<Finder>, Failure> {
    let wanted = |name: &str| names.is_empty() || names.iter().any(|n| n == name);
    let mut all = Vec::new();
    if wanted(SIM) {
        all.push(simulation(seed)?);
    }
    if !TESTS.iter().any(|t| wanted(t.name)) {
        return Ok(all);
    }
    let built = build()?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine");
    for test in TESTS.iter().filter(|t| wanted(t.name)) {
        let program = built.get(test.program).cloned();
        let missing = || Failure::refused(format!("there is no test `{}`", test.program));
        all.push(Finder {
            name: test.name,
            program: program.ok_or_else(missing)?,
            arguments: test.tests.iter().map(|t| (*t).to_owned()).collect(),
            variables: vec![
                ("GAUR_CRASH_SEED", seed.to_string()),
                ("GAUR_SEED", seed.to_string()),
            ],
            directory: root.clone(),
            takes_budget: false,
        });
    }
    Ok(all)
}

/// `gaur sim`, of this program.
fn simulation(seed: u64) -> Result<Finder, Failure> {
    if !cfg!(feature = "simulation") {
        let why = "the simulation needs a build with --features simulation";
        return Err(Failure::refused(why));
    }
    let program = std::env::current_exe().map_err(|e| Failure::refused(e.to_string()))?;
    let seed = seed.to_string();
    Ok(Finder {
        name: SIM,
        program,
        arguments: ["sim", "--no-shrink", "--seed", &seed, "--budget"]
            .map(str::to_owned)
            .to_vec(),
        variables: Vec::new(),
        directory: ".".into(),
        takes_budget: true,
    })
}

/// Builds the engine's tests as this program was built; where each is.
fn build() -> Result<HashMap<String, PathBuf>, Failure> {
    let wrong = |why: String| Failure::refused(format!("cannot build the tests: {why}"));
    let me = std::env::current_exe().map_err(|e| wrong(e.to_string()))?;
    let target = me.ancestors().nth(2).unwrap_or(&me);
    let out = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["test", "-p", "gaur", "--no-run", "--message-format=json"])
        .arg("--target-dir")
        .arg(target)
        .env("RUSTFLAGS", "--cfg faults")
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| wrong(e.to_string()))?;
    if !out.status.success() {
        return Err(wrong(out.status.to_string()));
    }
    let lines = String::from_utf8_lossy(&out.stdout).into_owned();
    Ok(lines
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|message| {
            let name = message["target"]["name"].as_str()?.to_owned();
            let program = message["executable"].as_str()?;
            Some((name, PathBuf::from(program)))
        })
        .collect())
}

impl Finder {
    /// Runs it with a fault, or none, for at most so long. Also tells whether the
    /// fault's code was reached.
    pub(crate) fn run(
        &self,
        fault: Option<Fault>,
        limit: Duration,
    ) -> Result<(Ended, bool), Failure> {
        let wrong = |e: std::io::Error| Failure::refused(format!("`{}`: {e}", self.name));
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        let mut patience = limit;
        if self.takes_budget {
            command.arg(format!("{}ms", limit.as_millis()));
            patience += GRACE;
        }
        command
            .envs(self.variables.iter().map(|(k, v)| (k, v)))
            .env(VARIABLE, fault.map_or("", Fault::name))
            .env("RUST_BACKTRACE", "0")
            .current_dir(&self.directory)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(wrong)?;
        let out = child.stdout.take().map(reading);
        let err = child.stderr.take().map(reading);
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().map_err(wrong)? {
                break Some(status);
            }
            if begun.elapsed() >= patience {
                child.kill().map_err(wrong)?;
                child.wait().map_err(wrong)?;
                break None;
            }
            thread::sleep(LOOK);
        };
        let text: String = [err, out]
            .into_iter()
            .flatten()
            .filter_map(|thread| thread.join().ok())
            .collect();
        let met = fault.is_some_and(|f| verdict::at_work(&text, f));
        let ended = match status {
            Some(status) if !status.success() => Ended::Noticed(verdict::check(&text)),
            _ => Ended::Well,
        };
        Ok((ended, met))
    }
}

/// Reads a pipe to its end beside everything else, so that nobody waits for it.
fn reading(mut pipe: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
