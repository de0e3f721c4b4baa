//! Traces: a stream of operations in a file, a line for each (`docs/traces.md`).

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

use xxhash_rust::xxh3::xxh3_64;

use super::config::Config;
use super::keys::MAX_KEY;
use super::measure::Op;
use super::spread;
use crate::failure::Failure;
use crate::text;

/// How a trace begins, so that no other file is taken for one and written over.
const HEAD: &str = "# gaur trace";

/// So many bad lines are told; there may be very many.
const TOLD: usize = 10;

/// No line is longer: a key in hex and what stands around it is much shorter.
const LONGEST: u64 = 8 * MAX_KEY;

/// A trace in memory: the lines of each thread, and their keys.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    threads: Vec<Vec<Line>>,
    keys: Vec<u8>,
}

/// One operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Microseconds from the start.
    pub(crate) at: u64,
    /// Where its key begins.
    key: u64,
    /// Bytes of the value that is written, or records of the scan.
    pub(crate) length: u32,
    key_bytes: u16,
    pub(crate) op: Op,
}

impl Trace {
    /// Reads a trace for so many threads. All lines with the same key go to the
    /// same thread, so that their order is kept. Says all that is wrong, with line numbers.
    ///
    /// No more than `most` operations are taken.
    pub(crate) fn read(path: &Path, threads: usize, most: Option<u64>) -> Result<Self, Failure> {
        let file = File::open(path).map_err(|e| Failure::file("read", path, &e))?;
        let input = BufReader::with_capacity(1 << 20, file);
        let mut trace = Self::from_lines(input, threads, path)?;
        if let Some(most) = most {
            trace.truncate(most);
        }
        Ok(trace)
    }

    /// Leaves the first `most` operations.
    fn truncate(&mut self, most: u64) {
        // Keys lie in the order of the lines: the first key too many tells.
        let mut starts: Vec<u64> = self.threads.iter().flatten().map(|l| l.key).collect();
        let Ok(most) = usize::try_from(most) else {
            return;
        };
        if most >= starts.len() {
            return;
        }
        let (_, &mut first, _) = starts.select_nth_unstable(most);
        for lines in &mut self.threads {
            lines.truncate(lines.partition_point(|l| l.key < first));
        }
    }

    fn from_lines(mut input: impl BufRead, threads: usize, path: &Path) -> Result<Self, Failure> {
        let mut trace = Self {
            threads: vec![Vec::new(); threads.max(1)],
            keys: Vec::new(),
        };
        let (mut line, mut number, mut last) = (Vec::new(), 0_u64, 0);
        let mut wrong = Vec::new();
        while wrong.len() < TOLD {
            line.clear();
            let mut limited = (&mut input).take(LONGEST);
            let read = limited.read_until(b'\n', &mut line);
            if read.map_err(|e| Failure::file("read", path, &e))? == 0 {
                break;
            }
            number += 1;
            if line.len() as u64 == LONGEST && !line.ends_with(b"\n") {
                wrong.push(format!(
                    "{}:{number}: a line of more than {LONGEST} bytes",
                    path.display()
                ));
                break;
            }
            if let Err(what) = trace.add(&line, &mut last) {
                wrong.push(format!("{}:{number}: {what}", path.display()));
            }
        }
        match (wrong.is_empty(), trace.lines(0, u64::MAX)) {
            (false, _) => Err(Failure::several(wrong)),
            (true, 0) => Err(Failure::refused(format!(
                "{} holds no operation; docs/traces.md says what a line looks like",
                path.display()
            ))),
            _ => Ok(trace),
        }
    }

    fn add(&mut self, line: &[u8], last: &mut u64) -> Result<(), String> {
        let text = std::str::from_utf8(line).map_err(|_| "not text; write such a key as 0x…")?;
        let mut fields = text.split_whitespace();
        let Some(at) = fields.next().filter(|f| !f.starts_with('#')) else {
            return Ok(());
        };
        let at: u64 = at
            .parse()
            .map_err(|_| format!("{at:?} is no number of microseconds"))?;
        if at < *last {
            return Err(format!(
                "{at} is before {last}, the time of the line before; sort it"
            ));
        }
        let name = fields.next().ok_or("no operation")?;
        let op = Op::ALL
            .into_iter()
            .find(|op| op.name() == name && traceable(*op))
            .ok_or_else(|| {
                let known: Vec<_> = Op::ALL
                    .into_iter()
                    .filter(|op| traceable(*op))
                    .map(Op::name)
                    .collect();
                format!("unknown operation {name:?}; known: {}", known.join(", "))
            })?;
        let key: text::Bytes = fields.next().ok_or("no key")?.parse()?;
        if key.0.is_empty() || key.0.len() as u64 > MAX_KEY {
            return Err(format!(
                "a key of {} bytes; it may have 1 to {MAX_KEY}",
                key.0.len()
            ));
        }
        let length = match (what(op), fields.next()) {
            (Some((what, least, most)), Some(n)) => n
                .parse()
                .ok()
                .filter(|n| (least..=most).contains(n))
                .ok_or_else(|| format!("{n:?} is no {what}; it may be {least} to {most}"))?,
            (Some((what, ..)), None) => return Err(format!("{name} needs a {what} after the key")),
            (None, Some(more)) => return Err(format!("{more:?} after the key; {name} takes none")),
            (None, None) => 0,
        };
        if let Some(more) = fields.next() {
            return Err(format!(
                "{more:?} is too much; a key with spaces is written as 0x…"
            ));
        }
        *last = at;
        let thread = xxh3_64(&key.0) % self.threads.len() as u64;
        self.threads[thread as usize].push(Line {
            at,
            key: self.keys.len() as u64,
            length: u32::try_from(length).unwrap_or(u32::MAX),
            key_bytes: key.0.len() as u16,
            op,
        });
        self.keys.extend_from_slice(&key.0);
        Ok(())
    }

    /// The lines of one thread, in order.
    pub(crate) fn of_thread(&self, thread: usize) -> &[Line] {
        self.threads.get(thread).map_or(&[], Vec::as_slice)
    }

    /// How many lines there are from `from` microseconds on and before `to`.
    pub(crate) fn lines(&self, from: u64, to: u64) -> u64 {
        let within = |lines: &Vec<Line>| {
            let below = |t: u64| lines.partition_point(|l| l.at < t) as u64;
            below(to) - below(from)
        };
        self.threads.iter().map(within).sum()
    }

    /// The key of a line.
    #[inline]
    pub(crate) fn key(&self, line: &Line) -> &[u8] {
        let at = line.key as usize;
        &self.keys[at..at + usize::from(line.key_bytes)]
    }

    /// The operations that occur.
    pub(crate) fn ops(&self) -> Vec<Op> {
        let mut there = [false; Op::COUNT];
        for line in self.threads.iter().flatten() {
            there[line.op as usize] = true;
        }
        Op::ALL
            .into_iter()
            .filter(|op| there[*op as usize])
            .collect()
    }
}

/// Whether a trace may hold it.
fn traceable(op: Op) -> bool {
    !matches!(op, Op::Load | Op::ReadBack)
}

/// What stands after the key, and its bounds.
fn what(op: Op) -> Option<(&'static str, u64, u64)> {
    match op {
        Op::Update | Op::Insert | Op::Rmw => Some(("value length", 0, spread::MOST)),
        Op::Scan | Op::Reverse => Some(("scan length", 1, spread::MOST_SCANNED)),
        _ => None,
    }
}

/// Writes a trace while a run goes on.
///
/// One writer for all threads: its lock puts the lines in the order of their times.
/// That costs more than a fast operation; a run that records is not one to measure.
#[derive(Debug)]
pub(crate) struct Recorder {
    out: Mutex<Out>,
    /// When the first operation began.
    begin: OnceLock<Instant>,
}

#[derive(Debug)]
struct Out {
    file: BufWriter<File>,
    line: Vec<u8>,
}

impl Recorder {
    /// Begins a trace; times count from its first operation. A file that is there and no trace is
    /// left alone.
    pub(crate) fn create(path: &Path) -> Result<Self, Failure> {
        let failed = |e| Failure::file("write", path, &e);
        may_replace(path)?;
        let mut file = BufWriter::with_capacity(1 << 18, File::create(path).map_err(failed)?);
        writeln!(file, "{HEAD}: microseconds operation key [length]").map_err(failed)?;
        Ok(Self {
            out: Mutex::new(Out {
                file,
                line: Vec::new(),
            }),
            begin: OnceLock::new(),
        })
    }

    /// Adds an operation, a line for each of its keys with its length.
    pub(crate) fn add<'a>(
        &self,
        op: Op,
        keys: impl Iterator<Item = (&'a [u8], usize)>,
    ) -> Result<(), Failure> {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let at = self.begin.get_or_init(Instant::now).elapsed().as_micros();
        let Out { file, line } = &mut *out;
        for (key, length) in keys {
            line.clear();
            let _ = write!(line, "{at} {} {}", op.name(), key_text(key));
            if what(op).is_some() {
                let _ = write!(line, " {length}");
            }
            line.push(b'\n');
            file.write_all(line).map_err(|e| cannot_record(&e))?;
        }
        Ok(())
    }

    /// Writes what is still in memory.
    pub(crate) fn flush(&self) -> Result<(), Failure> {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        out.file.flush().map_err(|e| cannot_record(&e))
    }
}

fn cannot_record(e: &std::io::Error) -> Failure {
    Failure::refused(format!("cannot write the trace that run.record names: {e}"))
}

/// Whether this path may be written over: nothing is there, or a trace.
pub(crate) fn may_replace(path: &Path) -> Result<(), Failure> {
    let Ok(about) = std::fs::metadata(path) else {
        return Ok(());
    };
    let mut head = [0; HEAD.len()];
    let is_trace = about.is_file()
        && File::open(path)
            .and_then(|mut f| f.read_exact(&mut head))
            .is_ok()
        && head == *HEAD.as_bytes();
    match is_trace {
        true => Ok(()),
        false => Err(Failure::refused(format!(
            "{} is there and is no trace that gaur wrote; name another file in run.record",
            path.display()
        ))),
    }
}

/// A key as it stands in a line: text, if it has no spaces and reads back.
fn key_text(key: &[u8]) -> String {
    match text::plain(key).filter(|t| !t.is_empty() && !t.contains(char::is_whitespace)) {
        Some(plain) => plain.to_owned(),
        None => text::hex(key),
    }
}

/// What a configuration that replays or records must also fulfil.
pub(super) fn validate(c: &Config, unless: &mut impl FnMut(bool, &str, String)) {
    let run = &c.run;
    let speed = run.trace_speed;
    unless(
        speed.is_finite() && speed >= 0.0,
        "run.trace_speed",
        format!("run.trace_speed is {speed}; it must be 0 or more"),
    );
    if let Some(file) = &run.record {
        unless(
            Some(file) != run.trace.as_ref() && *file != c.store.path && !file.is_empty(),
            "run.record",
            "run.record must name a file of its own".into(),
        );
        unless(
            run.wanted(),
            "run.record",
            "run.record has nothing to write down; set run.seconds and run.mix".into(),
        );
    }
    if run.trace.is_none() {
        return;
    }
    let timed = "with run.trace operations begin when it says so; set run.trace_speed instead";
    unless(run.rate.is_none(), "run.rate", timed.into());
    unless(
        run.think.is_none() || speed == 0.0,
        "run.think",
        timed.into(),
    );
    unless(
        !run.warms_up(),
        "run.trace",
        "run.trace has no warm-up, which would do what it has to do; leave the warm-up out".into(),
    );
    unless(
        !c.verify.read_back,
        "verify.read_back",
        "verify.read_back does not know what run.trace writes and deletes; leave it out".into(),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8], threads: usize) -> Result<Trace, Failure> {
        Trace::from_lines(text, threads, Path::new("t.trace"))
    }

    #[test]
    fn every_kind_of_line_is_read() {
        let text = "# a comment\n\n0 read user1\n 5 update user1 100\r\n5 insert 0x00ff 0\n7\tscan Öl 10\n9 rmw k 5\n9 delete k";
        let t = read(text.as_bytes(), 1).unwrap();
        let all: Vec<_> = t
            .of_thread(0)
            .iter()
            .map(|l| (l.at, l.op, t.key(l).to_vec(), l.length))
            .collect();
        assert_eq!(
            all,
            [
                (0, Op::Read, b"user1".to_vec(), 0),
                (5, Op::Update, b"user1".to_vec(), 100),
                (5, Op::Insert, vec![0, 0xff], 0),
                (7, Op::Scan, "Öl".as_bytes().to_vec(), 10),
                (9, Op::Rmw, b"k".to_vec(), 5),
                (9, Op::Delete, b"k".to_vec(), 0),
            ]
        );
        assert_eq!((t.lines(0, 9), t.lines(5, 10), t.lines(10, 99)), (4, 5, 0));
        assert_eq!(t.ops().len(), 6);
    }

    #[test]
    fn bad_lines_are_told_with_their_numbers() {
        let long = format!("0 read {}", "k".repeat(1025));
        for (line, what) in [
            ("x read k", "no number of microseconds"),
            ("-1 read k", "no number of microseconds"),
            ("1", "no operation"),
            ("1 red k", "unknown operation \"red\"; known: read, update"),
            ("1 load k", "unknown operation"),
            ("1 read", "no key"),
            ("1 read 0xabc", "no hex"),
            ("1 read 0x", "a key of 0 bytes"),
            (&long, "a key of 1025 bytes"),
            ("1 update k", "update needs a value length"),
            ("1 update k -5", "no value length"),
            ("1 update k 99999999999", "no value length"),
            ("1 scan k 0", "it may be 1 to"),
            ("1 read k 5", "read takes none"),
            ("1 update a b 5", "no value length"),
            ("1 update k 5 5", "too much"),
        ] {
            let e = read(format!("0 read a\n{line}\n").as_bytes(), 2).unwrap_err();
            let told = e.lines().join("|");
            assert!(
                told.starts_with("t.trace:2: ") && told.contains(what),
                "{line}: {told}"
            );
        }
        let e = read(b"5 read a\n4 read a\n", 1).unwrap_err();
        assert!(e.to_string().contains(":2: 4 is before 5"), "{e}");
        assert!(
            read(b"# nothing\n", 1)
                .unwrap_err()
                .to_string()
                .contains("no operation")
        );
        assert!(read(&[0xff; 100_000], 1).is_err());
        // Not each of a million is told.
        assert_eq!(
            read(&b"x\n".repeat(1000), 1).unwrap_err().lines().len(),
            TOLD
        );
    }

    #[test]
    fn lines_of_a_key_stay_with_one_thread_in_order() {
        let text: String = (0..3000)
            .map(|i| format!("{i} update k{} {i}\n", i % 50))
            .collect();
        let t = read(text.as_bytes(), 4).unwrap();
        let mut owner = std::collections::HashMap::new();
        for thread in 0..4 {
            let lines = t.of_thread(thread);
            assert!(lines.windows(2).all(|w| w[0].at < w[1].at));
            assert!(lines.len() > 100, "thread {thread} has {}", lines.len());
            for l in lines {
                assert_eq!(*owner.entry(t.key(l).to_vec()).or_insert(thread), thread);
            }
        }
        assert_eq!(t.lines(0, u64::MAX), 3000);
        let mut first = t;
        first.truncate(5000);
        assert_eq!(first.lines(0, u64::MAX), 3000);
        first.truncate(1234);
        assert_eq!(
            (first.lines(0, 1234), first.lines(0, u64::MAX)),
            (1234, 1234)
        );
    }

    #[test]
    fn what_is_recorded_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.trace");
        let recorder = Recorder::create(&path).unwrap();
        let keys: [&[u8]; 4] = [b"plain", b"two words", &[0, 1, 0xff], b"0x12"];
        for (i, key) in keys.into_iter().enumerate() {
            recorder.add(Op::Update, [(key, i)].into_iter()).unwrap();
            recorder.add(Op::Read, [(key, 0)].into_iter()).unwrap();
        }
        recorder
            .add(Op::Delete, keys[..2].iter().map(|k| (*k, 0)))
            .unwrap();
        recorder.flush().unwrap();
        let t = Trace::read(&path, 1, None).unwrap();
        let lines = t.of_thread(0);
        assert_eq!(lines.len(), 10);
        for (i, key) in keys.into_iter().enumerate() {
            assert_eq!(t.key(&lines[2 * i]), key);
            assert_eq!(
                (lines[2 * i].op, lines[2 * i].length),
                (Op::Update, i as u32)
            );
        }
        // Again over itself, and over nothing else.
        assert!(Recorder::create(&path).is_ok());
        let other = dir.path().join("precious");
        std::fs::write(&other, "precious data, not a trace").unwrap();
        assert!(
            Recorder::create(&other)
                .unwrap_err()
                .to_string()
                .contains("no trace")
        );
        assert_eq!(
            std::fs::read(&other).unwrap(),
            b"precious data, not a trace"
        );
        assert!(Recorder::create(dir.path()).is_err());
    }
}
