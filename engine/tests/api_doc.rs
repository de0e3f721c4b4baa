//! `docs/api.md`, the public surface on one page: made from the source, and the same.
//!
//! Every item that `lib.rs` exports must be in a group below; each is listed with the
//! first sentence of its documentation, and so are its public functions. Written anew by
//! `GAUR_WRITE=1 cargo test -p gaur --test api_doc`. Relies on the source being formatted.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// What belongs together, in the order of the page.
const GROUPS: &[(&str, &[&str])] = &[
    (
        "Stores",
        &[
            "Store",
            "OpenOptions",
            "FormatOptions",
            "FormatReport",
            "FormatPlan",
            "DiscardProgress",
            "RecoveryReport",
            "DriverChoice",
            "DurableMethod",
            "MIN_STORE",
            "MAX_THREADS",
        ],
    ),
    (
        "Trees",
        &[
            "Tree",
            "ValueReader",
            "BulkLoader",
            "BulkOptions",
            "MergeOperator",
            "Swap",
            "RangeSize",
            "MAX_KEY",
            "MAX_VALUE",
        ],
    ),
    ("Commits", &["WriteBatch", "Durability", "Csn"]),
    ("Scans and cursors", &["Scan", "LeftOut", "Cursor"]),
    ("Snapshots", &["Snapshot", "NamedSnapshot", "SnapshotInfo"]),
    (
        "Change feeds",
        &[
            "ChangeFeed",
            "FeedOptions",
            "FeedCommit",
            "FeedOp",
            "LargeValue",
        ],
    ),
    (
        "Transactions",
        &[
            "Transaction",
            "TransactionOptions",
            "Isolation",
            "TransactionScan",
            "Savepoint",
            "Retry",
            "Transacted",
        ],
    ),
    (
        "Typed trees",
        &[
            "TypedTree",
            "OrderedKey",
            "Value",
            "TypedScan",
            "TypedCursor",
            "ReadFrom",
            "WriteTo",
        ],
    ),
    (
        "Errors",
        &[
            "Error",
            "Result",
            "Damage",
            "Conflict",
            "ConflictOn",
            "OutOfOrder",
            "MergeRefused",
            "WrongType",
            "Part",
        ],
    ),
    (
        "Watching",
        &[
            "Stats",
            "StatRow",
            "Unit",
            "Event",
            "Events",
            "ThrottleCause",
            "GivenUp",
        ],
    ),
    (
        "Space and size",
        &[
            "GrowReport",
            "TrimOptions",
            "TrimReport",
            "DiscardRate",
            "FreeSpace",
            "CacheBudget",
        ],
    ),
    (
        "Checking",
        &["check", "check_device", "CheckOptions", "CheckReport"],
    ),
];

/// Modules that are public beside that. What is in them serves the tool and those who look
/// at a store from outside.
const MODULES: &[&str] = &[
    "alloc", "check", "error", "format", "inspect", "log", "waits",
];

/// Files that are built with a feature alone, and those that are not for users.
const FEATURES: &[(&str, &str)] = &[("report/prometheus.rs", "prometheus")];
const NOT_PUBLIC: &[&str] = &["experiment", "fuzzing", "models", "tests"];

/// The source, file by file, by its path below `src`.
struct Source(BTreeMap<String, Vec<String>>);

/// A public item as it stands in the source.
struct Item {
    first: String,
    feature: Option<&'static str>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read_all(folder: &Path, below: &str, into: &mut BTreeMap<String, Vec<String>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if NOT_PUBLIC.contains(&name.trim_end_matches(".rs")) {
            continue;
        }
        let below = format!("{below}{name}");
        if path.is_dir() {
            read_all(&path, &format!("{below}/"), into);
        } else if name.ends_with(".rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            // Tests come last in a file.
            let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            into.insert(below, text.lines().map(str::to_owned).collect());
        }
    }
}

/// The name that a line declares behind one of `kinds`.
fn declared<'a>(line: &'a str, kinds: &[&str]) -> Option<&'a str> {
    let rest = kinds.iter().find_map(|kind| line.strip_prefix(kind))?;
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
    Some(&rest[..end.unwrap_or(rest.len())])
}

const ITEMS: &[&str] = &[
    "pub struct ",
    "pub enum ",
    "pub trait ",
    "pub type ",
    "pub const ",
    "pub fn ",
];
const METHODS: &[&str] = &["    pub fn ", "    pub const fn "];

/// The first sentence of the documentation above line `at`; `None`: it is not public.
fn documented(lines: &[String], at: usize) -> Option<String> {
    let above = lines[..at].iter().rev();
    let mut above: Vec<&str> = above
        .map(|l| l.trim())
        .take_while(|l| l.starts_with("///") || !(l.is_empty() || l.ends_with(['{', '}', ';'])))
        .collect();
    above.reverse();
    let hidden = |l: &&str| l.contains("cfg(test)") || l.contains("experiment-cow");
    if above.iter().any(hidden) {
        return None;
    }
    Some(first_sentence(&above, "///"))
}

/// The first sentence of documentation.
fn first_sentence(lines: &[&str], mark: &str) -> String {
    let text = lines.iter().filter_map(|l| l.strip_prefix(mark));
    let text: Vec<&str> = text.map(str::trim).take_while(|l| !l.is_empty()).collect();
    let text = text.join(" ");
    // An initial does not end it.
    let is_initial = |at: usize| text[..at].ends_with(|c: char| c.is_ascii_uppercase());
    let mut ends = text.match_indices(". ").map(|(at, _)| at);
    let end = ends.find(|at| !is_initial(*at));
    without_links(end.map_or(text.as_str(), |at| &text[..=at]))
}

/// Links to code as code.
fn without_links(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, link)) = rest.split_once("[`") {
        let (name, behind) = link.split_once("`]").expect("a link ends");
        write!(out, "{before}`{name}`").unwrap();
        rest = match behind.strip_prefix('(') {
            Some(target) => {
                // It may be a function's, with brackets of its own.
                let target = target.trim_start_matches(|c| !"()".contains(c));
                let target = target.strip_prefix("()").unwrap_or(target);
                target.strip_prefix(')').expect("a target ends")
            }
            None => behind,
        };
    }
    out + rest
}

impl Source {
    fn read() -> Self {
        let mut all = BTreeMap::new();
        read_all(&root().join("engine/src"), "", &mut all);
        read_all(&root().join("iodriver/src"), "gaur_iodriver/", &mut all);
        Self(all)
    }

    /// Files of a module, by its path.
    fn of<'a>(&'a self, module: &'a str) -> impl Iterator<Item = (&'a str, &'a [String])> {
        let path = module.replace("::", "/");
        self.0.iter().filter_map(move |(file, lines)| {
            let rest = file.strip_prefix(&path)?;
            (rest == ".rs" || rest.starts_with('/')).then_some((file.as_str(), lines.as_slice()))
        })
    }

    /// What is exported at the top: name and module.
    fn exported(&self) -> BTreeMap<String, String> {
        exports(&self.0["lib.rs"])
    }

    /// The public item of a module.
    fn item(&self, module: &str, name: &str) -> Item {
        // In a macro it is indented.
        for trim in [false, true] {
            for (_, lines) in self.of(module) {
                let is = |line: &&String| {
                    let line = if trim { line.trim_start() } else { line };
                    declared(line, ITEMS) == Some(name)
                };
                if let Some(at) = lines.iter().position(|l| is(&l)) {
                    let first = documented(lines, at).unwrap_or_default();
                    return Item {
                        first,
                        feature: None,
                    };
                }
            }
        }
        panic!("{module} has no {name}");
    }

    /// The public functions of a type, or those of a trait.
    fn methods(&self, module: &str, name: &str) -> BTreeMap<String, Item> {
        let mut all = BTreeMap::new();
        let own = module.split("::").next().unwrap();
        for (file, lines) in &self.0 {
            let about = |l: &String| {
                l.starts_with("impl") && implemented(l) == name
                    || declared(l, &["pub trait "]) == Some(name)
            };
            if !lines.iter().any(about) {
                continue;
            }
            let top = file.split('/').next().unwrap().trim_end_matches(".rs");
            let declares = |l: &String| declared(l, ITEMS) == Some(name);
            // Another of the same name.
            if top != own && self.of(top).any(|(_, lines)| lines.iter().any(declares)) {
                continue;
            }
            let feature = FEATURES
                .iter()
                .find(|(f, _)| f == file)
                .map(|(_, feature)| *feature);
            let (mut inside, mut kinds) = (false, METHODS);
            for (at, line) in lines.iter().enumerate() {
                match line.as_str() {
                    l if l.starts_with("impl") && !l.contains(" for ") => {
                        inside = implemented(l) == name && l.ends_with('{');
                        kinds = METHODS;
                    }
                    l if declared(l, &["pub trait "]) == Some(name) => {
                        inside = l.ends_with('{');
                        kinds = &["    fn "];
                    }
                    "}" => inside = false,
                    _ => {}
                }
                if inside
                    && let Some(method) = declared(line, kinds)
                    && let Some(first) = documented(lines, at)
                {
                    all.insert(method.to_owned(), Item { first, feature });
                }
            }
        }
        all
    }
}

/// The type that an `impl` line is about.
fn implemented(line: &str) -> &str {
    let mut rest = line.strip_prefix("impl").unwrap();
    if rest.starts_with('<') {
        let mut depth = 0;
        let end = rest.find(|c| {
            depth += i32::from(c == '<') - i32::from(c == '>');
            depth == 0
        });
        rest = &rest[end.unwrap() + 1..];
    }
    let rest = rest.trim_start();
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
    &rest[..end.unwrap_or(rest.len())]
}

/// What `pub use` lines export: name and module.
fn exports(lines: &[String]) -> BTreeMap<String, String> {
    let text = lines.join("\n");
    let mut all = BTreeMap::new();
    for part in text.split("\npub use ").skip(1) {
        let path = part.split(';').next().unwrap().replace("self::", "");
        let (module, names) = match path.split_once("::{") {
            Some((module, names)) => (module.to_owned(), names.trim_end_matches('}').to_owned()),
            None => {
                let (module, name) = path.rsplit_once("::").unwrap();
                (module.to_owned(), name.to_owned())
            }
        };
        for name in names.split(',').map(str::trim).filter(|n| !n.is_empty()) {
            all.insert(name.to_owned(), module.clone());
        }
    }
    all
}

fn row(page: &mut String, name: &str, item: &Item) {
    assert!(!item.first.is_empty(), "{name} has no documentation");
    let only = item
        .feature
        .map(|f| format!(" (feature `{f}`)"))
        .unwrap_or_default();
    writeln!(page, "| `{name}` | {}{only} |", item.first).unwrap();
}

/// The page as the source says it.
fn page(source: &Source) -> String {
    let exported = source.exported();
    let mut page = String::from(
        "# The public surface\n\n\
         Everything that the crate `gaur` exports, each in its first sentence. Made from the source by\n\
         `GAUR_WRITE=1 cargo test -p gaur --test api_doc`; that test also holds it true.\n\
         `cargo doc -p gaur --open` has the rest.\n",
    );
    let mut listed = BTreeSet::new();
    for (group, names) in GROUPS {
        write!(page, "\n## {group}\n\n| item | |\n|---|---|\n").unwrap();
        for name in *names {
            assert!(listed.insert(*name), "{name} is listed twice");
            let module = exported.get(*name);
            let module = module.unwrap_or_else(|| panic!("lib.rs does not export {name}"));
            row(&mut page, name, &source.item(module, name));
            for (method, item) in source.methods(module, name) {
                row(&mut page, &format!("{name}::{method}"), &item);
            }
        }
    }
    let missing: Vec<_> = exported
        .keys()
        .filter(|n| !listed.contains(n.as_str()))
        .collect();
    assert!(missing.is_empty(), "in no group: {missing:?}");

    page.push_str(
        "\n## Modules\n\nBeside that, for the tool and for looking at a store from outside. \
         What lies on the device is in [format.md](format.md).\n\n| item | |\n|---|---|\n",
    );
    let lib = &source.0["lib.rs"];
    let declared_modules: BTreeSet<&str> = lib
        .iter()
        .filter_map(|l| l.strip_prefix("pub mod ")?.strip_suffix(';'))
        .filter(|m| !NOT_PUBLIC.contains(m))
        .collect();
    assert_eq!(
        declared_modules,
        MODULES.iter().copied().collect(),
        "public modules"
    );
    for module in MODULES {
        let file = [format!("{module}.rs"), format!("{module}/mod.rs")];
        let lines = file.iter().find_map(|f| source.0.get(f)).unwrap();
        let mut names = exports(lines);
        for line in lines {
            if let Some(name) = declared(line, ITEMS) {
                names.insert(name.to_owned(), String::new());
            }
        }
        for name in names
            .keys()
            .filter(|n| exported.get(*n).is_none_or(|m| m != module))
        {
            row(
                &mut page,
                &format!("{module}::{name}"),
                &source.item(module, name),
            );
        }
        let inner = lines
            .iter()
            .filter_map(|l| l.strip_prefix("pub mod ")?.strip_suffix(';'));
        for inner in inner {
            let lines = &source.0[&format!("{module}/{inner}.rs")];
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let item = Item {
                first: first_sentence(&lines, "//!"),
                feature: None,
            };
            row(&mut page, &format!("{module}::{inner}"), &item);
        }
    }
    page
}

#[test]
fn the_page_has_every_public_item() {
    let page = page(&Source::read());
    let path = root().join("docs/api.md");
    if std::env::var_os("GAUR_WRITE").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = page.lines().zip(there.lines()).find(|(is, was)| is != was);
    assert!(
        there == page,
        "docs/api.md is not what the source says, from {differs:?} on; \
         GAUR_WRITE=1 cargo test -p gaur --test api_doc writes it"
    );
}

/// It knows the items that are known to be there, and no others.
#[test]
fn it_reads_the_source() {
    let source = Source::read();
    let store = source.methods("store", "Store");
    for method in [
        "open", "tree", "snapshot", "transact", "events", "grow", "trim",
    ] {
        assert!(store.contains_key(method), "{method}");
    }
    assert!(!store.contains_key("check_owns"));
    let stats = source.methods("report", "Stats");
    assert_eq!(stats["to_prometheus"].feature, Some("prometheus"));
    assert!(!stats.contains_key("named"), "those of the log are others");
    assert!(
        source
            .methods("typed", "Value")
            .contains_key("encode_value")
    );
    let links = "of [`A`], [`b`](crate::B) c [`d()`](d()).";
    assert_eq!(without_links(links), "of `A`, `b` c `d()`.");
    assert_eq!(
        implemented("impl<'t, K: A<B>> TypedScan<'t, K> {"),
        "TypedScan"
    );
}
