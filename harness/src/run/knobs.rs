//! How the loop goes: what a configuration file says beside the workload itself.

use std::fmt;
use std::time::Duration;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::config::Durable;
use crate::units::Span;

/// `store.stall`: a stall on purpose. Calls of the measured phase that begin in it
/// wait for its end.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct StallConfig {
    /// From the start of the measured phase.
    pub(crate) at: Span,
    /// How long it lasts.
    #[serde(rename = "for")]
    pub(crate) lasts: Span,
}

impl Default for StallConfig {
    fn default() -> Self {
        Self {
            at: Span(Duration::ZERO),
            lasts: Span(Duration::from_secs(1)),
        }
    }
}

/// `[precondition]`: the loaded records are written over before anything is measured.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PreconditionConfig {
    /// How much is written, in multiples of what `of` says; 0: nothing.
    pub(crate) times: f64,
    /// What `times` multiplies.
    pub(crate) of: Whole,
    /// Records per commit.
    pub(crate) batch: usize,
    /// Threads that write.
    pub(crate) threads: usize,
    /// What a commit waits for.
    pub(crate) durability: Durable,
}

impl Default for PreconditionConfig {
    fn default() -> Self {
        Self {
            times: 0.0,
            of: Whole::default(),
            batch: 100,
            threads: 1,
            durability: Durable::Buffered,
        }
    }
}

/// What a precondition counts in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Whole {
    /// The store's size.
    #[default]
    Capacity,
    /// The size of the loaded records.
    Records,
}

/// `run.steady`: the warm-up goes on until throughput is steady.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SteadyConfig {
    /// The last so much time is looked at, in five rounds.
    pub(crate) window: Span,
    /// No round is off the mean by more than this share of it, nor does the line
    /// through them rise or fall by more.
    pub(crate) tolerance: f64,
    /// The warm-up ends after this, steady or not.
    pub(crate) limit: Span,
}

impl Default for SteadyConfig {
    fn default() -> Self {
        Self {
            window: Span(Duration::from_secs(10)),
            tolerance: 0.1,
            limit: Span(Duration::from_secs(300)),
        }
    }
}

/// How the intended starts of an open loop are spaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Arrival {
    /// Evenly.
    #[default]
    Constant,
    /// As independent callers come.
    Poisson,
}

impl Arrival {
    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Constant => "constant",
            Self::Poisson => "poisson",
        }
    }
}

/// How think times vary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Think {
    /// Always the same.
    #[default]
    Constant,
    /// By an exponential distribution with that mean.
    Exponential,
}

/// Whether threads stay on processors: `true`, or those processors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum Pin {
    /// On all that this process may use, in turn; or nowhere.
    All(bool),
    /// On these, in turn.
    Cpus(Vec<usize>),
}

impl Default for Pin {
    fn default() -> Self {
        Self::All(false)
    }
}

impl<'de> Deserialize<'de> for Pin {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct One;
        impl<'de> Visitor<'de> for One {
            type Value = Pin;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false or a list of processors as in [0, 1]")
            }

            fn visit_bool<E>(self, v: bool) -> Result<Pin, E> {
                Ok(Pin::All(v))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Pin, A::Error> {
                let mut cpus = Vec::new();
                while let Some(cpu) = seq.next_element::<u64>()? {
                    cpus.push(usize::try_from(cpu).map_err(A::Error::custom)?);
                }
                Ok(Pin::Cpus(cpus))
            }
        }
        d.deserialize_any(One)
    }
}
