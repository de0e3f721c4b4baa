//! What this engine wants to reach beside the others, and whether it does.

use serde::Serialize;

use super::Comparison;
use super::plan::Engine;
use super::rows::{self, Unit};
use crate::subject::peers::Peer;

/// A ratio that is wanted: of our median to the best median of these engines.
struct Bar {
    row: &'static str,
    against: &'static [Engine],
    least: f64,
}

const LMDB: Engine = Engine::Peer(Peer::Lmdb);
const REDB: Engine = Engine::Peer(Peer::Redb);
const FJALL: Engine = Engine::Peer(Peer::Fjall);
const CANOPYDB: Engine = Engine::Peer(Peer::Canopydb);
const FOUR: &[Engine] = &[LMDB, REDB, FJALL, CANOPYDB];

const fn bar(row: &'static str, least: f64, against: &'static [Engine]) -> Bar {
    Bar {
        row,
        against,
        least,
    }
}

const BARS: [Bar; 13] = [
    bar("read-1", 1.0, &[LMDB]),
    bar("read-2", 1.0, &[LMDB]),
    bar("scan-1", 1.0, &[LMDB]),
    bar("scan-2", 1.0, &[LMDB]),
    bar("ycsb-a", 1.5, FOUR),
    bar("ycsb-b", 1.5, FOUR),
    bar("ycsb-d", 1.5, FOUR),
    bar("ycsb-f", 1.5, FOUR),
    bar("load", 1.5, &[FJALL]),
    bar("durable-16", 5.0, &[REDB, CANOPYDB]),
    bar("durable-1", 1.0, FOUR),
    bar("batch-1", 1.0, &[FJALL]),
    bar("cold-32", 0.8, &[Engine::Device]),
];

/// A bar, and where we are.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Judged {
    pub(crate) row: &'static str,
    /// Against whom, in words.
    pub(crate) against: String,
    pub(crate) least: f64,
    /// None if a figure is missing.
    pub(crate) ratio: Option<f64>,
    pub(crate) reached: Option<bool>,
}

/// Judges all bars. One is judged only if the figures of all engines it names are
/// there.
pub(crate) fn judge(c: &Comparison) -> Vec<Judged> {
    BARS.iter()
        .map(|bar| {
            let ratio = ratio(c, bar);
            Judged {
                row: bar.row,
                against: against(bar),
                least: bar.least,
                ratio,
                reached: ratio.map(|r| r >= bar.least),
            }
        })
        .collect()
}

fn ratio(c: &Comparison, bar: &Bar) -> Option<f64> {
    let unit = rows::of(bar.row)?.unit;
    let ours = c.spread(Engine::Gaur, bar.row)?.median;
    let theirs = bar
        .against
        .iter()
        .map(|&e| Some(c.spread(e, bar.row)?.median))
        .collect::<Option<Vec<_>>>()?;
    Some(match unit {
        Unit::Rate => ours / theirs.iter().copied().fold(f64::MIN_POSITIVE, f64::max),
        Unit::Millis | Unit::Bytes => {
            theirs.iter().copied().fold(f64::INFINITY, f64::min) / ours.max(f64::MIN_POSITIVE)
        }
    })
}

fn against(bar: &Bar) -> String {
    match bar.against {
        [one] => one.name().to_owned(),
        [Engine::Peer(Peer::Redb), Engine::Peer(Peer::Canopydb)] => {
            "the better of redb and canopydb".to_owned()
        }
        _ => "the best of the four".to_owned(),
    }
}
