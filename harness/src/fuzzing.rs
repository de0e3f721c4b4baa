//! For fuzzing: the texts that the tool reads. There only in tests and in builds with
//! `--cfg fuzzing`; see `docs/testing.md`.

use std::io::Cursor;

use crate::dump::{Event, Reader};
use crate::run::file::{read as read_config, read_properties};

/// A run's description, as TOML or, if it begins with `#!`, as YCSB properties. Whether
/// it is one; what it says can then be written and read back.
///
/// # Panics
/// If it cannot.
pub fn config(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else {
        return false;
    };
    // As with `--device`.
    let path = ["store.path='p'".to_owned()];
    if let Some(text) = text.strip_prefix("#!") {
        return read_properties(text, &path, "fuzz").is_ok();
    }
    let Ok(config) = read_config(text, &path, "fuzz") else {
        return false;
    };
    let written = toml::to_string_pretty(&config).expect("a configuration can be written");
    let again = read_config(&written, &[], "written").expect("and read");
    assert_eq!(again, config, "{written}");
    true
}

/// A dump. Whether it is whole.
pub fn dump(data: &[u8]) -> bool {
    let Ok(mut reader) = Reader::begin(Cursor::new(data), "fuzz") else {
        return false;
    };
    let mut records = 0;
    loop {
        match reader.next() {
            Ok(Some(Event::Record(key, _))) => {
                assert!(key.len() <= gaur::MAX_KEY);
                records += 1;
            }
            Ok(Some(Event::Tree(_) | Event::LeftOut)) => {}
            Ok(None) => break,
            Err(_) => return false,
        }
    }
    assert_eq!(reader.totals().records, records);
    true
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// Runs the inputs kept for a target; seeds must be accepted.
    fn run(name: &str, target: fn(&[u8]) -> bool) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../fuzz/corpus")
            .join(name);
        let mut seeds = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            println!("{}", path.display());
            let accepted = target(&std::fs::read(&path).unwrap());
            let file = path.file_name().unwrap().to_string_lossy().into_owned();
            if file.starts_with("seed") {
                seeds += 1;
                assert!(accepted, "{file}");
            }
        }
        assert!(seeds > 0);
    }

    #[test]
    fn every_configuration_kept_is_refused_or_reads_back() {
        run("config", super::config);
    }

    #[test]
    fn every_dump_kept_is_refused_or_whole() {
        run("dump", super::dump);
    }
}
