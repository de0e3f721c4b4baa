//! The form in which `gaur dump` writes a store's records and `gaur load` reads
//! them: a JSON object a line, in this order.
//!
//! ```text
//! {"gaur_dump":1,"store":"8f…","csn":4711}              the version of this form, and whose records
//! {"tree":"users"}                                      a tree begins; its records follow
//! {"key":"ada","value":"London"}                        by ascending keys
//! {"key":"0x00ff","value":"0xc0ffee"}
//! {"left_out":{"from":"b","to":"c","why":"damage in…"}} what could not be read there
//! {"end":true,"trees":1,"records":2,"left_out":1,"xxh3":"0123456789abcdef"}
//! ```
//!
//! Keys and values are as everywhere on the command line: text if it is printable,
//! else `0x…` hex. The last line counts, and carries the XXH3 (64 bits) of all bytes
//! before it, so a dump that was cut off or changed is found. Trees have distinct
//! names and may be empty. A `left_out` outside of a tree is of the whole store;
//! without `to` it reaches to the end of its tree.
//!
//! Reading and writing take memory for one record at a time.

mod read;
mod write;

pub(crate) use read::{Event, Reader};
pub(crate) use write::Writer;

/// The version of the form.
const VERSION: u32 = 1;

/// What a whole dump says at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) trees: u64,
    pub(crate) records: u64,
    pub(crate) left_out: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn sample() -> Vec<u8> {
        let mut out = Vec::new();
        let mut w = Writer::begin(&mut out, 7, 4711).unwrap();
        w.tree("a \"quoted\" name").unwrap();
        w.record(b"", b"empty key").unwrap();
        w.record(&[0, 0xFF], &vec![0xC0; 100_000]).unwrap();
        w.record(b"0xtext", "bull\n🐂".as_bytes()).unwrap();
        w.left_out(b"x", Some(b"y"), "damage").unwrap();
        w.tree("empty").unwrap();
        w.end().unwrap();
        out
    }

    fn read(bytes: &[u8]) -> Result<(Vec<Event>, Totals), crate::failure::Failure> {
        let mut r = Reader::begin(Cursor::new(bytes), "d")?;
        let mut events = Vec::new();
        while let Some(e) = r.next()? {
            events.push(e);
        }
        Ok((events, r.totals()))
    }

    #[test]
    fn what_is_written_reads_back() {
        let (events, totals) = read(&sample()).unwrap();
        let expected = Totals {
            trees: 2,
            records: 3,
            left_out: 1,
        };
        assert_eq!(totals, expected);
        assert_eq!(events.len(), 6);
        assert!(matches!(&events[0], Event::Tree(n) if n == "a \"quoted\" name"));
        assert!(matches!(&events[1], Event::Record(k, v) if k.is_empty() && v == b"empty key"));
        assert!(matches!(&events[2], Event::Record(k, v) if k == &[0, 0xFF] && v.len() == 100_000));
        assert!(
            matches!(&events[3], Event::Record(k, v) if k == b"0xtext" && v == "bull\n🐂".as_bytes())
        );
        assert!(matches!(&events[5], Event::Tree(n) if n == "empty"));
    }

    #[test]
    fn whatever_is_cut_off_or_changed_is_refused() {
        let whole = sample();
        for cut in (0..whole.len() - 1)
            .step_by(911)
            .chain(whole.len() - 200..whole.len() - 1)
        {
            assert!(read(&whole[..cut]).is_err(), "cut at {cut}");
        }
        for at in (0..whole.len() - 1)
            .step_by(907)
            .chain(whole.len() - 200..whole.len() - 1)
        {
            let mut bad = whole.clone();
            bad[at] ^= 1;
            assert!(read(&bad).is_err(), "changed at {at}");
        }
        let mut more = whole.clone();
        more.extend_from_slice(b"{\"tree\":\"z\"}\n");
        assert!(read(&more).is_err(), "goes on behind its end");
    }

    #[test]
    fn what_no_store_takes_is_refused_as_it_is_read() {
        let dump = |tree: &str, key: &[u8]| {
            let mut out = Vec::new();
            let mut w = Writer::begin(&mut out, 7, 1).unwrap();
            w.tree(tree).unwrap();
            w.record(key, b"value").unwrap();
            w.end().unwrap();
            read(&out)
        };
        assert!(dump("t", &[b'k'; gaur::MAX_KEY]).is_ok());
        for (tree, key) in [("t", gaur::MAX_KEY + 1), ("", 1), (&"t".repeat(256), 1)] {
            assert!(dump(tree, &vec![b'k'; key]).is_err(), "{tree:?} {key}");
        }
    }

    #[test]
    fn other_files_and_newer_dumps_are_named_so() {
        let refused = |text: &str| read(text.as_bytes()).unwrap_err();
        for text in ["", "hello\n", "{}\n", "{\"key\":\"a\"}\n", "\0\0\0"] {
            let f = refused(text);
            assert_eq!(f.code, crate::failure::REFUSED, "{text:?}");
            assert!(f.to_string().contains("no dump"), "{f}");
        }
        for line in ["3", "{", "[]", "\"x\"", "{\"from\":}", "null"] {
            let text = format!("{{\"gaur_dump\":1}}\n{{\"left_out\":{line}}}\n");
            let f = refused(&text);
            assert!(f.to_string().contains("line 2"), "{f}");
        }
        let f = refused("{\"gaur_dump\":2,\"store\":\"0\",\"csn\":1,\"new\":1}\n");
        assert!(f.to_string().contains("version 2"), "{f}");
    }
}
