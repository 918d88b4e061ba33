//! How messages are read from bincode's bytes.
//!
//! bincode's own reading is right and large: each field can fail in its own way, and the compiler
//! follows each with a branch and an error value. Here what is malformed empties the reader, which
//! then answers zeros up to the end of the message, and only the end asks. This takes a fourth of
//! the code in the init. `WIRE.md` says what the bytes are.

/// Bytes that messages are read from.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    malformed: bool,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, malformed: false }
    }

    /// How many bytes are left, if all was well.
    pub(crate) fn left(&self) -> Option<usize> {
        (!self.malformed).then_some(self.rest.len())
    }

    /// Makes everything that follows zero, or empty.
    pub(crate) fn refuse(&mut self) {
        *self = Self { rest: &[], malformed: true };
    }

    /// The next `length` bytes.
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

    /// The next integer of variable length, which must fit into `width` bytes.
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
        // 251 is followed by two bytes, 252 by four, 253 by eight.
        let length = 2_u64 << (mark - 251);
        if length > width {
            self.refuse();
            return 0;
        }
        self.bytes(length).iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
    }

    /// The next byte string, if the rest of the message says that it may be so.
    #[inline(never)]
    pub(crate) fn string(&mut self) -> &'a [u8] {
        let length = self.integer(8);
        self.bytes(length)
    }
}

/// What can be read from bincode's bytes.
pub trait Read<'a>: Sized {
    /// Reads the next bytes. What is malformed is remembered by the reader and answers anything.
    fn read(reader: &mut Reader<'a>) -> Self;
}

macro_rules! integers {
    ($($integer:ident),+) => {
        $(impl Read<'_> for $integer {
            #[inline(always)]
            #[allow(clippy::cast_possible_truncation, reason = "no larger one is read")]
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

/// Declares an enumeration and how it is read: the number of a variant, counted from 0 in the
/// order of the declaration, then its fields.
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
                        // There is a variant of the number 0, which an empty reader answers.
                        reader.refuse();
                        Self::read(reader)
                    }
                }
            }
        }
    };
}

pub(crate) use message;
