//! `docs/format.md` and the code say the same, to the byte.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use gaur::format::log::{LogHeader, OpHeader, RecordHeader};
use gaur::format::node::NodeHeader;
use gaur::format::space::{IndexEntry, SpaceHeader};
use gaur::format::superblock::Superblock;
use gaur::format::{BlockPtr, ExtentPtr, Field, Generation, geometry, log, node, pointer};
use gaur::format::{space, superblock};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn document() -> String {
    fs::read_to_string(root().join("docs/format.md")).unwrap()
}

/// A structure as the document draws it: its size, and the rows of its table.
#[derive(Debug)]
struct Drawn {
    size: usize,
    rows: Vec<Vec<String>>,
}

fn cells(line: &str) -> Vec<String> {
    let line = line.trim().trim_matches('|');
    line.split('|').map(|c| c.trim().to_owned()).collect()
}

/// Whether the table of this structure is over; further ones are not its fields.
fn after_table(all: &BTreeMap<String, Drawn>, name: Option<&String>, line: &str) -> bool {
    line.is_empty() && name.is_some_and(|n| !all[n].rows.is_empty())
}

/// The structures, by the headings "### `Name`, N bytes".
fn drawn(text: &str) -> BTreeMap<String, Drawn> {
    let mut all = BTreeMap::new();
    let mut name = None;
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("### ") {
            name = heading.strip_prefix('`').and_then(|h| {
                let (n, size) = h.split_once("`, ")?;
                let size = size.strip_suffix(" bytes")?.parse().ok()?;
                let rows = Vec::new();
                assert!(all.insert(n.to_owned(), Drawn { size, rows }).is_none());
                Some(n.to_owned())
            });
        } else if line.starts_with("## ") || after_table(&all, name.as_ref(), line) {
            name = None;
        } else if let Some(n) = &name
            && line.starts_with('|')
            && !line.starts_with("|---")
        {
            let row = cells(line);
            if !["offset", "word"].contains(&row[0].as_str()) {
                all.get_mut(n).unwrap().rows.push(row);
            }
        }
    }
    all
}

/// What `layout!` declares, with its size and fields.
fn declared() -> Vec<(&'static str, usize, &'static [Field])> {
    macro_rules! all {
        ($($t:ident),*) => { vec![$((stringify!($t), $t::SIZE, $t::FIELDS)),*] };
    }
    all!(
        Superblock,
        SpaceHeader,
        IndexEntry,
        LogHeader,
        RecordHeader,
        OpHeader,
        NodeHeader
    )
}

#[test]
fn the_document_draws_every_structure_as_it_is() {
    let drawn = drawn(&document());
    for (name, size, fields) in declared() {
        let d = drawn
            .get(name)
            .unwrap_or_else(|| panic!("{name} is not drawn"));
        assert_eq!(d.size, size, "size of {name}");
        let rows: Vec<(usize, usize, String)> = d
            .rows
            .iter()
            .map(|r| (r[0].parse().unwrap(), r[1].parse().unwrap(), r[2].clone()))
            .collect();
        let code: Vec<(usize, usize, String)> = fields
            .iter()
            .map(|f| (f.offset, f.size, format!("`{}`", f.name)))
            .collect();
        assert_eq!(rows, code, "fields of {name}");
        assert!(
            d.rows.iter().all(|r| !r[3].is_empty()),
            "{name} says what for"
        );
    }
    let mut names: Vec<&str> = declared().iter().map(|d| d.0).collect();
    names.extend(["BlockPtr", "ExtentPtr", "CatalogEntry"]);
    names.sort_unstable();
    assert!(
        drawn.keys().map(String::as_str).eq(names),
        "{:?}",
        drawn.keys()
    );
}

fn sources(dir: &Path, out: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(fs::read_to_string(path).unwrap());
        }
    }
}

/// So that nobody adds a structure, a constant or a checksum and tells nobody.
#[test]
fn nothing_of_the_code_is_missing() {
    let mut files = Vec::new();
    sources(&root().join("engine/src"), &mut files);
    let mut structs = 0;
    for text in &files {
        for part in text.split("\nlayout! {").skip(1) {
            let at = part.find("pub struct ").unwrap() + "pub struct ".len();
            let name = part[at..].split([',', ' ']).next().unwrap();
            assert!(
                declared().iter().any(|d| d.0 == name),
                "{name} is not compared"
            );
            structs += 1;
        }
    }
    assert_eq!(structs, declared().len());
    let documented = constants(&document());
    for module in ["superblock", "geometry", "space", "log", "node", "pointer"] {
        let path = root().join(format!("engine/src/format/{module}.rs"));
        let text = fs::read_to_string(path).unwrap();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("pub const ") {
                let name = format!("{module}::{}", rest.split(':').next().unwrap());
                assert!(documented.contains_key(&name), "{name} is not documented");
            }
        }
    }
}

fn constants(text: &str) -> BTreeMap<String, String> {
    let section = text.split("\n## 8. Constants").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    section
        .lines()
        .filter(|l| l.starts_with("| `"))
        .map(|l| {
            let row = cells(l);
            (row[0].trim_matches('`').to_owned(), row[1].clone())
        })
        .collect()
}

#[test]
fn the_constants_are_those_of_the_code() {
    let text8 = |w: u64| format!("`{}`", String::from_utf8(w.to_le_bytes().to_vec()).unwrap());
    let text4 = |w: u32| format!("`{}`", String::from_utf8(w.to_le_bytes().to_vec()).unwrap());
    let mut code: BTreeMap<String, String> = BTreeMap::new();
    macro_rules! constants {
        ($show:expr; $($m:ident :: $c:ident),*) => {
            $(code.insert(concat!(stringify!($m), "::", stringify!($c)).into(), $show($m::$c));)*
        };
    }
    constants!(text8; superblock::MAGIC, space::MAP_MAGIC, space::INDEX_MAGIC, log::MAGIC);
    constants!(text4; node::MAGIC);
    constants!(|n: u32| n.to_string();
        superblock::FORMAT_VERSION, superblock::FLAG_SPARSE, superblock::FLAG_CLEAN,
        geometry::INDEX_LEVELS, log::FLAG_SKIP, pointer::ADDR_BITS);
    constants!(|n: u64| n.to_string();
        superblock::KNOWN_COMPAT, superblock::KNOWN_RO_COMPAT, superblock::KNOWN_INCOMPAT,
        superblock::FEATURE_HELD,
        geometry::SECOND_SUPERBLOCK, pointer::SUM_UNIT, pointer::MOST_WITHOUT_TABLE);
    constants!(|n: usize| n.to_string(); space::HEADER, node::HEADER);
    constants!(|n: u16| n.to_string(); node::NO_UPPER);
    constants!(|n: u8| n.to_string();
        log::OP_PUT, log::OP_PUT_EXTENT, log::OP_DELETE, log::OP_CREATE_TREE, log::OP_DROP_TREE,
        log::OP_RENAME_TREE, log::OP_DELETE_RANGE, log::OP_LOAD_TREE,
        node::KIND_VALUE, node::KIND_EXTENT, node::KIND_CHILD, pointer::EXTENT_TABLE);
    assert_eq!(constants(&document()), code);
}

/// Pointers are not declared with offsets: the document's bits are set one by one.
#[test]
fn the_bits_of_pointers_are_as_drawn() {
    let drawn = drawn(&document());
    let bits = |name: &str, field: &str| {
        let row = drawn[name]
            .rows
            .iter()
            .find(|r| r[2] == format!("`{field}`"));
        let row = row.unwrap_or_else(|| panic!("{name}.{field}"));
        let (from, to) = row[1].split_once('–').unwrap();
        let (from, to): (u32, u32) = (from.parse().unwrap(), to.parse().unwrap());
        let mask = (u64::MAX >> (63 - to + from)) << from;
        (row[0].parse::<usize>().unwrap(), mask)
    };
    let zero = BlockPtr::default();
    let block = [
        (
            "addr",
            BlockPtr {
                addr: (1 << 40) - 1,
                ..zero
            },
        ),
        (
            "flags",
            BlockPtr {
                flags: u8::MAX,
                ..zero
            },
        ),
        (
            "len",
            BlockPtr {
                len: u16::MAX,
                ..zero
            },
        ),
        (
            "birth",
            BlockPtr {
                birth: Generation(u64::MAX),
                ..zero
            },
        ),
        (
            "checksum",
            BlockPtr {
                checksum: u64::MAX,
                ..zero
            },
        ),
    ];
    assert_eq!(drawn["BlockPtr"].size, BlockPtr::SIZE);
    assert_eq!(drawn["BlockPtr"].rows.len(), block.len());
    for (name, ptr) in block {
        let (word, mask) = bits("BlockPtr", name);
        let mut want = [0; 3];
        want[word] = mask;
        assert_eq!(ptr.to_words(), want, "{name}");
    }
    let zero = ExtentPtr::default();
    let extent = [
        (
            "addr",
            ExtentPtr {
                addr: (1 << pointer::ADDR_BITS) - 1,
                ..zero
            },
        ),
        (
            "flags",
            ExtentPtr {
                flags: u8::MAX,
                ..zero
            },
        ),
        (
            "birth",
            ExtentPtr {
                birth: Generation(u64::MAX),
                ..zero
            },
        ),
        (
            "checksum",
            ExtentPtr {
                checksum: u64::MAX,
                ..zero
            },
        ),
        (
            "bytes",
            ExtentPtr {
                bytes: u64::MAX,
                ..zero
            },
        ),
    ];
    assert_eq!(drawn["ExtentPtr"].size, ExtentPtr::SIZE);
    assert_eq!(drawn["ExtentPtr"].rows.len(), extent.len());
    for (name, ptr) in extent {
        let (word, mask) = bits("ExtentPtr", name);
        let mut want = vec![0; ExtentPtr::SIZE];
        want[word * 8..word * 8 + 8].copy_from_slice(&mask.to_le_bytes());
        assert_eq!(ptr.encode().to_vec(), want, "{name}");
    }
}

/// The places of section 1, as the geometry has them.
#[test]
fn the_places_are_as_drawn() {
    let g = geometry::Geometry::new(4096, 64 << 40, 1000);
    assert_eq!((g.group_blocks(), g.fanout()), (32_256, 126));
    assert_eq!([0, 1].map(|c| g.superblock(c)), [0, 256]);
    let start = g.group_start(126 * 126);
    assert_eq!([0, 1].map(|s| g.map_block(126 * 126, s) - start), [1, 2]);
    assert_eq!([0, 1].map(|s| g.index_block(1, 126, s) - start), [3, 4]);
    assert_eq!([0, 1].map(|s| g.index_block(2, 1, s) - start), [5, 6]);
    assert_eq!([0, 1].map(|s| g.index_block(3, 0, s)), [7, 8]);
    let metadata = [1, 126, 126 * 126, 0].map(|group| g.metadata_blocks(group));
    assert_eq!(metadata, [3, 5, 7, 9]);
    assert_eq!(g.log_pieces()[0].start, 257);
    let long = geometry::Geometry::new(4096, 64 << 40, 100_000);
    assert_eq!(long.log_pieces()[1].start, g.group_start(1) + 16);
    let most = 126u64.pow(3) * 32_256 * 4096;
    assert_eq!(most >> 40, 240);
}
