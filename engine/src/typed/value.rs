//! Values of typed trees as bytes.

use crate::order::OrderedKey;

/// A type that a [`TypedTree`](crate::TypedTree) can hold. Unlike a key's, an encoding need
/// neither sort nor tell where it ends: it is all of the stored value.
///
/// | type | encoding |
/// |---|---|
/// | `Vec<u8>`, `String` | the bytes |
/// | `()` | nothing |
/// | integers, floats, `bool`, `[u8; N]`, tuples to four parts | as [`OrderedKey`] |
/// | `Option` | 0; or 1 and the value |
///
/// A type of one's own:
///
/// ```
/// use gaur::Value;
///
/// #[derive(Debug, PartialEq)]
/// struct Stock { pieces: u32, place: String }
///
/// impl Value for Stock {
///     fn encode_value(&self, out: &mut Vec<u8>) {
///         out.extend_from_slice(&self.pieces.to_le_bytes());
///         out.extend_from_slice(self.place.as_bytes());
///     }
///
///     fn decode_value(bytes: &[u8]) -> Option<Self> {
///         let (pieces, place) = bytes.split_first_chunk()?;
///         let place = String::from_utf8(place.to_vec()).ok()?;
///         Some(Self { pieces: u32::from_le_bytes(*pieces), place })
///     }
/// }
///
/// let stock = Stock { pieces: 12, place: "cellar".into() };
/// let mut bytes = Vec::new();
/// stock.encode_value(&mut bytes);
/// assert_eq!(Stock::decode_value(&bytes), Some(stock));
/// assert_eq!(Stock::decode_value(b"ab"), None);
/// ```
pub trait Value: Sized {
    /// Appends the encoding.
    fn encode_value(&self, out: &mut Vec<u8>);

    /// What `bytes` encode, all of them; `None`: they encode nothing of this type.
    fn decode_value(bytes: &[u8]) -> Option<Self>;
}

impl Value for Vec<u8> {
    fn encode_value(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }

    fn decode_value(bytes: &[u8]) -> Option<Self> {
        Some(bytes.to_vec())
    }
}

impl Value for String {
    fn encode_value(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }

    fn decode_value(bytes: &[u8]) -> Option<Self> {
        Self::from_utf8(bytes.to_vec()).ok()
    }
}

impl Value for () {
    fn encode_value(&self, _: &mut Vec<u8>) {}

    fn decode_value(bytes: &[u8]) -> Option<Self> {
        bytes.is_empty().then_some(())
    }
}

impl<V: Value> Value for Option<V> {
    fn encode_value(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.is_some()));
        if let Some(value) = self {
            value.encode_value(out);
        }
    }

    fn decode_value(bytes: &[u8]) -> Option<Self> {
        match bytes.split_first()? {
            (0, []) => Some(None),
            (1, rest) => V::decode_value(rest).map(Some),
            _ => None,
        }
    }
}

/// Types that are stored as they are as keys.
macro_rules! as_keys {
    ($([$($generics:tt)*] $t:ty),* $(,)?) => {$(
        impl<$($generics)*> Value for $t {
            fn encode_value(&self, out: &mut Vec<u8>) {
                self.encode(out);
            }

            fn decode_value(bytes: &[u8]) -> Option<Self> {
                Self::from_bytes(bytes)
            }
        }
    )*};
}

as_keys!(
    [] u8, [] u16, [] u32, [] u64, [] u128, [] i8, [] i16, [] i32, [] i64, [] i128,
    [] f32, [] f64, [] bool,
    [const N: usize] [u8; N],
    [A: OrderedKey] (A,),
    [A: OrderedKey, B: OrderedKey] (A, B),
    [A: OrderedKey, B: OrderedKey, C: OrderedKey] (A, B, C),
    [A: OrderedKey, B: OrderedKey, C: OrderedKey, D: OrderedKey] (A, B, C, D),
);

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes<V: Value>(value: &V) -> Vec<u8> {
        let mut out = Vec::new();
        value.encode_value(&mut out);
        out
    }

    fn there_and_back<V: Value + PartialEq + std::fmt::Debug>(values: &[V]) {
        for value in values {
            assert_eq!(V::decode_value(&bytes(value)).as_ref(), Some(value));
        }
    }

    #[test]
    fn values_come_back() {
        there_and_back(&[b"".to_vec(), b"a\0b".to_vec()]);
        there_and_back(&[String::new(), "é".to_owned()]);
        there_and_back(&[()]);
        there_and_back(&[0u64, u64::MAX]);
        there_and_back(&[i16::MIN, -1, 0, 7]);
        there_and_back(&[-1.5f64, 0.0]);
        there_and_back(&[None, Some(String::new()), Some("x".to_owned())]);
        there_and_back(&[(1u8, "x".to_owned(), vec![0u8], true)]);
        there_and_back(&[[1u8, 2, 3]]);
        assert_eq!(bytes(&"a\0b".to_owned()), b"a\0b");
    }

    #[test]
    fn what_encodes_nothing_is_none() {
        assert_eq!(u32::decode_value(b"abc"), None);
        assert_eq!(u32::decode_value(b"abcde"), None);
        assert_eq!(String::decode_value(b"\xff"), None);
        assert_eq!(<()>::decode_value(b"\0"), None);
        assert_eq!(Option::<u8>::decode_value(b"\0\0"), None);
        assert_eq!(Option::<u8>::decode_value(b""), None);
        assert_eq!(<(u8, u8)>::decode_value(b"abc"), None);
    }
}
