//! A fixed structure is declared once, with the offset of each field; the codec,
//! the table for the format document and the overlap check come from that.

/// One field of a fixed on-device structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Name as in `docs/format.md`.
    pub name: &'static str,
    /// Byte offset in the structure.
    pub offset: usize,
    /// Size in bytes.
    pub size: usize,
}

/// A little-endian scalar.
pub(crate) trait Scalar: Copy {
    const SIZE: usize;
    fn get(bytes: &[u8]) -> Self;
    fn put(self, bytes: &mut [u8]);
}

macro_rules! scalar {
    ($($t:ty),*) => {$(
        impl Scalar for $t {
            const SIZE: usize = size_of::<$t>();
            fn get(bytes: &[u8]) -> Self {
                Self::from_le_bytes(bytes[..Self::SIZE].try_into().expect("sized"))
            }
            fn put(self, bytes: &mut [u8]) {
                bytes[..Self::SIZE].copy_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}
scalar!(u8, u16, u32, u64, u128);

/// Declares a fixed structure: `field: type @ offset`. Fields stand in the order
/// of their offsets and do not overlap (checked when compiling).
macro_rules! layout {
    ($(#[$m:meta])* pub struct $name:ident, $size:expr; $($(#[$fm:meta])* $f:ident: $t:ty = $off:expr,)*) => {
        $(#[$m])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name { $($(#[$fm])* pub $f: $t,)* }

        impl $name {
            /// Bytes the structure takes; what no field covers is zero.
            pub const SIZE: usize = $size;
            /// The fields in order of their offsets.
            pub const FIELDS: &'static [$crate::format::Field] = &[
                $($crate::format::Field { name: stringify!($f), offset: $off, size: size_of::<$t>() },)*
            ];
            const CHECKED: () = {
                let mut end = 0;
                let mut i = 0;
                while i < Self::FIELDS.len() {
                    assert!(Self::FIELDS[i].offset >= end, "fields overlap or are out of order");
                    end = Self::FIELDS[i].offset + Self::FIELDS[i].size;
                    i += 1;
                }
                assert!(end <= Self::SIZE, "a field lies behind the end");
            };

            /// Writes the fields into `bytes` (at least [`Self::SIZE`] long).
            pub fn encode(&self, bytes: &mut [u8]) {
                let () = Self::CHECKED;
                $($crate::format::layout::Scalar::put(self.$f, &mut bytes[$off..]);)*
            }

            /// Reads the fields from `bytes` (at least [`Self::SIZE`] long).
            /// Checks nothing.
            pub fn decode(bytes: &[u8]) -> Self {
                Self { $($f: $crate::format::layout::Scalar::get(&bytes[$off..]),)* }
            }
        }
    };
}
pub(crate) use layout;
