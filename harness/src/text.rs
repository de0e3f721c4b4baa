//! Keys and values on the command line: UTF-8 text, or bytes as `0x…` hex.

use std::str::FromStr;

/// Bytes given as an argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(hex) = text.strip_prefix("0x") else {
            return Ok(Self(text.as_bytes().to_vec()));
        };
        let wrong = || format!("{text:?} is no hex: after 0x an even number of the digits 0-9a-f");
        if !hex.len().is_multiple_of(2) || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        (0..hex.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&hex[i..i + 2], 16).map_err(|_| wrong()))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

/// The text that stands for these bytes: itself if it is printable and reads
/// back as the same bytes, else `0x…`.
pub(crate) fn show(bytes: &[u8]) -> String {
    plain(bytes).map_or_else(|| hex(bytes), str::to_owned)
}

/// These bytes as text, if that is printable and reads back as the same bytes.
pub(crate) fn plain(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    (!text.starts_with("0x") && !text.chars().any(char::is_control)).then_some(text)
}

/// A word as a shell takes it.
pub(crate) fn word(text: &str) -> String {
    let harmless = |c: char| c.is_alphanumeric() || "_-./:=@%+,".contains(c);
    match !text.is_empty() && text.chars().all(harmless) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// `0x…`.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(2 + bytes.len() * 2);
    out.push_str("0x");
    for b in bytes {
        let _ = write!(out, "{b:02x}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_shown_reads_back() {
        let cases: [&[u8]; 7] = [
            b"",
            b"plain",
            b"0xab",
            b"a\nb",
            &[0xff, 0],
            "Kuh".as_bytes(),
            b"\x00",
        ];
        for bytes in cases {
            assert_eq!(show(bytes).parse::<Bytes>().unwrap().0, bytes);
        }
    }

    #[test]
    fn words_are_quoted_where_a_shell_needs_it() {
        for (text, expected) in [
            ("/dev/sda", "/dev/sda"),
            ("", "''"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
        ] {
            assert_eq!(word(text), expected);
        }
    }

    #[test]
    fn bad_hex_is_refused() {
        for text in ["0xa", "0xzz", "0x0é", "0x+1"] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
        assert_eq!("0xDEad".parse::<Bytes>().unwrap().0, [0xde, 0xad]);
    }
}
