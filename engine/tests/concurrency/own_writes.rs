//! Each thread against a model of what it wrote itself.

use super::*;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn own_key(r: &mut Rng, thread: u64) -> Vec<u8> {
    format!("{:04}-{thread}", r.random_range(0..1200)).into_bytes()
}

fn own_value(r: &mut Rng) -> Vec<u8> {
    let len = match r.random_range(0..60) {
        0 => r.random_range(2000..12_000),
        1..8 => r.random_range(300..1200),
        _ => r.random_range(0..120),
    };
    vec![r.random(); len]
}

fn own_steps(store: &Store, tree: &Tree, thread: u64, seed: u64, end: Instant, model: &mut Model) {
    let mut r = rng::seeded(seed ^ thread.wrapping_mul(7919));
    let suffix = format!("-{thread}").into_bytes();
    while Instant::now() < end {
        match r.random_range(0..100) {
            0..45 => {
                let (k, v) = (own_key(&mut r, thread), own_value(&mut r));
                tree.put_with(&k, &v, BUFFERED).unwrap();
                model.insert(k, v);
            }
            45..65 => {
                let k = own_key(&mut r, thread);
                tree.delete_with(&k, BUFFERED).unwrap();
                model.remove(&k);
            }
            65..75 => {
                let mut batch = WriteBatch::new();
                for _ in 0..r.random_range(1..20) {
                    let k = own_key(&mut r, thread);
                    if r.random_bool(0.6) {
                        let v = own_value(&mut r);
                        batch.put(tree, &k, &v);
                        model.insert(k, v);
                    } else {
                        batch.delete(tree, &k);
                        model.remove(&k);
                    }
                }
                store.commit(batch, BUFFERED).unwrap();
            }
            75..96 => {
                let k = own_key(&mut r, thread);
                assert_eq!(tree.get(&k).unwrap().as_ref(), model.get(&k));
            }
            _ => {
                let (a, b) = (own_key(&mut r, thread), own_key(&mut r, thread));
                let (a, b) = if a < b { (a, b) } else { (b, a) };
                let reverse = r.random_bool(0.5);
                let scan = tree.range(a.clone()..b.clone()).unwrap();
                let all = if reverse { scan.rev() } else { scan };
                let got: Result<Records, Error> = all
                    .filter(|x| x.as_ref().map_or(true, |(k, _)| k.ends_with(&suffix)))
                    .collect();
                let mut got = match got {
                    Err(Error::ViewTooOld { .. }) => continue,
                    got => got.unwrap(),
                };
                if reverse {
                    got.reverse();
                }
                assert!(
                    got.iter().map(|(k, v)| (k, v)).eq(model.range(a..b)),
                    "thread {thread}: a scan of its own keys differs (reverse: {reverse})"
                );
            }
        }
    }
}

fn model_per_thread(open: impl Fn() -> Store + Send + 'static, seed: u64) {
    within(120, move || {
        let models: Vec<Mutex<Model>> = (0..5).map(|_| Mutex::default()).collect();
        for round in 0..3u64 {
            let store = open();
            let tree = store.tree("shared").unwrap();
            same(&tree, &models, "after opening");
            let end = Instant::now() + seconds();
            std::thread::scope(|s| {
                for (t, model) in models.iter().enumerate() {
                    let (store, tree) = (&store, &tree);
                    s.spawn(move || {
                        let mut model = model.lock().unwrap();
                        own_steps(store, tree, t as u64, seed ^ round, end, &mut model);
                    });
                }
            });
            same(&tree, &models, "at the end of a round");
            check_account(&store);
            drop(tree);
            if round % 2 == 0 {
                store.close().unwrap();
            }
        }
    });
}

fn same(tree: &Tree, models: &[Mutex<Model>], when: &str) {
    let mut union = Model::new();
    for m in models {
        union.extend(m.lock().unwrap().clone());
    }
    for reverse in [false, true] {
        let all = walk(tree, reverse).unwrap();
        assert!(
            all.iter().map(|(k, v)| (k, v)).eq(union.iter()),
            "{when}, reverse {reverse}: {} records, {} expected",
            all.len(),
            union.len()
        );
    }
}

/// Breaks if two writers change a leaf at once, if a node is lost between cache
/// and device, or if a generation is more or less than the commits up to its cut.
#[test]
fn each_thread_finds_its_own_writes() {
    let seed = seed();
    for latency in [0, 60] {
        let disk = disk(seed, 192, Duration::from_micros(latency));
        model_per_thread(move || open(disk.device(), 1 << 20, 7), seed);
    }
}

#[test]
fn each_thread_finds_its_own_writes_on_a_file() {
    let seed = seed();
    for driver in [DriverChoice::Auto, DriverChoice::Psync] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("own.store");
        let format = FormatOptions {
            create_size: Some(192 << 20),
            driver,
            ..FormatOptions::default()
        };
        Store::format(&path, &format).unwrap();
        model_per_thread(
            move || {
                let o = OpenOptions {
                    driver,
                    ..options(1 << 20, 15)
                };
                Store::open(&path, &o).unwrap()
            },
            seed,
        );
    }
}
