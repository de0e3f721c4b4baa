use crate::failure::{FINE, Outcome};
#[derive(Debug, clap::Args)]
pub(super) struct InspectArgs {
    path: std::path::PathBuf,
}
pub(super) fn inspect(_a: &InspectArgs) -> Outcome {
    Ok(FINE)
}
