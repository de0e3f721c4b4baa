//! What the tool is to a terminal: completions and manual pages, progress, and the form of
//! its results.

use crate::common::Place;

/// The verbs that `gaur help` shows.
fn verbs(place: &Place) -> Vec<String> {
    let help = place.ok("--help");
    let shown = help.split("Options:").next().unwrap_or_default();
    let named = shown.lines().filter_map(|l| l.strip_prefix("  "));
    let verbs: Vec<_> = named
        .filter_map(|l| l.split_once(' '))
        .map(|(verb, _)| verb.to_owned())
        .filter(|verb| verb != "help")
        .collect();
    assert!(verbs.len() >= 20, "{help}");
    verbs
}

#[test]
fn completions_and_pages_name_every_verb() {
    let place = Place::new();
    let verbs = verbs(&place);
    let mut texts = vec![("man".to_owned(), place.ok("man").replace('\\', ""))];
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let text = place.ok(&format!("completions {shell}"));
        assert!(text.contains("--dry-run") || shell == "fish", "{shell}");
        texts.push((shell.to_owned(), text));
    }
    for (what, text) in &texts {
        for verb in &verbs {
            assert!(text.contains(verb.as_str()), "{what}: {verb}");
        }
        assert!(!text.contains("crash-child"), "{what} shows what is hidden");
    }
    place.ok("man pages/man1");
    for verb in &verbs {
        let path = place.path(&format!("pages/man1/gaur-{verb}.1"));
        let page = std::fs::read_to_string(&path).expect("a page");
        assert!(page.contains("Examples:"), "{verb}");
    }
    assert!(place.path("pages/man1/gaur-inspect-log.1").exists());
    assert!(!place.path("pages/man1/gaur-crash-child.1").exists());
    place.file("taken", "");
    assert!(place.refused("man taken").contains("taken"));
}
