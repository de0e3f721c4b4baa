//! Plots as files of their own: SVG, and PNG.

use std::fmt::Write as _;
use std::sync::Arc;

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{self, fontdb};

use super::plot::palette;
use crate::failure::Failure;

/// The style of plots, on pages and alone.
pub(crate) const STYLE: &str = include_str!("../../templates/plot.css");

/// Pixels of a PNG for one of the drawing.
const SCALE: f32 = 2.0;
const GAP: f64 = 24.0;

/// A titled drawing, and where it goes: a row for each operation.
pub(crate) struct Panel {
    pub(crate) title: String,
    /// Made by a chart.
    pub(crate) svg: String,
}

/// Puts drawings of one size together, `across` of them in a row.
pub(crate) fn sheet(
    title: &str,
    panels: &[Panel],
    across: usize,
    size: super::plot::Size,
) -> String {
    let across = across.min(panels.len()).max(1);
    let rows = panels.len().div_ceil(across);
    let (w, h) = (size.width + GAP, size.height + GAP + 24.0);
    let (width, height) = (w * across as f64 + GAP, h * rows as f64 + GAP + 30.0);
    let ground = colour("card");
    let text = colour("text");
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\" role=\"img\" aria-label=\"{label}\">\
         <style>{style}\
         .title{{font:600 18px \"DejaVu Sans\",system-ui,sans-serif;fill:{text}}}\
         .name{{font:600 14px \"DejaVu Sans\",system-ui,sans-serif;fill:{text}}}</style>\
         <rect width=\"{width}\" height=\"{height}\" fill=\"{ground}\"/>\
         <text class=\"title\" x=\"{GAP}\" y=\"34\">{label}</text>",
        label = escape(title),
        style = palette::resolved(STYLE),
    );
    for (i, panel) in panels.iter().enumerate() {
        let x = GAP + w * (i % across) as f64;
        let y = 30.0 + GAP + h * (i / across) as f64;
        let name = escape(&panel.title);
        let _ = write!(
            out,
            "<text class=\"name\" x=\"{x}\" y=\"{}\">{name}</text>",
            y + 14.0
        );
        let placed = format!("<svg x=\"{x}\" y=\"{}\"", y + 24.0);
        out.push_str(&panel.svg.replacen("<svg", &placed, 1));
    }
    out.push_str("</svg>\n");
    out
}

fn colour(name: &str) -> &'static str {
    let found = palette::COLOURS.iter().find(|c| c.0 == name);
    found.map_or("#000000", |c| c.1)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// An SVG as PNG. The fonts are this system's; none of them, no text, no plot.
pub(crate) fn png(svg: &str) -> Result<Vec<u8>, Failure> {
    let mut fonts = fontdb::Database::new();
    fonts.load_system_fonts();
    png_with(svg, fonts)
}

fn png_with(svg: &str, mut fonts: fontdb::Database) -> Result<Vec<u8>, Failure> {
    let Some(family) = family(&fonts) else {
        return Err(Failure::refused(
            "no font is installed, and a PNG needs one for its text; install one \
             (on Debian: apt install fonts-dejavu-core), or write .svg or .html",
        ));
    };
    fonts.set_sans_serif_family(&family);
    let failed = |e: &dyn std::fmt::Display| Failure::refused(format!("cannot draw the PNG: {e}"));
    let options = usvg::Options {
        font_family: family,
        fontdb: Arc::new(fonts),
        ..usvg::Options::default()
    };
    let tree = usvg::Tree::from_str(svg, &options).map_err(|e| failed(&e))?;
    let side = |v: f32| (v * SCALE).ceil() as u32;
    let size = tree.size();
    let mut pixels = Pixmap::new(side(size.width()), side(size.height()))
        .ok_or_else(|| failed(&"it is too large; name fewer runs, or write .svg"))?;
    let scale = Transform::from_scale(SCALE, SCALE);
    resvg::render(&tree, scale, &mut pixels.as_mut());
    pixels.encode_png().map_err(|e| failed(&e))
}

/// A sans-serif family that is there; any, if no known one is.
fn family(fonts: &fontdb::Database) -> Option<String> {
    const KNOWN: [&str; 7] = [
        "DejaVu Sans",
        "Noto Sans",
        "Liberation Sans",
        "Roboto",
        "Cantarell",
        "Arial",
        "Helvetica",
    ];
    let names: Vec<&str> = fonts
        .faces()
        .flat_map(|f| f.families.iter().map(|(name, _)| name.as_str()))
        .collect();
    let known = KNOWN.iter().find(|k| names.contains(k)).copied();
    known.or(names.first().copied()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_font_there_is_no_png() {
        let e = png_with("<svg/>", fontdb::Database::new()).unwrap_err();
        assert!(e.to_string().contains("install one"), "{e}");
    }

    #[test]
    fn sheets_are_whole_and_escaped() {
        let panel = || Panel {
            title: "a <b> & c".into(),
            svg: "<svg width=\"10\"/>".into(),
        };
        let svg = sheet(
            "x",
            &[panel(), panel(), panel()],
            2,
            super::super::plot::NARROW,
        );
        assert!(
            svg.contains("a &lt;b&gt; &amp; c") && !svg.contains("var("),
            "{svg}"
        );
        assert_eq!(svg.matches("<svg").count(), 4);
        usvg::Tree::from_str(&svg, &usvg::Options::default()).expect("an SVG");
    }
}
