//! What a run writes down while it runs, and the counters it reads for that.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use gaur::Stats;

use super::hlog;
use super::interval::Ops;
use super::series::Line;
use crate::blockdev;
use crate::failure::Failure;
use crate::floor::machine::Moment;
use crate::subject::Subject;
use crate::{interrupt, output};

/// A run's files that grow, and its time axis.
#[derive(Debug)]
pub(crate) struct Journal {
    store: PathBuf,
    dir: Option<PathBuf>,
    files: Option<Files>,
    /// The series goes to standard output too.
    streamed: bool,
    /// The start of the first phase.
    origin: Option<(Instant, SystemTime)>,
}

#[derive(Debug)]
struct Files {
    series: (PathBuf, File),
    hlog: (PathBuf, File),
}

/// Counters at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    pub(super) stats: Option<Stats>,
    pub(super) device: Option<blockdev::Counters>,
    pub(super) moment: Moment,
}

impl Reading {
    /// What the engine counted since.
    pub(super) fn stats_since(&self, earlier: &Self) -> Option<Stats> {
        Some(self.stats.as_ref()?.since(earlier.stats.as_ref()?))
    }

    /// What the block device counted since.
    pub(super) fn device_since(&self, earlier: &Self) -> Option<blockdev::Counters> {
        Some(self.device?.since(&earlier.device?))
    }
}

impl Journal {
    /// Of a run on the store at `store`, in a directory that is there; nothing is
    /// written without one.
    pub(crate) fn new(store: &Path, dir: Option<&Path>) -> Self {
        Self {
            store: store.to_owned(),
            dir: dir.map(Path::to_owned),
            files: None,
            streamed: false,
            origin: None,
        }
    }

    /// The same, with the series on standard output too if `streamed`.
    pub(crate) fn streamed(self, streamed: bool) -> Self {
        Self { streamed, ..self }
    }

    /// A phase begins; with the first one the files do.
    pub(super) fn start(&mut self, now: Instant) -> Result<(), Failure> {
        if self.origin.is_some() {
            return Ok(());
        }
        let wall = SystemTime::now();
        self.origin = Some((now, wall));
        if let Some(dir) = &self.dir {
            let make = |name: &str, head: &[u8]| {
                let path = dir.join(name);
                let file = File::create(&path).and_then(|mut f| f.write_all(head).map(|()| f));
                match file {
                    Ok(file) => Ok((path, file)),
                    Err(e) => Err(Failure::file("write", &path, &e)),
                }
            };
            self.files = Some(Files {
                series: make("series.jsonl", b"")?,
                hlog: make("run.hlog", &hlog::head(wall)?)?,
            });
        }
        Ok(())
    }

    /// When the first phase began.
    pub(crate) fn started(&self) -> SystemTime {
        self.origin.map_or_else(SystemTime::now, |(_, wall)| wall)
    }

    /// Seconds from the start of the first phase.
    pub(super) fn at(&self, moment: Instant) -> f64 {
        self.origin.map_or(0.0, |(origin, _)| {
            moment.saturating_duration_since(origin).as_secs_f64()
        })
    }

    /// Reads the counters.
    pub(super) fn read(&self, subject: &dyn Subject) -> Reading {
        Reading {
            stats: subject.stats(),
            device: blockdev::Counters::read(&self.store),
            moment: Moment::now(),
        }
    }

    /// Whether somebody gets the series.
    pub(super) fn is_written(&self) -> bool {
        self.files.is_some() || self.streamed
    }

    /// Adds a line to the series.
    pub(super) fn write_line(&mut self, line: &Line<'_>) -> Result<(), Failure> {
        let mut text = serde_json::to_vec(line)
            .map_err(|e| Failure::refused(format!("cannot write the series: {e}")))?;
        text.push(b'\n');
        if let Some(files) = &mut self.files {
            append(&mut files.series, &text)?;
        }
        if self.streamed && !output::stream(&text)? {
            self.streamed = false;
            interrupt::request();
        }
        Ok(())
    }

    /// Adds a second's histograms to the log; it began `begin` seconds after the origin.
    pub(super) fn write_histograms(
        &mut self,
        begin: f64,
        took: Duration,
        ops: &Ops,
    ) -> Result<(), Failure> {
        let Some(files) = &mut self.files else {
            return Ok(());
        };
        let lines = hlog::lines(Duration::from_secs_f64(begin), took, ops)?;
        append(&mut files.hlog, &lines)
    }
}

/// In one write, so that a kill leaves whole lines.
fn append((path, file): &mut (PathBuf, File), text: &[u8]) -> Result<(), Failure> {
    file.write_all(text)
        .map_err(|e| Failure::file("write", path, &e))
}
