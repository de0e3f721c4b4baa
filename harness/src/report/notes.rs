//! Notes beside the plots: the sections of `docs/plots.md`.

const TEXT: &str = include_str!("../../../docs/plots.md");

/// A section's text, by its title.
pub(super) fn about(title: &str) -> String {
    let mut lines = TEXT
        .lines()
        .skip_while(|l| l.strip_prefix("## ") != Some(title));
    lines.next();
    let lines: Vec<_> = lines.take_while(|l| !l.starts_with('#')).collect();
    lines.join(" ").replace(['*', '`'], "").trim().to_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn sections_are_found() {
        for title in [
            "Percentiles",
            "Throughput",
            "Latency over time",
            "Heat map",
            "Device",
            "Floor",
            "Amplification and memory",
            "Two stages",
            "Worst operations",
        ] {
            let text = super::about(title);
            assert!(text.len() > 100, "{title}: {text:?}");
            assert!(!text.contains("##"), "{title}: {text:?}");
        }
    }
}
