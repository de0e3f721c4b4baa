//! Plots: what a chart holds, how it is laid out, and how it is drawn as SVG.
//!
//! Charts are drawn here and not in the reader's browser, so that a report needs no
//! script to be read, can be printed, and is the same as `gaur plot` writes to files.

pub(crate) mod axis;
pub(crate) mod heat;
mod layout;
pub(crate) mod palette;
pub(crate) mod unit;

use axis::Axis;
use heat::Heat;
pub(crate) use layout::{NARROW, Size, WHOLE, WIDE};

/// One chart and the numbers behind it.
#[derive(Clone, Debug)]
pub(crate) struct Chart {
    /// Unlike any other on its page.
    pub(crate) id: String,
    pub(crate) title: String,
    /// One sentence: what is to be seen, for those who do not see it too.
    pub(crate) note: String,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) lines: Vec<Line>,
    pub(crate) heat: Option<Heat>,
    /// Moments, and what they are.
    pub(crate) marks: Vec<f64>,
    pub(crate) mark: String,
    /// Stretches with a name: phases.
    pub(crate) spans: Vec<(String, f64, f64)>,
    pub(crate) table: Table,
}

/// One curve.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) name: String,
    /// Colour and dashes, both by number: either tells lines apart without the other.
    pub(crate) style: usize,
    pub(crate) dashed: bool,
    /// In growing x; a value that is no number makes a gap.
    pub(crate) points: Vec<(f64, f64)>,
}

/// The numbers of a chart.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    pub(crate) head: Vec<String>,
    /// Where each row lies on the x axis, and its cells.
    pub(crate) rows: Vec<(f64, Vec<String>)>,
    /// So many columns are shown beside the pointer; the rest in the table only.
    pub(crate) tip: usize,
}

impl Chart {
    /// An empty chart.
    pub(crate) fn new(id: &str, title: &str, x: Axis, y: Axis) -> Self {
        Self {
            id: id.to_owned(),
            title: title.to_owned(),
            note: String::new(),
            x,
            y,
            lines: Vec::new(),
            heat: None,
            marks: Vec::new(),
            mark: String::new(),
            spans: Vec::new(),
            table: Table::default(),
        }
    }

    /// Whether there is anything to see.
    pub(crate) fn is_empty(&self) -> bool {
        let has = |l: &Line| l.points.iter().any(|p| p.1.is_finite());
        !self.lines.iter().any(has) && self.heat.is_none()
    }

    pub(crate) fn wide(&self) -> String {
        layout::draw(self, WIDE, "wide")
    }

    pub(crate) fn whole(&self) -> String {
        layout::draw(self, WHOLE, "whole")
    }

    pub(crate) fn narrow(&self) -> String {
        layout::draw(self, NARROW, "narrow")
    }

    /// Drawn at some other size.
    pub(crate) fn sized(&self, size: Size) -> String {
        layout::draw(self, size, "one")
    }
}
