//! Feeds that are slow: theirs is the error.

use gaur::{Error, FeedOp, FeedOptions};

use super::*;

fn counted(store: &Store, name: &str) -> u64 {
    store.stats().get("feeds", name).unwrap()
}

#[test]
fn a_feed_may_lag_by_a_lap_of_the_log_and_hears_when_it_lags_more() {
    let disk = formatted(10, 32 * MIB);
    let store = open(&disk);
    let tree = store.tree("t").unwrap();
    let (mut slow, mut quick) = (feed(&store, 0), feed(&store, 0));
    let mut copy = Copy::default();
    let mut put = |n: u32| {
        // A tenth of the log.
        for i in 0..500 {
            let key = (n % 3 * 500 + i).to_be_bytes();
            tree.put_with(&key, &[n as u8; 800], BUFFERED).unwrap();
        }
        store.flush().unwrap();
        store.checkpoint().unwrap();
        for commit in ready(&mut quick) {
            copy.take(&commit);
        }
    };
    (0..8).for_each(&mut put);
    // Eight checkpoints have truncated all of it, and all of it is there.
    let first = slow.next_within(LONG).unwrap().unwrap();
    assert_eq!(first.csn(), 1);
    (8..40).for_each(&mut put);
    copy.compare(&store);
    // What it had read ahead it may still give.
    let error = loop {
        match slow.next_within(LONG) {
            Ok(commit) => assert!(commit.unwrap().csn() < 5000),
            Err(e) => break e,
        }
    };
    let Error::ChangesGone { after, oldest } = error else {
        panic!("{error}");
    };
    println!("overtaken behind {after}, the oldest is {oldest}");
    assert!(slow.is_over() && after == slow.csn() && oldest > 10_000 && oldest < copy.csn);
    assert_eq!(counted(&store, "overtaken"), 1);
    assert!(matches!(
        store.changes(after, &FeedOptions::default()),
        Err(Error::ChangesGone { oldest: o, .. }) if o == oldest
    ));
    // What is said to be the oldest is there, and nothing is missing behind it.
    let last = store.flush().unwrap();
    let rest = ready(&mut feed(&store, oldest - 1));
    assert_eq!(numbers(&rest), (oldest..=last).collect::<Vec<_>>());
    // So too for who opens the store anew.
    drop((slow, tree, quick));
    store.close().unwrap();
    let store = open(&disk);
    let gone = store.changes(1, &FeedOptions::default()).map(|_| ());
    let Err(Error::ChangesGone { oldest: again, .. }) = gone else {
        panic!("{gone:?}");
    };
    assert!(again <= oldest, "{again}, {oldest}");
    let rest = ready(&mut feed(&store, again - 1));
    assert_eq!(numbers(&rest), (again..=last).collect::<Vec<_>>());
}

/// The large value that the only commit of a feed put.
fn large(commit: &FeedCommit) -> gaur::Result<Vec<u8>> {
    let Some(FeedOp::PutLarge { value, .. }) = commit.iter().next() else {
        panic!("{commit:?}");
    };
    value.read()
}

#[test]
fn large_values_are_kept_for_a_feed_and_no_longer() {
    const VALUE: usize = 1 << 20;
    // As much is kept as the feed allows; then it is let go of.
    for (most, kept) in [(16 * MIB, true), (0, false)] {
        let disk = formatted(11, 32 * MIB);
        let store = open(&disk);
        let tree = store.tree("t").unwrap();
        let mut feed = store.changes(1, &FeedOptions::held_values(most)).unwrap();
        for n in 0..8u8 {
            tree.put(b"k", &vec![n; VALUE]).unwrap();
            store.checkpoint().unwrap();
        }
        // Now or then it comes to the blocks of the first ones, unless they are kept.
        for n in 0..if kept { 12 } else { 23u8 } {
            tree.put(&[n], &vec![n; VALUE]).unwrap();
            store.checkpoint().unwrap();
        }
        let pinned = || store.stats().get("space", "pinned").unwrap();
        assert_eq!(pinned() > 0, kept);
        let mut met = Vec::new();
        for n in 0..8u8 {
            let commit = feed.next_within(LONG).unwrap().unwrap();
            met.push(match large(&commit) {
                Ok(value) => {
                    assert_eq!(value, vec![n; VALUE]);
                    true
                }
                Err(Error::ValueGone { csn }) => {
                    assert_eq!(csn, commit.csn());
                    false
                }
                Err(e) => panic!("{e}"),
            });
        }
        println!("{most} bytes: {met:?}");
        assert!(met[7] && met.iter().all(|m| *m) == kept, "{met:?}");
        assert_eq!(counted(&store, "values_let_go"), u64::from(!kept));
        // What it is done with is given back.
        while feed.next_within(Default::default()).unwrap().is_some() {}
        store.checkpoint().unwrap();
        store.checkpoint().unwrap();
        assert_eq!(pinned(), 0);
    }
}

#[test]
fn no_writer_is_refused_for_a_feed() {
    let disk = formatted(12, 32 * MIB);
    let store = open(&disk);
    let tree = store.tree("t").unwrap();
    let mut feed = store
        .changes(1, &FeedOptions::held_values(u64::MAX))
        .unwrap();
    // Ten times what the store can hold.
    for n in 0..300u32 {
        tree.put(b"k", &vec![n as u8; 1 << 20]).unwrap();
    }
    assert_eq!(counted(&store, "values_let_go"), 1);
    let first = feed.next_within(LONG).unwrap().unwrap();
    assert!(matches!(large(&first), Err(Error::ValueGone { csn: 2 })));
    let last = feed.by_ref().map(Result::unwrap).take(299).last().unwrap();
    assert_eq!(large(&last).unwrap(), vec![299u32 as u8; 1 << 20]);
}
