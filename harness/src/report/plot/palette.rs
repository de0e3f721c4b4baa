//! Colours, for light and for dark ground.
//!
//! Lines keep a contrast of at least 3:1 to their ground and differ in lightness as
//! well as in hue, after Okabe and Ito, so that they are told apart without seeing
//! red or green; each has dashes of its own besides. Heat goes by lightness alone.

/// Name of a CSS variable, its light and its dark value.
pub(crate) const COLOURS: [(&str, &str, &str); 33] = [
    ("ground", "#f6f7f9", "#101418"),
    ("card", "#ffffff", "#181d23"),
    ("text", "#1b2127", "#e6eaee"),
    ("muted", "#56616c", "#a3adb7"),
    ("line", "#d9dee4", "#303841"),
    ("grid", "#e6e9ed", "#262d35"),
    ("grid-strong", "#ccd2d9", "#3a444e"),
    ("accent", "#0b5cad", "#7cb8ff"),
    ("focus", "#0b5cad", "#ffd166"),
    ("good", "#0a6b45", "#5fd6a2"),
    ("bad", "#a8201a", "#ff9a8f"),
    ("warn", "#7a4b00", "#f3c567"),
    ("good-ground", "#e3f4ec", "#12301f"),
    ("bad-ground", "#fde8e6", "#3d1714"),
    ("warn-ground", "#fdf1d8", "#35280c"),
    ("tip", "#ffffff", "#222931"),
    ("mark", "#8a949e", "#78838e"),
    ("c0", "#0060a8", "#62aef5"),
    ("c1", "#c04a00", "#ff9a52"),
    ("c2", "#007a58", "#3fd0a0"),
    ("c3", "#9c3a80", "#f096cf"),
    ("c4", "#6b5200", "#e8d15c"),
    ("c5", "#4a5560", "#c3ccd5"),
    ("c6", "#5a3fc0", "#b3a4ff"),
    ("c7", "#a3163a", "#ff8fa5"),
    ("h0", "#e4f1f4", "#17303b"),
    ("h1", "#c3e3e4", "#1b4552"),
    ("h2", "#93cfd0", "#1f5e69"),
    ("h3", "#5cb3bf", "#2b7c80"),
    ("h4", "#3190ab", "#4a9d8c"),
    ("h5", "#246c93", "#84bc8a"),
    ("h6", "#1d4877", "#c3d88c"),
    ("h7", "#152550", "#fbf3a6"),
];

/// Steps of heat.
pub(crate) const HEATS: usize = 8;
/// Colours of lines.
pub(crate) const LINES: usize = 8;

/// The variables as CSS, for one ground.
pub(crate) fn variables(dark: bool) -> String {
    COLOURS
        .iter()
        .map(|(name, l, d)| format!("--{name}:{};", if dark { d } else { l }))
        .collect()
}

/// CSS with the light values in the place of the variables, for what has no pages
/// around it: not every reader of SVG knows variables.
pub(crate) fn resolved(css: &str) -> String {
    COLOURS
        .iter()
        .fold(css.to_owned(), |css, (name, light, _)| {
            css.replace(&format!("var(--{name})"), light)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Relative luminance, as the accessibility guidelines define it.
    fn luminance(colour: &str) -> f64 {
        let part = |i: usize| {
            let c = f64::from(u8::from_str_radix(&colour[i..i + 2], 16).unwrap()) / 255.0;
            match c <= 0.04045 {
                true => c / 12.92,
                false => ((c + 0.055) / 1.055).powf(2.4),
            }
        };
        0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5)
    }

    fn contrast(a: &str, b: &str) -> f64 {
        let (a, b) = (luminance(a) + 0.05, luminance(b) + 0.05);
        (a / b).max(b / a)
    }

    fn colour(name: &str, dark: bool) -> &'static str {
        let (_, l, d) = COLOURS.iter().find(|c| c.0 == name).unwrap();
        if dark { d } else { l }
    }

    #[test]
    fn text_and_lines_are_told_from_their_ground() {
        for dark in [false, true] {
            for ground in ["card", "ground"] {
                let ground = colour(ground, dark);
                for text in ["text", "muted", "accent"] {
                    let c = contrast(colour(text, dark), ground);
                    assert!(c >= 4.5, "{text} {dark}: {c}");
                }
                for i in 0..LINES {
                    let c = contrast(colour(&format!("c{i}"), dark), ground);
                    assert!(c >= 3.0, "c{i} {dark}: {c}");
                }
            }
            for kind in ["good", "bad", "warn"] {
                let c = contrast(colour(kind, dark), colour(&format!("{kind}-ground"), dark));
                assert!(c >= 4.5, "{kind} {dark}: {c}");
            }
            // Each step of heat is further from the ground than the one before.
            for i in 1..HEATS {
                let away =
                    |i: usize| contrast(colour(&format!("h{i}"), dark), colour("card", dark));
                assert!(away(i) > away(i - 1) * 1.1, "h{i} {dark}");
            }
        }
    }

    #[test]
    fn nothing_is_left_to_resolve() {
        assert_eq!(resolved(".a{fill:var(--c0)}"), ".a{fill:#0060a8}");
    }
}
