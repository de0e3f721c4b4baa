//! Where everything of a chart lies, and the SVG of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use askama::Template;

use super::axis::Tick;
use super::palette::{HEATS, LINES};
use super::unit::Unit;
use super::{Chart, Line};

/// Width and height in pixels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) width: f64,
    pub(crate) height: f64,
}

/// A whole page on a desktop.
pub(crate) const WHOLE: Size = Size {
    width: 1138.0,
    height: 400.0,
};
/// Half a page on a desktop.
pub(crate) const WIDE: Size = Size {
    width: 560.0,
    height: 320.0,
};
/// A phone.
pub(crate) const NARROW: Size = Size {
    width: 336.0,
    height: 300.0,
};

/// The width of a character of 12 pixels, on the safe side.
const CHAR: f64 = 7.6;
const ROW: f64 = 18.0;
/// A step of a heat map's key.
const KEY: f64 = 18.0;
const NARROW_KEY: f64 = 12.0;

#[derive(Template)]
#[template(path = "chart.svg")]
struct Drawn<'a> {
    class: &'a str,
    size: Size,
    label: String,
    /// The plot's frame: left, top, right, bottom.
    frame: [f64; 4],
    grid: Vec<Rule>,
    texts: Vec<Text>,
    samples: Vec<Sample>,
    heats: Vec<(usize, String)>,
    key: Vec<(usize, f64, f64)>,
    key_width: f64,
    bands: Vec<(f64, f64)>,
    marks: String,
    curves: Vec<Curve>,
    /// Where the table's rows lie.
    stops: String,
}

struct Rule {
    class: &'static str,
    from: (f64, f64),
    to: (f64, f64),
}

struct Text {
    class: &'static str,
    x: f64,
    y: f64,
    text: String,
}

struct Sample {
    class: String,
    x: f64,
    y: f64,
    mark: bool,
}

struct Curve {
    class: String,
    path: String,
    dots: Vec<(f64, f64)>,
}

pub(super) fn draw(chart: &Chart, size: Size, class: &str) -> String {
    let mut d = Drawn {
        class,
        size,
        label: format!("{}. {}", chart.title, chart.note).trim().to_owned(),
        frame: [0.0; 4],
        grid: Vec::new(),
        texts: Vec::new(),
        samples: Vec::new(),
        heats: Vec::new(),
        key: Vec::new(),
        key_width: KEY,
        bands: Vec::new(),
        marks: String::new(),
        curves: Vec::new(),
        stops: String::new(),
    };
    let mut top = d.legend(chart);
    d.text("axis start", 0.0, top + 13.0, chart.y.title.clone());
    top += 24.0;
    if chart.spans.len() > 1 {
        top += 16.0;
    }
    let bottom = size.height - 38.0;
    let y_ticks = chart.y.ticks(((bottom - top) / 34.0) as usize);
    let widest = y_ticks.iter().map(|t| width(&t.label)).fold(0.0, f64::max);
    d.frame = [widest + 8.0, top, size.width - 14.0, bottom];
    d.y_axis(chart, &y_ticks);
    d.x_axis(chart);
    d.phases(chart);
    d.heat(chart);
    for line in &chart.lines {
        d.curve(chart, line);
    }
    let stops: Vec<String> = chart
        .table
        .rows
        .iter()
        .map(|(x, _)| format!("{:.1}", d.x(chart, *x)))
        .collect();
    d.stops = stops.join(" ");
    // Only memory could make it fail, and there is no more to say then.
    d.render().unwrap_or_default()
}

/// The class of a line's colour and dashes.
pub(crate) fn class_of(line: &Line) -> String {
    let dashes = if line.dashed { "dashed" } else { "own" };
    format!("c{} {dashes}", line.style % LINES)
}

fn width(text: &str) -> f64 {
    text.chars().count() as f64 * CHAR
}

impl Drawn<'_> {
    fn text(&mut self, class: &'static str, x: f64, y: f64, text: String) {
        self.texts.push(Text { class, x, y, text });
    }

    fn x(&self, chart: &Chart, value: f64) -> f64 {
        let [left, _, right, _] = self.frame;
        left + chart.x.place(value) * (right - left)
    }

    fn y(&self, chart: &Chart, value: f64) -> f64 {
        let [_, top, _, bottom] = self.frame;
        bottom - chart.y.place(value) * (bottom - top)
    }

    /// Names of lines, in as many rows as they need. Gives the height.
    fn legend(&mut self, chart: &Chart) -> f64 {
        let (mut x, mut y) = (0.0, 0.0);
        let mark = (!chart.marks.is_empty()).then(|| (chart.mark.clone(), "mark".into(), true));
        let lines = chart.lines.iter();
        let lines = lines.map(|l| (l.name.clone(), class_of(l), false));
        let mut any = false;
        for (name, class, mark) in lines.chain(mark) {
            let needs = 30.0 + width(&name);
            if any && x + needs > self.size.width {
                (x, y) = (0.0, y + ROW);
            }
            self.samples.push(Sample {
                class,
                x,
                y: y + 9.0,
                mark,
            });
            self.text("legend start", x + 28.0, y + 13.0, name);
            x += needs + 14.0;
            any = true;
        }
        if let Some(heat) = &chart.heat {
            self.key_width = match self.size.width < 450.0 {
                true => NARROW_KEY,
                false => KEY,
            };
            let keys = HEATS as f64 * self.key_width;
            // From the least to the most, with both ends named.
            let end = |v: Option<&f64>| Unit::PerSecond.show(v.copied().unwrap_or(0.0));
            let low = end(heat.steps.first());
            let high = format!("{}/s in a cell", end(heat.steps.last()));
            if any && x + width(&low) + keys + 12.0 + width(&high) > self.size.width {
                (x, y) = (0.0, y + ROW);
            }
            any = true;
            let at = x + width(&low) + 6.0;
            self.text("legend start", x, y + 13.0, low);
            for i in 0..HEATS {
                self.key.push((i, at + i as f64 * self.key_width, y + 4.0));
            }
            self.text("legend start", at + keys + 6.0, y + 13.0, high);
        }
        if any { y + ROW + 6.0 } else { 0.0 }
    }

    fn y_axis(&mut self, chart: &Chart, ticks: &[Tick]) {
        let [left, _, right, _] = self.frame;
        for tick in ticks {
            let y = self.y(chart, tick.value);
            let class = if tick.label.is_empty() {
                "minor"
            } else {
                "grid"
            };
            self.grid.push(Rule {
                class,
                from: (left, y),
                to: (right, y),
            });
            if !tick.label.is_empty() {
                self.text("tick end", left - 6.0, y + 4.0, tick.label.clone());
            }
        }
    }

    fn x_axis(&mut self, chart: &Chart) {
        let [left, top, right, bottom] = self.frame;
        let ticks = chart.x.ticks(((right - left) / 68.0) as usize);
        // From the right, where the tail is; what would overlap goes without a name.
        let mut free = self.size.width + 9.5;
        for tick in ticks.iter().rev() {
            let x = self.x(chart, tick.value);
            self.grid.push(Rule {
                class: "grid",
                from: (x, top),
                to: (x, bottom),
            });
            let half = width(&tick.label) / 2.0;
            let at = x.min(self.size.width - half).max(half);
            if at + half + 9.0 <= free {
                self.text("tick middle", at, bottom + 16.0, tick.label.clone());
                free = at - half;
            }
        }
        let title = chart.x.title.clone();
        self.text("axis end", right, bottom + 33.0, title);
    }

    fn phases(&mut self, chart: &Chart) {
        let [_, top, _, bottom] = self.frame;
        if chart.spans.len() > 1 {
            // What the run was about stands clear; what came around it is shaded.
            let lengths = chart.spans.iter().map(|s| s.2 - s.1);
            let longest = lengths.fold(0.0, f64::max);
            for (name, begin, end) in &chart.spans {
                let (from, to) = (self.x(chart, *begin), self.x(chart, *end));
                if end - begin < longest {
                    self.bands.push((from, to - from));
                }
                if width(name) + 4.0 <= to - from {
                    let middle = f64::midpoint(from, to);
                    self.text("phase middle", middle, top - 5.0, name.clone());
                }
            }
        }
        // Many marks would hide what they are drawn over.
        let end = if chart.marks.len() > 40 {
            top + 8.0
        } else {
            bottom
        };
        for at in &chart.marks {
            let x = self.x(chart, *at);
            let _ = write!(self.marks, "M{x:.1} {top:.1}V{end:.1}");
        }
    }

    fn heat(&mut self, chart: &Chart) {
        let Some(heat) = &chart.heat else { return };
        let mut paths: BTreeMap<usize, String> = BTreeMap::new();
        for cell in &heat.cells {
            let (left, right) = (self.x(chart, cell.x.0), self.x(chart, cell.x.1));
            let (low, high) = (self.y(chart, cell.y.0), self.y(chart, cell.y.1));
            let (w, h) = (right - left, low - high);
            let path = paths.entry(cell.heat).or_default();
            let _ = write!(path, "M{left:.1} {high:.1}h{w:.1}v{h:.1}h-{w:.1}z");
        }
        self.heats = paths.into_iter().collect();
    }

    fn curve(&mut self, chart: &Chart, line: &Line) {
        let (mut path, mut dots) = (String::new(), Vec::new());
        for run in line.points.split(|p| !p.1.is_finite()) {
            if let [(x, y)] = run {
                // A point between gaps would be a line without length.
                dots.push((self.x(chart, *x), self.y(chart, *y)));
            }
            for (i, (x, y)) in run.iter().enumerate() {
                let (x, y) = (self.x(chart, *x), self.y(chart, *y));
                let command = if i == 0 { 'M' } else { 'L' };
                let _ = write!(path, "{command}{x:.1} {y:.1}");
            }
        }
        self.curves.push(Curve {
            class: class_of(line),
            path,
            dots,
        });
    }
}
