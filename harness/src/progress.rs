//! Progress of long work, on standard error and only if that is a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::run::record::Tails;
use crate::units;

/// A bar for one phase of work.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    measure: Measure,
}

/// What the bar's length counts.
#[derive(Debug)]
enum Measure {
    /// Pieces of work.
    Work,
    /// Milliseconds.
    Time,
}

impl Progress {
    /// A bar for `total` pieces of work.
    pub(crate) fn of_work(what: &str, total: u64) -> Self {
        Self::new(what, total, Measure::Work)
    }

    /// A bar for work of a given time.
    pub(crate) fn of_time(what: &str, time: Duration) -> Self {
        Self::new(what, time.as_millis() as u64, Measure::Time)
    }

    /// A bar for bytes; how many, [`Progress::show_bytes`] says.
    pub(crate) fn of_bytes(what: &str) -> Self {
        Self::new(what, 0, Measure::Work)
    }

    /// None to be seen.
    pub(crate) fn hidden() -> Self {
        Self {
            bar: ProgressBar::hidden(),
            measure: Measure::Work,
        }
    }

    fn new(what: &str, len: u64, measure: Measure) -> Self {
        // This target draws nothing if standard error is no terminal, or a dumb one.
        let bar = ProgressBar::with_draw_target(Some(len), ProgressDrawTarget::stderr());
        let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        let shape = if plain { "bar:30" } else { "bar:30.cyan" };
        // The prefix is the line below, if there is one.
        let template =
            format!("{what:9} [{{{shape}}}] {{percent:>3}}% {{msg}} · {{eta}} left{{prefix}}");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style.progress_chars("=> "));
        }
        Self { bar, measure }
    }

    /// Shows the latencies of the last second below the bar; none: nothing was done.
    pub(crate) fn show_tails(&self, tails: Option<Tails>) {
        self.bar.set_prefix(match tails {
            Some(tails) => format!("\n          {tails}"),
            None => "\n          last second  nothing done".to_owned(),
        });
    }

    /// Does what writes to the terminal, the bar out of its way.
    pub(crate) fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        self.bar.suspend(write)
    }

    /// Shows that `done` pieces are done after `elapsed`.
    pub(crate) fn show(&self, done: u64, elapsed: Duration) {
        if self.bar.is_hidden() {
            return;
        }
        self.bar.set_position(match self.measure {
            Measure::Work => done,
            Measure::Time => elapsed.as_millis() as u64,
        });
        let rate = done as f64 / elapsed.as_secs_f64().max(1e-9);
        self.bar
            .set_message(format!("{} · {}/s", units::count(done), units::rate(rate)));
    }

    /// Shows that `done` bytes of `all` are done after `elapsed`.
    pub(crate) fn show_bytes(&self, done: u64, all: u64, elapsed: Duration) {
        if self.bar.is_hidden() {
            return;
        }
        self.bar.set_length(all);
        self.bar.set_position(done);
        let rate = done as f64 / elapsed.as_secs_f64().max(1e-9);
        let (done, rate) = (units::bytes(done), units::bytes(rate as u64));
        self.bar.set_message(format!("{done} · {rate}/s"));
    }

    /// Shows what is done now, after so many of the pieces. Where nobody sees a bar,
    /// nothing.
    pub(crate) fn say(&self, done: u64, what: &str) {
        if self.is_seen() {
            self.bar.set_position(done);
            self.bar.set_message(what.to_owned());
            self.bar.tick();
        }
    }

    /// Whether anybody can see it.
    pub(crate) fn is_seen(&self) -> bool {
        !self.bar.is_hidden()
    }

    /// Sets how much work there is.
    pub(crate) fn resize(&self, total: u64) {
        self.bar.set_length(total);
    }

    /// Removes the bar.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}
