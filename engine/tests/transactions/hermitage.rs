//! Hermitage's cases (M. Kleppmann, <https://github.com/ept/hermitage>): what each
//! isolation level prevents, by name of the anomaly. There is a table of two rows, 1 = 10
//! and 2 = 20. Where its transactions would wait for a lock, here nobody waits, and
//! whoever may not commit fails in the end.

use super::*;

const BOTH: [Isolation; 2] = [Isolation::Serializable, Isolation::Snapshot];

struct Table {
    _disk: SimDisk,
    store: Store,
    rows: Tree,
}

fn table() -> Table {
    let disk = disk(1);
    let store = open(&disk);
    let rows = store.tree("test").unwrap();
    rows.put_with(b"1", b"10", BUFFERED).unwrap();
    rows.put_with(b"2", b"20", BUFFERED).unwrap();
    Table {
        _disk: disk,
        store,
        rows,
    }
}

impl Table {
    fn get(&self, t: &Transaction, id: u8) -> u64 {
        number(t.get(&self.rows, &[b'0' + id]).unwrap())
    }

    fn set(&self, t: &mut Transaction, id: u8, value: u64) {
        let value = value.to_string();
        t.put(&self.rows, &[b'0' + id], value.as_bytes()).unwrap();
    }

    /// The ids of the rows whose value the condition holds of: a predicate read.
    fn ids(&self, t: &Transaction, which: impl Fn(u64) -> bool) -> Vec<u8> {
        all(t, &self.rows)
            .into_iter()
            .filter(|(_, value)| which(number(Some(value.clone()))))
            .map(|(key, _)| key[0] - b'0')
            .collect()
    }

    /// What is committed.
    fn now(&self) -> Vec<(u8, u64)> {
        self.rows
            .iter()
            .unwrap()
            .map(|r| r.unwrap())
            .map(|(key, value)| (key[0] - b'0', number(Some(value))))
            .collect()
    }
}

fn number(value: Option<Vec<u8>>) -> u64 {
    String::from_utf8(value.unwrap()).unwrap().parse().unwrap()
}

/// Write cycles (dirty writes): two that write the same rows.
#[test]
fn g0() {
    for isolation in BOTH {
        let table = table();
        let mut one = begin(&table.store, isolation);
        let mut two = begin(&table.store, isolation);
        table.set(&mut one, 1, 11);
        table.set(&mut two, 1, 12);
        table.set(&mut one, 2, 21);
        one.commit(BUFFERED).unwrap();
        assert_eq!(table.now(), [(1, 11), (2, 21)]);
        table.set(&mut two, 2, 22);
        match isolation {
            // Neither read anything: one behind the other.
            Isolation::Serializable => {
                two.commit(BUFFERED).unwrap();
                assert_eq!(table.now(), [(1, 12), (2, 22)]);
            }
            Isolation::Snapshot => {
                let on = conflict(two.commit(BUFFERED));
                assert_eq!((on.on, on.key), (ConflictOn::Write, b"1".to_vec()));
                assert_eq!(table.now(), [(1, 11), (2, 21)]);
            }
        }
    }
}

/// Aborted reads.
#[test]
fn g1a() {
    for isolation in BOTH {
        let table = table();
        let mut one = begin(&table.store, isolation);
        let two = begin(&table.store, isolation);
        table.set(&mut one, 1, 101);
        assert_eq!(table.get(&two, 1), 10);
        one.rollback();
        assert_eq!(table.get(&two, 1), 10);
        two.commit(BUFFERED).unwrap();
        assert_eq!(table.now(), [(1, 10), (2, 20)]);
    }
}

/// Intermediate reads.
#[test]
fn g1b() {
    for isolation in BOTH {
        let table = table();
        let mut one = begin(&table.store, isolation);
        let two = begin(&table.store, isolation);
        table.set(&mut one, 1, 101);
        assert_eq!(table.get(&two, 1), 10);
        table.set(&mut one, 1, 11);
        one.commit(BUFFERED).unwrap();
        assert_eq!(table.get(&two, 1), 10);
        two.commit(BUFFERED).unwrap();
        assert_eq!(table.get(&begin(&table.store, isolation), 1), 11);
    }
}

/// Circular information flow.
#[test]
fn g1c() {
    for isolation in BOTH {
        let table = table();
        let mut one = begin(&table.store, isolation);
        let mut two = begin(&table.store, isolation);
        table.set(&mut one, 1, 11);
        table.set(&mut two, 2, 22);
        // Neither sees the other.
        assert_eq!(table.get(&one, 2), 20);
        assert_eq!(table.get(&two, 1), 10);
        one.commit(BUFFERED).unwrap();
        let second = two.commit(BUFFERED);
        match isolation {
            // That neither saw the other has no order: it is write skew.
            Isolation::Serializable => {
                let on = conflict(second);
                assert_eq!((on.on, on.key), (ConflictOn::Read, b"1".to_vec()));
            }
            Isolation::Snapshot => drop(second.unwrap()),
        }
    }
}

/// Observed transaction vanishes.
#[test]
fn otv() {
    for isolation in BOTH {
        let table = table();
        let mut one = begin(&table.store, isolation);
        let mut two = begin(&table.store, isolation);
        table.set(&mut one, 1, 11);
        table.set(&mut one, 2, 19);
        table.set(&mut two, 1, 12);
        one.commit(BUFFERED).unwrap();
        let three = begin(&table.store, isolation);
        assert_eq!(table.get(&three, 1), 11);
        table.set(&mut two, 2, 18);
        assert_eq!(table.get(&three, 2), 19);
        let second = two.commit(BUFFERED);
        assert_eq!(second.is_ok(), isolation == Isolation::Serializable);
        // Whole, and the same to the end.
        assert_eq!((table.get(&three, 1), table.get(&three, 2)), (11, 19));
        three.commit(BUFFERED).unwrap();
    }
}

/// Predicate-many-preceders, for a predicate that is read.
#[test]
fn pmp() {
    for isolation in BOTH {
        let table = table();
        let one = begin(&table.store, isolation);
        let mut two = begin(&table.store, isolation);
        assert!(table.ids(&one, |v| v == 30).is_empty());
        table.set(&mut two, 3, 30);
        two.commit(BUFFERED).unwrap();
        assert!(table.ids(&one, |v| v % 3 == 0).is_empty());
        one.commit(BUFFERED).unwrap();
    }
}

/// Predicate-many-preceders, for a predicate by which is written.
#[test]
fn pmp_for_writes() {
    for isolation in BOTH {
        let table = table();
        let mut one = begin(&table.store, isolation);
        let mut two = begin(&table.store, isolation);
        // Ten more for everybody.
        for id in 1..=2 {
            let was = table.get(&one, id);
            table.set(&mut one, id, was + 10);
        }
        // Away with whoever has 20.
        for id in table.ids(&two, |v| v == 20) {
            two.delete(&table.rows, &[b'0' + id]).unwrap();
        }
        one.commit(BUFFERED).unwrap();
        let on = conflict(two.commit(BUFFERED));
        assert_eq!(on.tree, "test");
        match isolation {
            // Any row it looked at will do.
            Isolation::Serializable => assert!(matches!(on.on, ConflictOn::Range { .. })),
            Isolation::Snapshot => assert_eq!((on.on, &on.key[..]), (ConflictOn::Write, &b"2"[..])),
        }
        assert_eq!(table.now(), [(1, 20), (2, 30)]);
    }
}

/// Lost update.
#[test]
fn p4() {
    for isolation in BOTH {
        let table = table();
        let mut one = begin(&table.store, isolation);
        let mut two = begin(&table.store, isolation);
        let (a, b) = (table.get(&one, 1), table.get(&two, 1));
        table.set(&mut one, 1, a + 1);
        table.set(&mut two, 1, b + 1);
        one.commit(BUFFERED).unwrap();
        let on = conflict(two.commit(BUFFERED));
        assert_eq!(on.key, b"1");
        assert_eq!(table.now(), [(1, 11), (2, 20)]);
    }
}

/// Read skew.
#[test]
fn g_single() {
    for isolation in BOTH {
        let table = table();
        let one = begin(&table.store, isolation);
        assert_eq!(table.get(&one, 1), 10);
        let mut two = begin(&table.store, isolation);
        assert_eq!((table.get(&two, 1), table.get(&two, 2)), (10, 20));
        table.set(&mut two, 1, 12);
        table.set(&mut two, 2, 18);
        two.commit(BUFFERED).unwrap();
        assert_eq!(table.get(&one, 2), 20);
        one.commit(BUFFERED).unwrap();
    }
}

/// Read skew, of predicates that depend on each other.
#[test]
fn g_single_for_predicates() {
    for isolation in BOTH {
        let table = table();
        let one = begin(&table.store, isolation);
        assert_eq!(table.ids(&one, |v| v % 5 == 0), [1, 2]);
        let mut two = begin(&table.store, isolation);
        for id in table.ids(&two, |v| v == 10) {
            table.set(&mut two, id, 12);
        }
        two.commit(BUFFERED).unwrap();
        assert!(table.ids(&one, |v| v % 3 == 0).is_empty());
        one.commit(BUFFERED).unwrap();
    }
}

/// Read skew, by whoever then writes.
#[test]
fn g_single_for_writes() {
    for isolation in BOTH {
        let table = table();
        let mut one = begin(&table.store, isolation);
        assert_eq!(table.get(&one, 1), 10);
        let mut two = begin(&table.store, isolation);
        table.set(&mut two, 1, 12);
        table.set(&mut two, 2, 18);
        two.commit(BUFFERED).unwrap();
        // It sees what was.
        for id in table.ids(&one, |v| v == 20) {
            one.delete(&table.rows, &[b'0' + id]).unwrap();
        }
        conflict(one.commit(BUFFERED));
        assert_eq!(table.now(), [(1, 12), (2, 18)]);
    }
}

/// Write skew on rows: all that snapshot isolation lets through, with `g2`.
#[test]
fn g2_item() {
    for isolation in BOTH {
        let table = table();
        let mut one = begin(&table.store, isolation);
        let mut two = begin(&table.store, isolation);
        for t in [&one, &two] {
            assert_eq!((table.get(t, 1), table.get(t, 2)), (10, 20));
        }
        table.set(&mut one, 1, 11);
        table.set(&mut two, 2, 21);
        one.commit(BUFFERED).unwrap();
        let second = two.commit(BUFFERED);
        match isolation {
            Isolation::Serializable => {
                let on = conflict(second);
                assert_eq!((on.on, on.key), (ConflictOn::Read, b"1".to_vec()));
                assert_eq!(table.now(), [(1, 11), (2, 20)]);
            }
            Isolation::Snapshot => {
                second.unwrap();
                assert_eq!(table.now(), [(1, 11), (2, 21)]);
            }
        }
    }
}

/// Write skew under snapshot isolation, prevented by who says what it depends on.
#[test]
fn g2_item_with_get_for_update() {
    let table = table();
    let mut one = begin(&table.store, Isolation::Snapshot);
    let mut two = begin(&table.store, Isolation::Snapshot);
    for t in [&one, &two] {
        let key = |id: u8| t.get_for_update(&table.rows, &[b'0' + id]).unwrap();
        assert_eq!((number(key(1)), number(key(2))), (10, 20));
    }
    table.set(&mut one, 1, 11);
    table.set(&mut two, 2, 21);
    one.commit(BUFFERED).unwrap();
    let on = conflict(two.commit(BUFFERED));
    assert_eq!((on.on, on.key), (ConflictOn::Read, b"1".to_vec()));
}

/// Anti-dependency cycles: write skew on a predicate, with rows that are new.
#[test]
fn g2() {
    for isolation in BOTH {
        let table = table();
        let mut one = begin(&table.store, isolation);
        let mut two = begin(&table.store, isolation);
        for t in [&one, &two] {
            assert!(table.ids(t, |v| v % 3 == 0).is_empty());
        }
        table.set(&mut one, 3, 30);
        table.set(&mut two, 4, 42);
        one.commit(BUFFERED).unwrap();
        let second = two.commit(BUFFERED);
        match isolation {
            Isolation::Serializable => {
                let on = conflict(second);
                assert!(matches!(on.on, ConflictOn::Range { .. }));
                assert_eq!(on.key, b"3");
            }
            Isolation::Snapshot => drop(second.unwrap()),
        }
    }
}

/// Anti-dependency cycles of two edges (Fekete, O'Neil and O'Neil, 2004): a reader
/// between two writers sees the second without the first.
#[test]
fn g2_two_edges() {
    for isolation in BOTH {
        let table = table();
        let mut one = begin(&table.store, isolation);
        assert_eq!(table.ids(&one, |_| true), [1, 2]);
        let mut two = begin(&table.store, isolation);
        let was = table.get(&two, 2);
        table.set(&mut two, 2, was + 5);
        two.commit(BUFFERED).unwrap();
        let three = begin(&table.store, isolation);
        assert_eq!((table.get(&three, 1), table.get(&three, 2)), (10, 25));
        three.commit(BUFFERED).unwrap();
        table.set(&mut one, 1, 0);
        let last = one.commit(BUFFERED);
        match isolation {
            Isolation::Serializable => drop(conflict(last)),
            Isolation::Snapshot => drop(last.unwrap()),
        }
    }
}
