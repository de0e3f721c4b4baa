//! What a reader of a phase's latencies must know: how its operations came, whether
//! it was steady, and what of it is the harness's own.

use super::beside::BACKGROUND;
use super::config::{Config, Engine};
use super::summary::{Cost, Kind, Phase};
use crate::units;

/// What is said below the phase's table: a word each, and what it is about.
pub(crate) fn of(p: &Phase, config: &Config) -> Vec<(String, String)> {
    if p.kind != Kind::Run {
        return Vec::new();
    }
    let mut notes = vec![("loop", arrivals(p, config))];
    if let (Some(steady), Some(s)) = (p.steady, &config.run.steady) {
        let (within, window) = (s.tolerance * 100.0, s.window);
        notes.push((
            "steady",
            match steady {
                true => format!("throughput had kept within {within} % for {window}"),
                false => format!(
                    "NOT: throughput had not kept within {within} % for {window} when the warm-up \
                     ended; raise run.steady.limit"
                ),
            },
        ));
    }
    if let Some(cost) = &p.harness {
        let text = match config.store.engine {
            Engine::Null => null(p),
            Engine::Gaur => share(cost),
        };
        notes.push(("harness", text));
    }
    notes.into_iter().map(|(a, b)| (a.to_owned(), b)).collect()
}

fn arrivals(p: &Phase, config: &Config) -> String {
    let run = &config.run;
    let rate = match &run.background {
        Some(b) if p.name == BACKGROUND => b.rate,
        _ => run.rate,
    };
    if let (Some(trace), true) = (&run.trace, p.open_loop && p.name != BACKGROUND) {
        let speed = run.trace_speed;
        return format!(
            "open: {trace} at {speed} times its pace; latencies count from when an operation was due"
        );
    }
    match rate.filter(|_| p.open_loop) {
        Some(rate) => format!(
            "open: {} operations/s, {} arrival; latencies count from the intended start, so that a \
             stall counts for all that should have begun in it",
            units::rate(rate),
            config.run.arrival.name(),
        ),
        None => "closed: latencies do not count what would have arrived during a slow operation \
                 (coordinated omission); set run.rate to see it"
            .to_owned(),
    }
}

fn share(c: &Cost) -> String {
    let line = format!(
        "{:.0} ns per operation of its own, {:.2} % of the smallest median",
        c.cost_ns,
        c.share_of_median * 100.0
    );
    match c.over {
        false => line,
        true => line + "; OVER 5 %: in these figures the harness is seen beside the store",
    }
}

/// Of the null engine, where all that is measured is the harness.
fn null(p: &Phase) -> String {
    let count: u64 = p.operations.iter().map(|o| o.latency.count).sum();
    let per_thread = count as f64 / p.seconds.max(1e-9) / p.threads as f64;
    format!(
        "{} recorded operations/s per thread; {:.1} ns of processor time each, so {}/s per core",
        units::rate(per_thread),
        p.processor_ns,
        units::rate(1e9 / p.processor_ns.max(1e-9)),
    )
}
