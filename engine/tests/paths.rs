//! A store in a real file, by its path: every function that opens one by itself. And
//! what a format does with what is there.

mod common;

use std::path::Path;

use gaur::inspect::{InspectOptions, Inspection};
use gaur::{
    CheckOptions, DriverChoice, Durability, Error, FormatOptions, Isolation, OpenOptions, Store,
    TransactionOptions, check, inspect,
};
use gaur_iodriver::sim::{Fault, FaultKind, OpKind, SimDisk, SimOptions};
use gaur_iodriver::{IoErrorKind, signatures};

use common::{checked, disk, open};

const MIB: u64 = 1 << 20;

fn making(driver: DriverChoice) -> FormatOptions {
    FormatOptions {
        create_size: Some(32 * MIB),
        sparse: true,
        driver,
        ..FormatOptions::default()
    }
}

/// The text of all cells.
fn text(seen: &Inspection) -> String {
    let sections = seen.sections.iter();
    let cells = sections.flat_map(|s| s.rows.iter().flatten().chain([&s.heading]));
    cells.cloned().collect::<Vec<_>>().join("\n")
}

#[test]
fn a_store_in_a_file_is_planned_made_used_checked_and_shown() {
    let dir = tempfile::tempdir().unwrap();
    for driver in [DriverChoice::Auto, DriverChoice::Psync] {
        let path = dir.path().join(driver.to_string());
        let planned = Store::plan_format(&path, &making(driver)).unwrap();
        assert!(planned.makes_file && !path.exists());
        let made = Store::format(&path, &making(driver)).unwrap();
        assert_eq!(made.capacity, planned.capacity);
        assert_eq!(made.log_bytes, planned.log_bytes);

        let options = OpenOptions {
            driver,
            cache_bytes: MIB,
            ..OpenOptions::default()
        };
        let store = Store::open(&path, &options).unwrap();
        assert_eq!(store.id(), made.store_id);
        assert_eq!(store.driver(), made.driver);
        assert_eq!(store.is_direct(), made.direct);
        assert!(store.is_sparse());
        let tree = store.tree("t").unwrap();
        let before = store.stats();
        for key in ["a1", "a2", "b1"] {
            tree.put_with(key.as_bytes(), &[7; 3000], Durability::Buffered)
                .unwrap();
        }
        let after = store.stats();
        let added = after.since(&before);
        assert_eq!(added.get("log", "last_csn"), Some(4), "a gauge");
        for (row, now) in added.rows().iter().zip(after.rows()) {
            let earlier = before.get(row.group, row.name).unwrap();
            let expected = now.value - if row.gauge { 0 } else { earlier };
            assert_eq!((row.name, row.value), (now.name, expected));
        }
        let snapshot = store.snapshot().unwrap();
        tree.put(b"a3", b"later").unwrap();
        let keys = |prefix: &[u8]| -> Vec<Vec<u8>> {
            let scan = snapshot.prefix(&tree, prefix).unwrap();
            scan.map(|record| record.unwrap().0).collect()
        };
        assert_eq!(keys(b"a"), [b"a1", b"a2"]);
        assert_eq!(keys(b"").len(), 3);
        let begun = store
            .begin(&TransactionOptions {
                isolation: Isolation::Snapshot,
            })
            .unwrap();
        assert_eq!(begun.isolation(), Isolation::Snapshot);
        drop((begun, snapshot));

        // Whoever only looks is kept out while it is open for writing.
        let look = InspectOptions {
            driver,
            ..InspectOptions::default()
        };
        assert!(matches!(
            inspect::superblock(&path, &look),
            Err(Error::Io(e)) if e.kind == IoErrorKind::Busy
        ));
        drop(tree);
        store.close().unwrap();
        let report = check(
            &path,
            &CheckOptions {
                driver,
                ..CheckOptions::default()
            },
        )
        .unwrap();
        assert!(report.clean, "{:?}", report.problems);
        assert_eq!(report.trees[1].records, 4);
        type Look = fn(&Path, &InspectOptions) -> gaur::Result<Inspection>;
        let looks: [Look; 4] = [
            |p, o| inspect::superblock(p, o),
            |p, o| inspect::log(p, o),
            |p, o| inspect::map(p, o),
            |p, o| inspect::tree(p, o),
        ];
        for look_at in looks {
            let seen = look_at(&path, &look).unwrap();
            assert!(seen.title.contains(&format!("{:032x}", made.store_id)));
        }

        // Made again only by force, which says what it destroys.
        let again = FormatOptions {
            create_size: None,
            ..making(driver)
        };
        let e = Store::plan_format(&path, &again).unwrap_err();
        assert!(matches!(e, Error::Foreign { .. }), "{e}");
        let forced = FormatOptions {
            force: true,
            ..again
        };
        let planned = Store::plan_format(&path, &forced).unwrap();
        assert!(planned.destroys.is_some_and(|d| d.contains("gaur store")));
        assert_ne!(
            Store::format(&path, &forced).unwrap().store_id,
            made.store_id
        );
    }
}

#[test]
fn options_that_no_device_can_have_are_refused() {
    let disk = disk(1, 32 * MIB);
    let hash = disk.image_hash();
    let refused = |options: &FormatOptions, option: &str| {
        let e = Store::format_device(disk.device(), options).unwrap_err();
        assert!(
            matches!(&e, Error::BadOption { name, .. } if *name == option),
            "{e}"
        );
        let e = Store::plan_format_device(disk.device(), options).unwrap_err();
        assert!(matches!(e, Error::BadOption { .. }), "{e}");
    };
    let good = FormatOptions::default();
    let block_size = 8000;
    refused(
        &FormatOptions {
            block_size,
            ..good.clone()
        },
        "block_size",
    );
    for size in [MIB, 17 * MIB] {
        let log_size = Some(size);
        refused(
            &FormatOptions {
                log_size,
                ..good.clone()
            },
            "log_size",
        );
    }
    // A simulated disk is a device.
    refused(
        &FormatOptions {
            sparse: true,
            ..good
        },
        "sparse",
    );
    assert_eq!(disk.image_hash(), hash);
    let tiny = FormatOptions {
        create_size: Some(MIB),
        ..FormatOptions::default()
    };
    let e = Store::format("/nowhere/file", &tiny).unwrap_err();
    assert!(matches!(e, Error::TooSmall { have: MIB, .. }), "{e}");
}

#[test]
fn what_cannot_discard_is_formatted_and_told() {
    for (file, words) in [(false, "cannot discard"), (true, "is not sparse")] {
        let disk = SimDisk::new(SimOptions {
            capacity: 32 * MIB,
            discard_granularity: 0,
            file,
            ..SimOptions::default()
        });
        let options = FormatOptions {
            discard: true,
            ..FormatOptions::default()
        };
        let made = Store::format_device(disk.device(), &options).unwrap();
        assert_eq!(made.discarded, 0);
        let told = made.notes.iter().any(|n| n.contains(words));
        assert!(told, "{:?}", made.notes);
        checked(&disk);
    }
}

#[test]
fn what_has_a_signature_is_refused_and_wiped_by_force() {
    let disk = disk(2, 32 * MIB);
    // A file system, and a partition table with its copy at the end.
    disk.poke(0, b"XFSB");
    disk.poke(512, b"EFI PART");
    disk.poke(32 * MIB - 512, b"EFI PART");
    let found = signatures(disk.device().as_ref()).unwrap();
    assert_eq!(found.len(), 3);
    let plain = FormatOptions::default();
    let e = Store::format_device(disk.device(), &plain).unwrap_err();
    let Error::Foreign {
        signatures: named, ..
    } = &e
    else {
        panic!("{e}");
    };
    assert_eq!(*named, found);
    let e = Store::open_device(disk.device(), &OpenOptions::default()).unwrap_err();
    assert!(e.to_string().contains("Is it the right device?"), "{e}");
    let forced = FormatOptions {
        force: true,
        ..plain
    };
    let planned = Store::plan_format_device(disk.device(), &forced).unwrap();
    let destroys = planned.destroys.unwrap();
    let made = Store::format_device(disk.device(), &forced).unwrap();
    let wiped = made.notes.iter().find(|n| n.starts_with("wiped: "));
    assert_eq!(wiped.unwrap(), &format!("wiped: {destroys}"));
    let told = made.notes.iter().any(|n| n.contains("partx -d"));
    assert!(told, "{:?}", made.notes);
    assert!(signatures(disk.device().as_ref()).unwrap().is_empty());
    checked(&disk);
}

#[test]
fn a_device_that_cannot_be_read_is_formatted_by_force_alone() {
    let disk = disk(3, 32 * MIB);
    let empty = Store::open_device(disk.device(), &OpenOptions::default()).unwrap_err();
    assert!(
        empty.to_string().contains("`gaur format` makes one"),
        "{empty}"
    );
    disk.inject(Fault::for_good(
        OpKind::Read,
        0,
        FaultKind::Fail(IoErrorKind::Failed),
    ));
    let plain = FormatOptions::default();
    let e = Store::format_device(disk.device(), &plain).unwrap_err();
    let Error::Io(io) = &e else { panic!("{e}") };
    assert!(
        io.detail
            .contains("cannot be told, and nothing was written"),
        "{e}"
    );
    assert_eq!(disk.stats().writes, 0);
    let forced = FormatOptions {
        force: true,
        ..plain
    };
    let planned = Store::plan_format_device(disk.device(), &forced).unwrap();
    assert!(planned.destroys.unwrap().contains("cannot be read"));
    let made = Store::format_device(disk.device(), &forced).unwrap();
    let told = made.notes.iter().any(|n| n.contains("is not known"));
    assert!(told, "{:?}", made.notes);
    disk.clear_faults();
    checked(&disk);
}

#[test]
fn a_check_keeps_so_many_problems_and_counts_the_rest() {
    let disk = disk(4, 32 * MIB);
    Store::format_device(disk.device(), &FormatOptions::default()).unwrap();
    let store = open(&disk, 4 << 20);
    let tree = store.tree("t").unwrap();
    for i in 1..=20u8 {
        tree.put(&[i], &[i; 9000]).unwrap();
    }
    drop(tree);
    store.close().unwrap();
    let sound = checked(&disk);
    assert_eq!(sound.problems_left_out, 0);
    // Every large value is spoilt.
    for value in 1..=20u8 {
        let block = (0..32 * MIB / 4096).find(|b| disk.peek(b * 4096, 4096) == [value; 4096]);
        disk.flip_bit(block.unwrap() * 4096, 1);
    }
    let options = CheckOptions {
        max_problems: 6,
        ..CheckOptions::default()
    };
    let told = format!("{options:?}");
    assert!(told.contains("max_problems: 6"), "{told}");
    let report = gaur::check_device(disk.device(), &options).unwrap();
    assert!(!report.clean);
    assert_eq!((report.problems.len(), report.problems_left_out), (6, 14));
    assert_eq!(report.problem_count(), 20);
}

#[test]
fn a_node_is_shown_with_what_is_in_it() {
    let disk = disk(5, 64 * MIB);
    Store::format_device(disk.device(), &FormatOptions::default()).unwrap();
    let store = open(&disk, 4 << 20);
    let tree = store.tree("t").unwrap();
    tree.put(b"large", &[1; 20_000]).unwrap();
    for i in 0..400u32 {
        tree.put_with(&i.to_be_bytes(), &[2; 100], Durability::Buffered)
            .unwrap();
    }
    drop(tree);
    store.close().unwrap();
    let look = |node: u64| {
        let options = InspectOptions {
            node: Some(node),
            limit: 3,
            ..InspectOptions::default()
        };
        let seen = inspect::tree_device(disk.device(), &options).unwrap();
        (text(&seen), seen.sections[0].left_out)
    };
    let all = inspect::tree_device(disk.device(), &InspectOptions::default()).unwrap();
    let root = &all.sections[0].rows[1][2];
    let root: u64 = root
        .split(|c: char| !c.is_ascii_digit())
        .find_map(|n| n.parse().ok())
        .unwrap();
    let (shown, left_out) = look(root);
    assert!(shown.contains("child") && left_out > 0, "{shown}");
    let nodes = 0..64 * MIB / 4096;
    let large = nodes.filter(|b| disk.peek(b * 4096, 4096).windows(5).any(|w| w == b"large"));
    let shown: Vec<String> = large
        .map(|b| {
            let options = InspectOptions {
                node: Some(b),
                limit: 1000,
                ..InspectOptions::default()
            };
            text(&inspect::tree_device(disk.device(), &options).unwrap())
        })
        .collect();
    assert!(
        shown.iter().any(|s| s.contains("20000 B at block")),
        "{shown:?}"
    );
    assert!(look(3).0.contains("no tree has a node at block 3"));
    let options = InspectOptions {
        tree: Some("u".into()),
        ..InspectOptions::default()
    };
    let e = inspect::tree_device(disk.device(), &options).unwrap_err();
    assert!(matches!(e, Error::NoSuchTree(name) if name == "u"));
}
