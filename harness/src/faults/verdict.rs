//! What a campaign that failed said.

use gaur_iodriver::faults::{AT_WORK, Fault};

/// Characters of a check that are told.
const LONG: usize = 160;

/// Whether the fault's code was reached.
pub(super) fn at_work(text: &str, fault: Fault) -> bool {
    text.contains(&format!("{AT_WORK}{}", fault.name()))
}

/// The first thing that a failed campaign complained about: what a simulation found,
/// a panic's place and message, or the line that says that it hangs.
pub(super) fn check(text: &str) -> String {
    if let Some(found) = simulated(text) {
        return found;
    }
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("HANGS") || line.starts_with("gaur: ") {
            return short(line);
        }
        if let Some((_, place)) = line.split_once(" panicked at ") {
            let place = place.trim_end_matches(':');
            // The line is enough, the column is not for people.
            let place = place.rsplit_once(':').map_or(place, |p| p.0);
            let message: Vec<&str> = lines
                .by_ref()
                .take_while(|l| !l.starts_with("note: ") && !l.is_empty())
                .take(3)
                .map(str::trim)
                .collect();
            return short(&format!("{} ({place})", message.join(" ")));
        }
    }
    short(text.lines().rfind(|l| !l.is_empty()).unwrap_or("it died"))
}

/// What a simulation found: after how many crash points, where, and what.
fn simulated(text: &str) -> Option<String> {
    let points = text
        .lines()
        .filter(|l| l.contains(" worlds, "))
        .find_map(|l| l.split_once(" crash points").map(|p| p.0))
        .map_or("", |n| n.rsplit(' ').next().unwrap_or(n));
    let (_, found) = text.split_once("FOUND: ")?;
    let mut lines = found.lines();
    let world = lines.next()?;
    let at = world.split_once(": ").map_or(world, |p| p.0);
    let why = lines.next().unwrap_or_default();
    Some(format!("after {points} crash points, {at}: {}", short(why)))
}

fn short(line: &str) -> String {
    match line.char_indices().nth(LONG) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_complaint_counts() {
        let text = "seed 1\nthread 'a' (7) panicked at engine/src/x.rs:12:5:\nassertion failed\n  \
                    left: 1\nnote: run\nthread 'b' panicked at y:1:1:\nlater\n";
        assert_eq!(check(text), "assertion failed left: 1 (engine/src/x.rs:12)");
        assert_eq!(check("HANGS for 60s: seed 4\n"), "HANGS for 60s: seed 4");
        assert_eq!(check(""), "it died");
        assert!(check(&"x".repeat(500)).ends_with('…'));
    }
}
