//! A decoder for bincode that is small enough for the init.
//!
//! bincode's own decoder is correct but large: each field returns a `Result`, so each is followed
//! by a branch and an error value. Here malformed input empties the reader. Every later read
//! returns zero or an empty string, and only the end of the message is checked for an error. In the
//! init this takes a quarter of the code. `WIRE.md` specifies the bytes.

/// The bytes that a message is read from.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    malformed: bool,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, malformed: false }
    }

    /// Returns the number of bytes that are left, or `None` if something was malformed.
    pub(crate) fn left(&self) -> Option<usize> {
        (!self.malformed).then_some(self.rest.len())
    }

    /// Records malformed input. Everything read from now on is zero or empty.
    pub(crate) fn refuse(&mut self) {
        *self = Self { rest: &[], malformed: true };
    }

    /// Reads the next `length` bytes.
    #[inline(never)]
    fn bytes(&mut self, length: u64) -> &'a [u8] {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let Some((bytes, rest)) = self.rest.split_at_checked(length) else {
            self.refuse();
            return &[];
        };
        self.rest = rest;
        bytes
    }

    /// Reads an integer of variable length, whose encoding must not be wider than `width` bytes.
    #[inline(never)]
    fn integer(&mut self, width: u64) -> u64 {
        let Some((&mark, rest)) = self.rest.split_first() else {
            self.refuse();
            return 0;
        };
        self.rest = rest;
        if mark <= 250 {
            return mark.into();
        }
        // 251 is followed by two bytes, 252 by four, 253 by eight. Marks above are wider than any
        // integer of the wire.
        let length = 2_u64 << (mark - 251);
        if length > width {
            self.refuse();
            return 0;
        }
        self.bytes(length).iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
    }

    /// Reads a byte string: its length and its bytes.
    #[inline(never)]
    pub(crate) fn string(&mut self) -> &'a [u8] {
        let length = self.integer(8);
        self.bytes(length)
    }
}

/// A value that can be decoded from bincode's encoding.
pub trait Read<'a>: Sized {
    /// Reads the value. If the bytes are malformed, the reader records it and the returned value
    /// has no meaning.
    fn read(reader: &mut Reader<'a>) -> Self;
}

macro_rules! integers {
    ($($integer:ident),+) => {
        $(impl Read<'_> for $integer {
            #[inline(always)]
            #[allow(clippy::cast_possible_truncation, reason = "`integer` refuses a larger one")]
            fn read(reader: &mut Reader<'_>) -> Self {
                reader.integer(size_of::<Self>() as u64) as Self
            }
        })+
    };
}

integers!(u16, u32, u64);

impl Read<'_> for bool {
    #[inline(never)]
    fn read(reader: &mut Reader<'_>) -> Self {
        match reader.bytes(1) {
            [0] => false,
            [1] => true,
            _ => {
                reader.refuse();
                false
            }
        }
    }
}

impl<'a> Read<'a> for &'a [u8] {
    #[inline(always)]
    fn read(reader: &mut Reader<'a>) -> Self {
        reader.string()
    }
}

/// Declares an enumeration and decodes it: the number of the variant, counted from 0 in the order
/// of the declaration, then its fields.
macro_rules! message {
    (
        $(#[$attribute:meta])*
        pub enum $name:ident $(<$lifetime:tt>)? {
            $(
                $(#[$about_variant:meta])*
                $variant:ident $({ $($(#[$about:meta])* $field:ident: $kind:ty,)+ })?,
            )+
        }
    ) => {
        $(#[$attribute])*
        pub enum $name $(<$lifetime>)? {
            $(
                $(#[$about_variant])*
                $variant $({ $($(#[$about])* $field: $kind,)+ })?,
            )+
        }

        impl $(<$lifetime>)? $name $(<$lifetime>)? {
            /// The names of the variants as `WIRE.md` has them, in the order of their numbers from
            /// 0 up.
            pub const VARIANTS: &'static [&'static str] = &[$(stringify!($variant),)+];

            /// The number of variants.
            pub const COUNT: usize = Self::VARIANTS.len();
        }

        impl<'a> $crate::read::Read<'a> for $name $(<$lifetime>)? {
            #[inline(never)]
            fn read(reader: &mut $crate::read::Reader<'a>) -> Self {
                enum Number {
                    $($variant,)+
                }
                match <u32 as $crate::read::Read<'_>>::read(reader) {
                    $(
                        number if number == Number::$variant as u32 => Self::$variant $({
                            $($field: $crate::read::Read::read(reader),)+
                        })?,
                    )+
                    _ => {
                        // An empty reader returns the number 0, which is a variant: this ends.
                        reader.refuse();
                        Self::read(reader)
                    }
                }
            }
        }
    };
}

pub(crate) use message;
