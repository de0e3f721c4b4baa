//! The process in which one engine works.

use std::io::{Read, Write};

use gaur::{FormatOptions, OpenOptions, Store};

use super::cell::Bench;
use super::plan::Engine;
use super::rows::{self, Stage};
use super::wire::{Event, Job};
use crate::cli::DEFAULT_TREE;
use crate::failure::{FINE, Failure, Outcome};
use crate::subject::peers::{self, Settings, Setup};
use crate::subject::{Gaur, Subject};
use crate::{interrupt, memory};

/// The verb that makes this program such a process.
pub(crate) const VERB: &str = "compare-child";

/// An open store and what it was set to.
pub(super) struct Opened {
    pub(super) subject: Box<dyn Subject>,
    pub(super) settings: Settings,
}

/// Does the job that comes on standard input, and tells on standard output.
pub(crate) fn serve() -> Outcome {
    interrupt::catch();
    let broke = |e: std::io::Error| Failure::refused(format!("the parent is gone: {e}"));
    let mut stdin = std::io::stdin();
    let mut line = String::new();
    stdin.read_line(&mut line).map_err(broke)?;
    let job: Job = serde_json::from_str(&line)
        .map_err(|e| Failure::refused(format!("a child of gaur compare, for it alone: {e}")))?;
    // The parent says no more; when its end of the pipe closes, it is gone, and
    // nobody will unmount what this process works on.
    std::thread::spawn(move || {
        let _ = stdin.read(&mut [0]);
        std::process::exit(1);
    });
    work(&job)?;
    tell(&Event::End {
        peak: memory::peak().unwrap_or(0),
    })?;
    Ok(FINE)
}

fn work(job: &Job) -> Result<(), Failure> {
    let Opened { subject, settings } = open(job, true)?;
    tell(&Event::Settings(
        settings
            .into_iter()
            .map(|(name, what)| (name.to_owned(), what))
            .collect(),
    ))?;
    let mut bench = Bench::new(job, subject);
    let mut group = None;
    for name in &job.rows {
        let Some(row) = rows::of(name) else { continue };
        if interrupt::requested() {
            break;
        }
        let next = settled(row);
        if group.is_some_and(|g| g != next) {
            bench = bench.settle()?;
        }
        group = Some(next);
        tell(&Event::Begin {
            row: name.to_owned(),
        })?;
        if let Some(figure) = bench.row(row)? {
            tell(&Event::Done(figure))?;
        }
    }
    bench.close()?;
    let ours = job.engine == Engine::Gaur && job.stage == Stage::Cold;
    if ours && !interrupt::requested() {
        tell(&Event::Begin {
            row: "the device by itself".to_owned(),
        })?;
        tell(&Event::Floor(super::floor::measure(job)?))?;
    }
    Ok(())
}

/// Rows of different kinds have a fresh opening and warm caches between them.
fn settled(row: &rows::Row) -> &'static str {
    match row.stage {
        Stage::Cached => row.group,
        Stage::Table | Stage::Cold => match row.step {
            rows::Step::Mix(cell) if cell.reads_only() => "reads",
            rows::Step::Load { .. } | rows::Step::Mix(_) | rows::Step::Len => "writes",
            _ => "after",
        },
    }
}

/// Opens the job's store; a new one if `fresh`.
pub(super) fn open(job: &Job, fresh: bool) -> Result<Opened, Failure> {
    let peer = match job.engine {
        Engine::Peer(peer) => peer,
        Engine::Gaur | Engine::Device => return ours(job, fresh),
    };
    let setup = Setup {
        cache: job.cache,
        interval: job.interval,
        larger_than_memory: job.stage == Stage::Cold,
    };
    let (subject, settings) = peers::open(peer, &job.path, &setup)?;
    Ok(Opened { subject, settings })
}

fn ours(job: &Job, fresh: bool) -> Result<Opened, Failure> {
    if fresh {
        let options = FormatOptions {
            // The parent has looked that nothing there is anybody's.
            force: true,
            create_size: (!job.path.exists()).then_some(job.file_bytes),
            ..FormatOptions::default()
        };
        Store::format(&job.path, &options)?;
    }
    let options = OpenOptions {
        cache_bytes: job.cache,
        buffered_interval: job.interval,
        ..OpenOptions::default()
    };
    let store = Store::open(&job.path, &options)?;
    let direct = if store.is_direct() { "" } else { "no " };
    let settings = vec![
        (
            "cache",
            format!(
                "cache_bytes = {}; {direct}O_DIRECT, no page cache",
                job.cache
            ),
        ),
        ("driver", store.driver().to_owned()),
        ("durable commit", "Durability::Sync".to_owned()),
        (
            "buffered commit",
            format!(
                "Durability::Buffered, buffered_interval = {:?}",
                job.interval
            ),
        ),
    ];
    let subject = Box::new(Gaur::new(store, DEFAULT_TREE)?);
    Ok(Opened { subject, settings })
}

/// One line; a parent that is gone ends this process.
fn tell(event: &Event) -> Result<(), Failure> {
    let mut line = serde_json::to_vec(event)
        .map_err(|e| Failure::refused(format!("cannot write this as JSON: {e}")))?;
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    out.write_all(&line)
        .and_then(|()| out.flush())
        .map_err(|e| Failure::refused(format!("the parent is gone: {e}")))
}
