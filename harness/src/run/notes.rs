//! What a reader of a phase's latencies must know: how its operations came, whether
//! it was steady, and what of it is the harness's own.

use super::beside::BACKGROUND;
use super::config::{Config, Engine};
use super::summary::{Cost, Kind, Phase};
use crate::units;

/// The lines below the phase's table.
pub(crate) fn of(p: &Phase, config: &Config) -> Vec<String> {
    let mut lines = Vec::new();
    if p.kind != Kind::Run {
        return lines;
    }
    if p.name == BACKGROUND {
        lines.push("beside the mix: the device's and the engine's counters are with it".into());
        return lines;
    }
    if let (Some(trace), true) = (&config.run.trace, p.open_loop) {
        lines.push(format!(
            "open loop: {trace} at {} times its pace; latencies count from when an operation was due",
            config.run.trace_speed
        ));
        return lines;
    }
    lines.push(match config.run.rate.filter(|_| p.open_loop) {
        Some(rate) => format!(
            "open loop: {} operations/s, {} arrival; latencies count from the intended start, so that \
             a stall counts for all that should have begun in it",
            units::rate(rate),
            config.run.arrival.name(),
        ),
        None => "closed loop: latencies do not count what would have arrived during a slow operation \
                 (coordinated omission); set run.rate to see it"
            .to_owned(),
    });
    match (p.steady, &config.run.steady) {
        (Some(true), Some(s)) => lines.push(format!(
            "steady: throughput had kept within {} % for {}",
            s.tolerance * 100.0,
            s.window
        )),
        (Some(false), Some(s)) => lines.push(format!(
            "not steady: throughput had not kept within {} % for {} when the warm-up ended; \
             raise run.steady.limit",
            s.tolerance * 100.0,
            s.window
        )),
        _ => {}
    }
    if let Some(cost) = &p.harness {
        lines.push(match config.store.engine {
            Engine::Null => null(p),
            Engine::Gaur => share(cost),
        });
    }
    lines
}

fn share(c: &Cost) -> String {
    let line = format!(
        "harness: {:.0} ns per operation of its own, {:.2} % of the smallest median",
        c.cost_ns,
        c.share_of_median * 100.0
    );
    match c.over {
        false => line,
        true => line + ": OVER 5 %, in these figures the harness is seen beside the store",
    }
}

/// Of the null engine, where all that is measured is the harness.
fn null(p: &Phase) -> String {
    let count: u64 = p.operations.iter().map(|o| o.latency.count).sum();
    let per_thread = count as f64 / p.seconds.max(1e-9) / p.threads as f64;
    format!(
        "harness: {} recorded operations/s per thread; {:.1} ns of processor time each, so {}/s per core",
        units::rate(per_thread),
        p.processor_ns,
        units::rate(1e9 / p.processor_ns.max(1e-9)),
    )
}
