//! What a store tells `tracing`: spans around its work, and its events.

use std::fmt::{Debug, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gaur::{Durability, FormatOptions, OpenOptions, Store};
use gaur_iodriver::IoErrorKind;
use gaur_iodriver::sim::{FaultKind, OpKind, SimDisk, SimOptions};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Writes down all spans and events of the engine, a line each.
#[derive(Default)]
struct Notes {
    ids: AtomicU64,
    open: AtomicU64,
    lines: Mutex<Vec<String>>,
}

struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {}={value:?}", field.name()).unwrap();
    }
}

impl Notes {
    fn note(&self, what: &str, of: &Metadata<'_>, record: impl FnOnce(&mut Fields)) {
        let mut line = Fields(format!("{what} {}", of.level()));
        if of.is_span() {
            write!(line.0, " {}", of.name()).unwrap();
        }
        record(&mut line);
        self.lines.lock().unwrap().push(line.0);
    }
}

struct Listening(&'static Notes);

impl Subscriber for Listening {
    fn enabled(&self, of: &Metadata<'_>) -> bool {
        of.target() == "gaur"
    }
    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.0.note("span", span.metadata(), |f| span.record(f));
        Id::from_u64(self.0.ids.fetch_add(1, Ordering::Relaxed) + 1)
    }
    fn event(&self, event: &Event<'_>) {
        self.0.note("event", event.metadata(), |f| event.record(f));
    }
    fn enter(&self, _: &Id) {
        self.0.open.fetch_add(1, Ordering::Relaxed);
    }
    fn exit(&self, _: &Id) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
}

#[test]
fn spans_and_events_of_a_life() {
    let notes: &'static Notes = Box::leak(Box::default());
    tracing::subscriber::set_global_default(Listening(notes)).unwrap();
    let disk = SimDisk::new(SimOptions::default());
    Store::format_device(disk.device(), &FormatOptions::default()).unwrap();
    let open = || Store::open_device(disk.device(), &OpenOptions::default()).unwrap();
    let store = open();
    let id = format!("store={:016x}", store.id() as u64);
    let tree = store.tree("t").unwrap();
    tree.put_with(b"k", b"v", Durability::Sync).unwrap();
    store.checkpoint().unwrap();
    disk.inject_next(OpKind::Write, FaultKind::Fail(IoErrorKind::Failed));
    tree.put(b"k", b"w").unwrap_err();
    let events = store.events(10).unwrap();
    while notes
        .lines
        .lock()
        .unwrap()
        .iter()
        .all(|l| !l.contains("kind=\"stopped\""))
    {
        assert!(events.next_within(Duration::from_secs(30)).is_some());
    }
    store.close().unwrap_err();
    open().close().unwrap();

    let lines = notes.lines.lock().unwrap();
    lines.iter().for_each(|l| println!("{l}"));
    for wanted in [
        "span INFO open",
        "span INFO replay",
        "span INFO checkpoint",
        "span INFO freeze",
        "span INFO node writes",
        "span INFO close",
        "event INFO message=the store is open clean=true",
        "event INFO message=the store is open clean=false",
        "event DEBUG message=checkpoint of generation",
        "event ERROR message=the store has stopped",
        "event INFO message=the store was closed",
    ] {
        assert!(lines.iter().any(|l| l.starts_with(wanted)), "{wanted}");
    }
    let of_the_store = |l: &&String| l.starts_with("span") || l.contains("kind=");
    assert!(lines.iter().filter(of_the_store).all(|l| l.contains(&id)));
    assert_eq!(
        notes.open.load(Ordering::Relaxed),
        0,
        "every span has ended"
    );
}
