//! What copy-on-write in two stages buys, and what its allocator thread adds: the same
//! writes with three ways to get a block for a copy, in many settings.
//!
//! Only a build with the feature `experiment-cow` can copy inline; any other refuses.
//! `docs/two-stage.md` tells what was found.

#[cfg(feature = "experiment-cow")]
mod cell;
#[cfg(any(test, feature = "experiment-cow"))]
#[cfg_attr(not(feature = "experiment-cow"), allow(dead_code))]
mod figures;
#[cfg_attr(not(feature = "experiment-cow"), allow(dead_code))]
pub(crate) mod plan;
#[cfg(feature = "experiment-cow")]
mod plot;
#[cfg(any(test, feature = "experiment-cow"))]
#[cfg_attr(not(feature = "experiment-cow"), allow(dead_code))]
mod processors;
#[cfg(feature = "experiment-cow")]
mod report;
#[cfg(feature = "experiment-cow")]
mod work;

#[cfg(feature = "experiment-cow")]
pub(crate) use work::{rehearse, run};

/// Without the feature there is nothing to compare with.
#[cfg(not(feature = "experiment-cow"))]
fn refuse() -> crate::failure::Outcome {
    Err(crate::failure::Failure::refused(
        "this build cannot copy inline, on purpose: that waits under latches, and must not be \
         shipped; the experiment has a build of its own: \
         cargo run --release -p gaur-harness --features experiment-cow -- experiment cow",
    ))
}

#[cfg(not(feature = "experiment-cow"))]
pub(crate) fn run(_: &plan::Plan) -> crate::failure::Outcome {
    refuse()
}

#[cfg(not(feature = "experiment-cow"))]
pub(crate) fn rehearse(_: &plan::Plan) -> crate::failure::Outcome {
    refuse()
}
