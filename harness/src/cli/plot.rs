//! `gaur plot`: runs laid over each other.

use std::path::PathBuf;

use clap::Args;

use crate::failure::{FINE, Failure, Outcome};
use crate::output;
use crate::report::data::RunData;
use crate::report::overlay::Overlay;
use crate::report::{image, save, write};

const HELP: &str = "\
Examples:
  gaur plot runs/before runs/after                  plot.html here
  gaur plot runs/before runs/after -o compare.png
  gaur plot runs/* --operation read -o reads.svg
  gaur plot runs/old --report                       runs/old/report.html anew

Runs are named as they name themselves, or by directory where that is not unique.
Each operation has a row of plots: latency by percentile, throughput and p99 over time.";

/// Lay runs over each other, as a page, an SVG or a PNG.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct PlotArgs {
    /// Directories that gaur run --out wrote.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// The file to write: .html, .svg or .png.
    #[arg(short, long, value_name = "FILE", default_value = "plot.html")]
    out: PathBuf,
    /// Only this operation; may repeat.
    #[arg(long, value_name = "NAME")]
    operation: Vec<String>,
    /// Write report.html of each run anew, in its directory, instead.
    #[arg(long, conflicts_with_all = ["out", "operation"])]
    report: bool,
}

enum Format {
    Html,
    Svg,
    Png,
}

pub(super) fn plot(a: &PlotArgs) -> Outcome {
    if a.report {
        for dir in &a.runs {
            let path = write(dir)?;
            output::line(format!("wrote {}", path.display()))?;
        }
        return Ok(FINE);
    }
    // Before anything is read.
    let extension = a.out.extension().and_then(|e| e.to_str()).unwrap_or("");
    let format = match extension.to_ascii_lowercase().as_str() {
        "html" | "htm" => Format::Html,
        "svg" => Format::Svg,
        "png" => Format::Png,
        _ => {
            return Err(Failure::refused(format!(
                "{} is no kind of file that gaur writes; end it in .html, .svg or .png",
                a.out.display()
            )));
        }
    };
    let runs = a.runs.iter().map(|dir| RunData::read(dir));
    let overlay = Overlay::new(runs.collect::<Result<_, _>>()?)?;
    let operations = chosen(&overlay, &a.operation)?;
    let bytes = match format {
        Format::Html => overlay.html(&operations)?.into_bytes(),
        Format::Svg => overlay.svg(&operations).into_bytes(),
        Format::Png => image::png(&overlay.svg(&operations))?,
    };
    save(&a.out, &bytes)?;
    output::line(format!("wrote {}", a.out.display()))?;
    Ok(FINE)
}

/// The operations that were asked for; all, if none were.
fn chosen(overlay: &Overlay, wanted: &[String]) -> Result<Vec<String>, Failure> {
    let all = overlay.operations();
    if all.is_empty() {
        return Err(Failure::refused(
            "these runs did no operations, so there is nothing to plot",
        ));
    }
    if let Some(unknown) = wanted.iter().find(|w| !all.contains(w)) {
        return Err(Failure::refused(format!(
            "no run did {unknown:?}; there is {}",
            all.join(", ")
        )));
    }
    Ok(match wanted {
        [] => all,
        _ => all.into_iter().filter(|o| wanted.contains(o)).collect(),
    })
}
