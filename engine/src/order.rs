//! Keys of several parts, as bytes that sort as the parts do.

/// A type whose values have an encoding that sorts bytewise as they do, and that tells
/// where it ends, so that encodings may follow one another: a tuple sorts by its first
/// part, then by its second.
///
/// | type | encoding |
/// |---|---|
/// | `u8` … `u128` | big-endian |
/// | `i8` … `i128` | big-endian, the sign bit turned over |
/// | `f32`, `f64` | IEEE 754's total order: the sign bit turned over, or all bits if it is set |
/// | `bool` | 0, 1 |
/// | `String`, `Vec<u8>` | the bytes, 0 as 0 1; at the end 0 0 |
/// | `[u8; N]` | the bytes |
/// | `Option` | 0; or 1 and the value |
/// | tuples to four parts | one after another |
///
/// ```
/// use gaur::OrderedKey;
/// let key = ("rome".to_owned(), -753i32);
/// let bytes = key.to_bytes();
/// assert!(bytes < ("rome".to_owned(), 1960i32).to_bytes());
/// assert!(bytes > ("romA".to_owned(), i32::MAX).to_bytes());
/// assert_eq!(OrderedKey::from_bytes(&bytes), Some(key));
/// ```
pub trait OrderedKey: Sized {
    /// Appends the encoding.
    fn encode(&self, out: &mut Vec<u8>);

    /// Takes an encoding from the front; `None`: there is none.
    fn decode(bytes: &mut &[u8]) -> Option<Self>;

    /// The encoding.
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }

    /// What `bytes` encode, if it is just one value.
    fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let value = Self::decode(&mut bytes)?;
        bytes.is_empty().then_some(value)
    }
}

/// Takes `N` bytes from the front.
fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (front, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*front)
}

macro_rules! unsigned {
    ($($t:ty),*) => {$(
        impl OrderedKey for $t {
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }

            fn decode(bytes: &mut &[u8]) -> Option<Self> {
                take(bytes).map(Self::from_be_bytes)
            }
        }
    )*};
}

macro_rules! signed {
    ($($t:ty => $u:ty),*) => {$(
        impl OrderedKey for $t {
            fn encode(&self, out: &mut Vec<u8>) {
                (self.cast_unsigned() ^ (1 << (<$u>::BITS - 1))).encode(out);
            }

            fn decode(bytes: &mut &[u8]) -> Option<Self> {
                let turned = <$u>::decode(bytes)?;
                Some((turned ^ (1 << (<$u>::BITS - 1))).cast_signed())
            }
        }
    )*};
}

macro_rules! floats {
    ($($t:ty => $u:ty),*) => {$(
        impl OrderedKey for $t {
            fn encode(&self, out: &mut Vec<u8>) {
                const SIGN: $u = 1 << (<$u>::BITS - 1);
                let bits = self.to_bits();
                let turned = if bits & SIGN == 0 { bits | SIGN } else { !bits };
                turned.encode(out);
            }

            fn decode(bytes: &mut &[u8]) -> Option<Self> {
                const SIGN: $u = 1 << (<$u>::BITS - 1);
                let turned = <$u>::decode(bytes)?;
                let bits = if turned & SIGN == 0 { !turned } else { turned ^ SIGN };
                Some(Self::from_bits(bits))
            }
        }
    )*};
}

macro_rules! tuples {
    ($(($($t:ident $i:tt),*)),*) => {$(
        impl<$($t: OrderedKey),*> OrderedKey for ($($t,)*) {
            fn encode(&self, out: &mut Vec<u8>) {
                $(self.$i.encode(out);)*
            }

            fn decode(bytes: &mut &[u8]) -> Option<Self> {
                Some(($($t::decode(bytes)?,)*))
            }
        }
    )*};
}

unsigned!(u8, u16, u32, u64, u128);
signed!(i8 => u8, i16 => u16, i32 => u32, i64 => u64, i128 => u128);
floats!(f32 => u32, f64 => u64);
tuples!((A 0), (A 0, B 1), (A 0, B 1, C 2), (A 0, B 1, C 2, D 3));

impl OrderedKey for bool {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn decode(bytes: &mut &[u8]) -> Option<Self> {
        match take(bytes)? {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }
}

impl<const N: usize> OrderedKey for [u8; N] {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }

    fn decode(bytes: &mut &[u8]) -> Option<Self> {
        take(bytes)
    }
}

impl OrderedKey for Vec<u8> {
    fn encode(&self, out: &mut Vec<u8>) {
        for &byte in self {
            out.push(byte);
            if byte == 0 {
                out.push(1);
            }
        }
        out.extend_from_slice(&[0, 0]);
    }

    fn decode(bytes: &mut &[u8]) -> Option<Self> {
        let mut out = Vec::new();
        loop {
            match take(bytes)? {
                [0] => match take(bytes)? {
                    [0] => return Some(out),
                    [1] => out.push(0),
                    _ => return None,
                },
                [byte] => out.push(byte),
            }
        }
    }
}

impl OrderedKey for String {
    fn encode(&self, out: &mut Vec<u8>) {
        self.as_bytes().to_vec().encode(out);
    }

    fn decode(bytes: &mut &[u8]) -> Option<Self> {
        Self::from_utf8(Vec::decode(bytes)?).ok()
    }
}

impl<T: OrderedKey> OrderedKey for Option<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.is_some()));
        if let Some(value) = self {
            value.encode(out);
        }
    }

    fn decode(bytes: &mut &[u8]) -> Option<Self> {
        match take(bytes)? {
            [0] => Some(None),
            [1] => T::decode(bytes).map(Some),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values in order: so are their encodings, none of which begins another, and each
    /// gives its value back.
    fn ordered<T: OrderedKey + PartialEq + std::fmt::Debug>(values: &[T]) {
        let all: Vec<Vec<u8>> = values.iter().map(OrderedKey::to_bytes).collect();
        for (i, bytes) in all.iter().enumerate() {
            assert_eq!(T::from_bytes(bytes).as_ref(), Some(&values[i]));
            assert_eq!(T::from_bytes(&bytes[..bytes.len() - 1]), None);
            assert_eq!(T::from_bytes(&[bytes.as_slice(), &[7]].concat()), None);
            for (j, other) in all.iter().enumerate() {
                assert_eq!(
                    i.cmp(&j),
                    bytes.cmp(other),
                    "{:?} {:?}",
                    values[i],
                    values[j]
                );
                assert!(i == j || !other.starts_with(bytes));
            }
        }
    }

    #[test]
    fn encodings_sort_as_their_values() {
        ordered(&[0u8, 1, 127, 128, 255]);
        ordered(&[0u64, 1, 255, 256, u64::MAX]);
        ordered(&[i32::MIN, -256, -255, -1, 0, 1, 255, 256, i32::MAX]);
        ordered(&[i128::MIN, -1, 0, i128::MAX]);
        ordered(&[
            f64::NEG_INFINITY,
            -1e9,
            -1.5,
            -0.0,
            0.0,
            f64::MIN_POSITIVE,
            1.5,
            f64::INFINITY,
        ]);
        ordered(&[-1.0f32, 0.0, 1.0]);
        ordered(&[false, true]);
        ordered(&[[0u8, 255], [1, 0], [1, 1]]);
        ordered(&[None, Some(0u16), Some(300)]);
        ordered(
            &[
                &b""[..],
                b"\0",
                b"\0\0",
                b"\0\x01",
                b"\0\xff",
                b"\x01",
                b"a",
                b"a\0",
                b"a\x01",
                b"b",
            ]
            .map(<[u8]>::to_vec),
        );
        ordered(&["", "a", "a\0", "ab", "b", "é"].map(str::to_owned));
    }

    #[test]
    fn tuples_sort_by_their_parts_in_turn() {
        let s = |t: &str| t.to_owned();
        ordered(&[
            (s(""), 255u8, Some(s("z"))),
            (s("a"), 0, None),
            (s("a"), 0, Some(s(""))),
            (s("a"), 255, None),
            (s("a\0"), 0, None),
            (s("ab"), 0, None),
        ]);
        ordered(&[(-1i8,), (0,), (1,)]);
        ordered(&[(1u8, 2u8, 3u8, 4u8), (1, 2, 4, 0), (2, 0, 0, 0)]);
    }

    #[test]
    fn what_is_no_encoding_is_none() {
        assert_eq!(bool::from_bytes(&[2]), None);
        assert_eq!(Option::<u8>::from_bytes(&[2, 0]), None);
        assert_eq!(Vec::<u8>::from_bytes(b"a"), None);
        assert_eq!(Vec::<u8>::from_bytes(b"a\0\x02"), None);
        assert_eq!(String::from_bytes(b"\xff\0\0"), None);
        assert_eq!(u32::from_bytes(&[1, 2, 3]), None);
    }
}
