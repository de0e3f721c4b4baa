//! `gaur compare`: the same work on this engine and on others.
//!
//! What must hold: like is compared with like. All engines run on the same blocks of
//! the same device, ours on it raw, the others on a file system made on it; with the
//! same memory and the same durability, driven by the same code; in rounds whose
//! order is shuffled, so that a machine whose speed drifts favours none. Each runs in
//! a process of its own, so that the memory is its own and its end is not the end of
//! the comparison.

mod bars;
mod cell;
pub(crate) mod child;
mod floor;
mod limit;
mod place;
pub(crate) mod plan;
mod process;
mod report;
mod rows;
mod wire;

use std::collections::BTreeMap;
use std::time::Duration;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

pub(crate) use place::Place;
pub(crate) use plan::{Engine, Plan};
pub(crate) use report::{as_markdown, as_text};
pub(crate) use rows::{GROUPS, ROWS, Row, Stage};

use crate::failure::Failure;
use crate::floor::Machine;
use crate::interrupt;
use crate::progress::Progress;
use wire::{Event, Figure, Job};

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Comparison {
    pub(crate) plan: Plan,
    pub(crate) environment: Environment,
    /// What each engine was set to.
    pub(crate) settings: BTreeMap<Engine, Vec<(String, String)>>,
    /// One figure for each round, row and engine.
    pub(crate) figures: Vec<Taken>,
    /// What an engine could not do.
    pub(crate) failures: Vec<Trouble>,
    /// The most memory each engine's process had, in bytes, by stage.
    pub(crate) memory: Vec<(Engine, Stage, u64)>,
    pub(crate) machine: Machine,
    pub(crate) interrupted: bool,
}

/// What it ran on.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Environment {
    pub(crate) gaur: &'static str,
    pub(crate) optimised: bool,
    pub(crate) kernel: String,
    pub(crate) cpu: String,
    pub(crate) cpus: usize,
    /// Where the engines worked, and how memory was limited.
    pub(crate) place: String,
    pub(crate) limit: String,
    /// What makes the figures of less worth.
    pub(crate) notes: Vec<String>,
}

/// A figure with where it belongs.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Taken {
    pub(crate) engine: Engine,
    pub(crate) round: u32,
    #[serde(flatten)]
    pub(crate) figure: Figure,
}

/// An engine did not get to the end of a stage.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Trouble {
    pub(crate) engine: Engine,
    pub(crate) round: u32,
    pub(crate) stage: Stage,
    /// During which row, if it had begun one.
    pub(crate) row: Option<String>,
    pub(crate) what: String,
}

/// Compares. Ends early on Ctrl-C with what there is.
pub(crate) fn compare(plan: &Plan, place: &Place) -> Result<Comparison, Failure> {
    let limiter = limit::Limiter::find();
    let mut found = Comparison {
        plan: plan.clone(),
        environment: Environment::look(place, &limiter),
        settings: BTreeMap::new(),
        figures: Vec::new(),
        failures: Vec::new(),
        memory: Vec::new(),
        machine: crate::floor::Moment::now().until_now(),
        interrupted: false,
    };
    let begin = crate::floor::Moment::now();
    let stages = plan.stages();
    let total = u64::from(plan.rounds) * (stages.len() * plan.engines.len()) as u64;
    let progress = Progress::of_work("comparing", total);
    let mut done = 0;
    let mut rng = ChaCha8Rng::seed_from_u64(plan.seed);
    'all: for round in 1..=plan.rounds {
        for &stage in &stages {
            let mut order = plan.engines.clone();
            order.shuffle(&mut rng);
            for engine in order {
                if interrupt::requested() {
                    break 'all;
                }
                let job = plan.job(engine, stage, round);
                let says = |row: &str| {
                    let text = format!("round {round}/{} · {} · {row}", plan.rounds, engine.name());
                    progress.say(done, &text);
                };
                if !progress.is_seen() {
                    // One line for each process tells whoever keeps a log of it.
                    crate::output::complain(&format!(
                        "round {round} of {}, {stage:?}: {}",
                        plan.rounds,
                        engine.name()
                    ));
                }
                says("prepares");
                one(&mut found, place, &limiter, &job, &says)?;
                done += 1;
            }
        }
    }
    progress.finish();
    place.clean()?;
    found.machine = begin.until_now();
    found.interrupted = interrupt::requested();
    Ok(found)
}

/// One engine through one stage.
fn one(
    found: &mut Comparison,
    place: &Place,
    limiter: &limit::Limiter,
    job: &Job,
    says: &dyn Fn(&str),
) -> Result<(), Failure> {
    let ready = place.prepare(job.engine)?;
    let job = Job {
        path: ready.path().to_path_buf(),
        device: place.device().map(Into::into),
        ..job.clone()
    };
    let mut row = None;
    let ended = process::run(&job, limiter, |event| match event {
        Event::Begin { row: name } => {
            says(&name);
            row = Some(name);
        }
        Event::Done(figure) => {
            row = None;
            found.figures.push(Taken {
                engine: job.engine,
                round: job.round,
                figure,
            });
        }
        Event::Floor(figures) => {
            for figure in figures {
                found.figures.push(Taken {
                    engine: Engine::Device,
                    round: job.round,
                    figure,
                });
            }
        }
        Event::Settings(settings) => {
            let all = found.settings.entry(job.engine).or_default();
            for setting in settings {
                if !all.contains(&setting) {
                    all.push(setting);
                }
            }
        }
        Event::End { peak } => found.memory.push((job.engine, job.stage, peak)),
    });
    ready.give_back()?;
    if let Err(failure) = ended
        && !interrupt::requested()
    {
        found.failures.push(Trouble {
            engine: job.engine,
            round: job.round,
            stage: job.stage,
            row,
            what: failure.to_string(),
        });
    }
    Ok(())
}

impl Comparison {
    /// All of it, with the bars.
    pub(crate) fn as_data(&self) -> impl Serialize {
        #[derive(Serialize)]
        struct Data<'a> {
            schema: u32,
            #[serde(flatten)]
            comparison: &'a Comparison,
            wanted: Vec<bars::Judged>,
        }
        Data {
            schema: SCHEMA,
            comparison: self,
            wanted: bars::judge(self),
        }
    }
}

impl Environment {
    fn look(place: &Place, limiter: &limit::Limiter) -> Self {
        let machine = crate::run::environment::Environment::without_store();
        let mut notes = place.notes();
        if cfg!(debug_assertions) {
            notes.push("built without optimisation: these figures mean nothing".into());
        }
        Self {
            gaur: env!("CARGO_PKG_VERSION"),
            optimised: !cfg!(debug_assertions),
            kernel: machine.kernel,
            cpu: machine.cpu,
            cpus: machine.cpus,
            place: place.describe(),
            limit: limiter.describe(),
            notes,
        }
    }
}

/// The version of the JSON's layout; it grows when a field changes its meaning.
const SCHEMA: u32 = 1;
/// How long a child may be silent.
const SILENCE: Duration = Duration::from_secs(3600);
