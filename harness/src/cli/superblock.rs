//! The facts of a superblock that people and programs ask for first.

use std::path::Path;
use std::sync::Arc;

use gaur::DurableMethod;
use gaur::inspect::{self, InspectOptions, Inspection};
use gaur_iodriver::Device;

use crate::failure::Failure;
use crate::run::config::Driver;

/// The fields of the first copy that verifies, by name, as `inspect superblock`
/// shows them.
pub(crate) fn facts(path: &Path, driver: Driver) -> Result<Vec<(String, String)>, Failure> {
    let o = InspectOptions {
        driver: driver.into(),
        ..InspectOptions::default()
    };
    Ok(verified(&inspect::superblock(path, &o)?))
}

/// The same on a device that is open already; empty if no copy verifies.
pub(crate) fn facts_on(device: Arc<dyn Device>) -> Result<Vec<(String, String)>, gaur::Error> {
    let found = inspect::superblock_device(device, &InspectOptions::default())?;
    Ok(verified(&found))
}

/// Whether one of the two copies is none.
pub(crate) fn is_torn(found: &Inspection) -> bool {
    let decoded = |s: &inspect::Section| s.rows.iter().any(|row| row[0] == "magic");
    !found.sections.iter().all(decoded)
}

fn verified(found: &Inspection) -> Vec<(String, String)> {
    let pairs = |rows: &[Vec<String>]| -> Vec<(String, String)> {
        rows.iter()
            .filter_map(|row| match row.as_slice() {
                [field, value] => Some((field.clone(), value.clone())),
                _ => None,
            })
            .collect()
    };
    found
        .sections
        .iter()
        .map(|s| pairs(&s.rows))
        .find(|facts| facts.iter().any(|(f, v)| f == "state" && v == "verifies"))
        .unwrap_or_default()
}

/// How the store makes writes durable, by the method's own name.
pub(crate) fn durable_method(facts: &[(String, String)]) -> Option<String> {
    let code = fact(facts, "durable_method")?
        .split(' ')
        .next()?
        .parse()
        .ok()?;
    DurableMethod::from_code(code).map(|m| m.to_string())
}

/// One of the facts.
pub(crate) fn fact<'a>(facts: &'a [(String, String)], name: &str) -> Option<&'a str> {
    facts
        .iter()
        .find(|(f, _)| f == name)
        .map(|(_, v)| v.as_str())
}
