//! Making and opening what a run works on.

use std::path::Path;
use std::sync::Arc;

use super::config::{Config, Engine};
use super::environment::Environment;
use super::store;
use super::workload::Target;
use crate::failure::Failure;
use crate::subject::{Null, Stall, Stalled};

/// What is open, and what is to be known of it.
pub(crate) struct Opened {
    pub(crate) target: Target,
    pub(crate) environment: Environment,
    /// The stall that the configuration asks for, not armed.
    pub(crate) stall: Option<Arc<Stall>>,
}

/// Makes the store if the configuration asks for it, and opens it.
pub(crate) fn open(config: &Config, may_replace: bool) -> Result<Opened, Failure> {
    let c = &config.store;
    let (mut target, mut environment) = match c.engine {
        Engine::Gaur => {
            store::create(c, may_replace)?;
            let means = store::means(c)?;
            let store = store::open(c)?;
            let environment = Environment::look(&store, means, Path::new(&c.path));
            (Target::of_store(store, config)?, environment)
        }
        Engine::Null => (Target::null(config), Environment::without_store()),
    };
    let mut stall = None;
    if let Some(s) = c.stall {
        let armed = Arc::new(Stall::new(s.at.0, s.lasts.0));
        stalled(&mut target, &armed);
        stall = Some(armed);
        environment.notes.push(format!(
            "store.stall: all calls from {} into the run on wait for {}, on purpose",
            s.at, s.lasts
        ));
    }
    Ok(Opened {
        target,
        environment,
        stall,
    })
}

/// Opens once more what was closed.
pub(crate) fn reopen(config: &Config) -> Result<Target, Failure> {
    match config.store.engine {
        Engine::Gaur => Target::of_store(store::open(&config.store)?, config),
        Engine::Null => Ok(Target::null(config)),
    }
}

fn stalled(target: &mut Target, stall: &Arc<Stall>) {
    let inner = std::mem::replace(&mut target.subject, Box::new(Null::new(Vec::new())));
    target.subject = Box::new(Stalled::new(inner, stall.clone()));
}
