//! Writing a dump.

use std::io::{self, Write};

use serde_json::json;
use xxhash_rust::xxh3::Xxh3;

use super::{Totals, VERSION};
use crate::text;

/// A dump being written.
pub(crate) struct Writer<W> {
    out: Summed<W>,
    totals: Totals,
}

/// Passes bytes on and sums them up.
struct Summed<W> {
    inner: W,
    sum: Xxh3,
    bytes: u64,
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.sum.update(&bytes[..n]);
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<W: Write> Writer<W> {
    /// Begins a dump of this store as it is after commit `csn`. `inner` should be
    /// buffered.
    pub(crate) fn begin(inner: W, store: u128, csn: u64) -> io::Result<Self> {
        let mut out = Summed {
            inner,
            sum: Xxh3::new(),
            bytes: 0,
        };
        writeln!(
            out,
            "{{\"gaur_dump\":{VERSION},\"store\":\"{store:032x}\",\"csn\":{csn}}}"
        )?;
        Ok(Self {
            out,
            totals: Totals::default(),
        })
    }

    /// The records of a tree follow.
    pub(crate) fn tree(&mut self, name: &str) -> io::Result<()> {
        self.totals.trees += 1;
        writeln!(self.out, "{}", json!({ "tree": name }))
    }

    /// A record of that tree; by ascending keys.
    pub(crate) fn record(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.totals.records += 1;
        self.out.write_all(b"{\"key\":")?;
        string(&mut self.out, key)?;
        self.out.write_all(b",\"value\":")?;
        string(&mut self.out, value)?;
        self.out.write_all(b"}\n")
    }

    /// Something could not be read.
    pub(crate) fn left_out(&mut self, from: &[u8], to: Option<&[u8]>, why: &str) -> io::Result<()> {
        self.totals.left_out += 1;
        let line = json!({ "left_out": {
            "from": text::show(from),
            "to": to.map(text::show),
            "why": why,
        }});
        writeln!(self.out, "{line}")
    }

    /// Ends the dump; what it holds, and its bytes.
    pub(crate) fn end(mut self) -> io::Result<(Totals, u64)> {
        let Totals {
            trees,
            records,
            left_out,
        } = self.totals;
        let sum = self.out.sum.digest();
        writeln!(
            self.out,
            "{{\"end\":true,\"trees\":{trees},\"records\":{records},\"left_out\":{left_out},\"xxh3\":\"{sum:016x}\"}}"
        )?;
        self.out.flush()?;
        Ok((self.totals, self.out.bytes))
    }
}

/// A JSON string of these bytes; a large value is never doubled in memory.
fn string(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    if let Some(text) = text::plain(bytes) {
        return serde_json::to_writer(out, text).map_err(io::Error::from);
    }
    out.write_all(b"\"0x")?;
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut hex = [0; 4096];
    for part in bytes.chunks(hex.len() / 2) {
        for (pair, b) in hex.chunks_exact_mut(2).zip(part) {
            pair[0] = DIGITS[usize::from(b >> 4)];
            pair[1] = DIGITS[usize::from(b & 15)];
        }
        out.write_all(&hex[..part.len() * 2])?;
    }
    out.write_all(b"\"")
}
