//! Reading a dump, and refusing what is none, or not whole.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{BufRead, Read};

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use xxhash_rust::xxh3::Xxh3;

use super::{Totals, VERSION};
use crate::failure::Failure;
use crate::text::Bytes;

/// The longest first line; another file may have no line ends at all.
const MAX_HEADER: u64 = 4096;
/// The longest line: the largest value in hex, with the largest key.
const MAX_LINE: u64 = 2 * gaur::MAX_VALUE + (64 << 10);

/// The longest name of a tree.
const MAX_NAME: usize = 255;

/// What a dump holds, in its order.
#[derive(Debug)]
pub(crate) enum Event {
    /// The records of this tree follow.
    Tree(String),
    /// Key and value.
    Record(Vec<u8>, Vec<u8>),
    /// Something could not be read when the dump was made.
    LeftOut,
}

/// Any line but the first; which fields are there tells what it is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    tree: Option<String>,
    key: Option<String>,
    value: Option<String>,
    left_out: Option<Lacks>,
    end: Option<bool>,
    trees: Option<u64>,
    records: Option<u64>,
    xxh3: Option<String>,
}

/// What `left_out` says: in the last line how many, else what. That is for people
/// and not kept, however much it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lacks {
    Count(u64),
    Part,
}

impl<'de> Deserialize<'de> for Lacks {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Seen;
        impl<'de> Visitor<'de> for Seen {
            type Value = Lacks;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, or what was left out")
            }

            fn visit_u64<E>(self, n: u64) -> Result<Lacks, E> {
                Ok(Lacks::Count(n))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Lacks, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Lacks::Part)
            }
        }
        from.deserialize_any(Seen)
    }
}

/// A dump being read.
pub(crate) struct Reader<R> {
    input: R,
    name: String,
    sum: Xxh3,
    line: Vec<u8>,
    number: u64,
    bytes: u64,
    totals: Totals,
    names: BTreeSet<String>,
    last_key: Option<Vec<u8>>,
    ended: bool,
}

impl<R: BufRead> Reader<R> {
    /// Reads the first line. `name` is for messages.
    pub(crate) fn begin(input: R, name: &str) -> Result<Self, Failure> {
        let mut r = Self {
            input,
            name: name.to_owned(),
            sum: Xxh3::new(),
            line: Vec::new(),
            number: 0,
            bytes: 0,
            totals: Totals::default(),
            names: BTreeSet::new(),
            last_key: None,
            ended: false,
        };
        r.read_line(MAX_HEADER)?;
        // Unknown fields are a newer version's, which says so first.
        let header: Option<serde_json::Value> = serde_json::from_slice(&r.line).ok();
        match header.as_ref().and_then(|h| h["gaur_dump"].as_u64()) {
            Some(v) if v == u64::from(VERSION) => Ok(r),
            Some(v) => Err(Failure::refused(format!(
                "{name}: a dump of version {v}; this gaur reads version {VERSION}"
            ))),
            None => Err(Failure::refused(format!(
                "{name}: no dump of a gaur store (its first line is not that of one); gaur dump makes one"
            ))),
        }
    }

    /// What was read so far; all there is, after the end.
    pub(crate) fn totals(&self) -> Totals {
        self.totals
    }

    /// Bytes read so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The next event; none at the end of a whole dump.
    pub(crate) fn next(&mut self) -> Result<Option<Event>, Failure> {
        if self.ended {
            return Ok(None);
        }
        let before = self.sum.digest();
        if !self.read_line(MAX_LINE)? {
            return Err(self.bad("it is cut off: its last line is missing"));
        }
        let line: Line =
            serde_json::from_slice(&self.line).map_err(|e| self.bad(&e.to_string()))?;
        // A buffer for a large value is kept neither beside the value nor for the
        // many small ones.
        self.line.clear();
        self.line.shrink_to(64 << 10);
        let event = match line {
            Line {
                key: Some(key),
                value: Some(value),
                tree: None,
                left_out: None,
                end: None,
                trees: None,
                records: None,
                xxh3: None,
            } => self.record(&key, &value)?,
            Line {
                tree: Some(name),
                key: None,
                value: None,
                left_out: None,
                end: None,
                trees: None,
                records: None,
                xxh3: None,
            } => {
                if name.is_empty() || name.len() > MAX_NAME {
                    return Err(self.bad("a tree's name has 1 to 255 bytes"));
                }
                if !self.names.insert(name.clone()) {
                    return Err(self.bad("the tree comes a second time"));
                }
                self.totals.trees += 1;
                self.last_key = None;
                Event::Tree(name)
            }
            Line {
                end: Some(true),
                trees: Some(trees),
                records: Some(records),
                left_out: Some(Lacks::Count(left_out)),
                xxh3: Some(xxh3),
                tree: None,
                key: None,
                value: None,
            } => {
                let says = Totals {
                    trees,
                    records,
                    left_out,
                };
                self.end(says, &xxh3, before)?;
                return Ok(None);
            }
            Line {
                left_out: Some(Lacks::Part),
                end: None,
                tree: None,
                key: None,
                value: None,
                trees: None,
                records: None,
                xxh3: None,
            } => {
                self.totals.left_out += 1;
                Event::LeftOut
            }
            _ => return Err(self.bad("is no line of a dump")),
        };
        Ok(Some(event))
    }

    fn record(&mut self, key: &str, value: &str) -> Result<Event, Failure> {
        if self.names.is_empty() {
            return Err(self.bad("a record before any tree"));
        }
        let bytes = |text: &str| text.parse::<Bytes>().map(|b| b.0);
        let key = bytes(key).map_err(|e| self.bad(&e))?;
        let value = bytes(value).map_err(|e| self.bad(&e))?;
        if key.len() > gaur::MAX_KEY || value.len() as u64 > gaur::MAX_VALUE {
            return Err(self.bad("a key or value longer than any store takes"));
        }
        if self.last_key.as_ref().is_some_and(|last| *last >= key) {
            return Err(self.bad("keys do not ascend"));
        }
        self.last_key = Some(key.clone());
        self.totals.records += 1;
        Ok(Event::Record(key, value))
    }

    fn end(&mut self, says: Totals, xxh3: &str, sum: u64) -> Result<(), Failure> {
        if says != self.totals {
            return Err(self.bad("its counts differ from what is there"));
        }
        if xxh3 != format!("{sum:016x}") {
            return Err(self.bad("its checksum differs: something before was changed"));
        }
        if self.read_line(MAX_LINE)? {
            return Err(self.bad("it goes on behind its end"));
        }
        self.ended = true;
        Ok(())
    }

    /// Reads a line; whether there was one. A line that is cut off is none.
    fn read_line(&mut self, most: u64) -> Result<bool, Failure> {
        self.line.clear();
        let n = (&mut self.input)
            .take(most)
            .read_until(b'\n', &mut self.line)
            .map_err(|e| Failure::refused(format!("cannot read {}: {e}", self.name)))?;
        self.number += u64::from(n > 0);
        self.bytes += n as u64;
        self.sum.update(&self.line);
        if n > 0 && self.line.last() != Some(&b'\n') && self.number > 1 {
            let why = if n as u64 == most {
                "a line longer than any record"
            } else {
                "it is cut off in this line"
            };
            return Err(self.bad(why));
        }
        Ok(n > 0)
    }

    fn bad(&self, why: &str) -> Failure {
        Failure::found(format!(
            "{}, line {}: {why}; the dump is damaged or not whole",
            self.name, self.number
        ))
    }
}
