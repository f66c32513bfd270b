//! Keys and values as bytes.

use bincode::config::{Configuration, standard};
use bincode::enc::write::Writer;
use bincode::error::{DecodeError, EncodeError};
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, Visitor};
use serde::ser::Serialize;
use std::error::Error;

/// How keys or values become bytes in a snapshot, and come back.
///
/// [`Bincode`] does that for all types that serde knows. One's own codec can use another format, compress, encrypt, or
/// store only what cannot be computed anew. The format of the file around the bytes does not depend on it.
///
/// ```
/// use larder::Codec;
/// use std::error::Error;
///
/// /// Text as it is.
/// struct Utf8;
///
/// impl Codec<String> for Utf8 {
///     fn name(&self) -> &str {
///         "utf-8"
///     }
///     fn encode(&self, value: &String, into: &mut Vec<u8>) -> Result<(), Box<dyn Error + Send + Sync>> {
///         into.extend_from_slice(value.as_bytes());
///         Ok(())
///     }
///     fn decode(&self, bytes: &[u8]) -> Result<String, Box<dyn Error + Send + Sync>> {
///         Ok(String::from_utf8(bytes.to_vec())?)
///     }
/// }
///
/// let mut bytes = Vec::new();
/// Utf8.encode(&"tea".to_owned(), &mut bytes)?;
/// assert_eq!(Utf8.decode(&bytes)?, "tea");
/// assert!(Utf8.decode(b"\xff").is_err());
/// # Ok::<(), Box<dyn Error + Send + Sync>>(())
/// ```
pub trait Codec<T> {
    /// Names the encoding. It stands in a snapshot's header, and a snapshot with another name is refused: change it when
    /// bytes written before would mean something else.
    fn name(&self) -> &str;

    /// Appends the bytes of a value.
    ///
    /// # Errors
    ///
    /// If the value has none. What was appended by then is of no account.
    fn encode(&self, value: &T, into: &mut Vec<u8>) -> Result<(), Box<dyn Error + Send + Sync>>;

    /// Makes a value of exactly these bytes.
    ///
    /// # Errors
    ///
    /// If they are none of a value, or more. Checksums keep accidents away from here, but not somebody who writes
    /// a file on purpose: if that can happen, it should neither panic nor allocate without measure.
    fn decode(&self, bytes: &[u8]) -> Result<T, Box<dyn Error + Send + Sync>>;
}

/// The [`Codec`] for all types that serde knows: the format of the crate bincode 2 in its standard configuration.
///
/// That format says nothing of types and names: bytes of a type that has changed since may be refused, or be taken for
/// something else. Types with the serde attributes `flatten`, `untagged`, `tag` or `skip_serializing_if` do not come back.
///
/// The crate bincode is no longer maintained ([RUSTSEC-2025-0141]), so its version is pinned. It encodes, and decodes
/// single numbers. Everything with a length is read by larder, with bounds for bytes that somebody has made up:
///
/// - Memory is allocated for what is there only, not for the lengths that bytes claim: at most in proportion to the
///   number of bytes, a byte for an element at least.
/// - Elements that take no bytes, as in a `Vec<()>`, are at most 65,536 in a key or value.
/// - Values are nested at most 128 deep. Each sequence, tuple, struct, map, enum, newtype and `Some` is a level, so that
///   a long linked list is better saved as a sequence.
///
/// Values beyond the last two bounds can be encoded but not decoded.
///
/// [RUSTSEC-2025-0141]: https://rustsec.org/advisories/RUSTSEC-2025-0141
#[derive(Clone, Copy, Debug, Default)]
pub struct Bincode;

/// Elements without bytes that a value may have.
const MOST_EMPTY: usize = 1 << 16;
/// Levels that a value may have: as many as `serde_json` allows, for the same reason, which is the stack.
const MOST_LEVELS: usize = 128;

impl<T: Serialize + DeserializeOwned> Codec<T> for Bincode {
    fn name(&self) -> &str {
        "bincode 2 standard"
    }

    #[inline]
    fn encode(&self, value: &T, into: &mut Vec<u8>) -> Result<(), Box<dyn Error + Send + Sync>> {
        bincode::serde::encode_into_writer(value, Appender(into), standard())?;
        Ok(())
    }

    #[inline]
    fn decode(&self, bytes: &[u8]) -> Result<T, Box<dyn Error + Send + Sync>> {
        let mut decoder = Decoder { rest: bytes, empty: MOST_EMPTY, levels: MOST_LEVELS };
        let value = T::deserialize(&mut decoder)?;
        match decoder.rest.len() {
            0 => Ok(value),
            more => Err(format!("{more} bytes are left over: is this of another type?").into()),
        }
    }
}

/// Where bincode writes to.
struct Appender<'a>(&'a mut Vec<u8>);

impl Writer for Appender<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// Reads bincode's format. Its own decoder allocates the length that a string claims, and the limit against that is
/// a constant and counts a small number as if it took all its bytes. It knows no bound for depth and empty elements.
struct Decoder<'de> {
    rest: &'de [u8],
    /// How many more elements without bytes there may be.
    empty: usize,
    /// How many more levels.
    levels: usize,
}

impl<'de> Decoder<'de> {
    #[inline]
    fn number<N: bincode::Decode<()>>(&mut self) -> Result<N, DecodeError> {
        const STANDARD: Configuration = standard();
        let (number, used) = bincode::decode_from_slice(self.rest, STANDARD)?;
        self.rest = &self.rest[used..];
        Ok(number)
    }

    #[inline]
    fn len(&mut self) -> Result<usize, DecodeError> {
        let len = self.number::<u64>()?;
        usize::try_from(len).map_err(|_| DecodeError::OutsideUsizeRange(len))
    }

    #[inline]
    fn bytes(&mut self) -> Result<&'de [u8], DecodeError> {
        let len = self.len()?;
        let Some((bytes, rest)) = self.rest.split_at_checked(len) else {
            return Err(DecodeError::UnexpectedEnd { additional: len - self.rest.len() });
        };
        self.rest = rest;
        Ok(bytes)
    }

    #[inline]
    fn str(&mut self) -> Result<&'de str, DecodeError> {
        std::str::from_utf8(self.bytes()?).map_err(|inner| DecodeError::Utf8 { inner })
    }

    /// Goes down one level.
    #[inline]
    fn level<R>(&mut self, read: impl FnOnce(&mut Self) -> Result<R, DecodeError>) -> Result<R, DecodeError> {
        let Some(levels) = self.levels.checked_sub(1) else {
            return Err(de::Error::custom(format_args!("nested more than {MOST_LEVELS} levels deep")));
        };
        self.levels = levels;
        let result = read(self);
        self.levels += 1;
        result
    }

    /// Elements of a sequence or map have been read since so many bytes were left.
    #[inline]
    fn count_empty(&mut self, left_before: usize) -> Result<(), DecodeError> {
        if self.rest.len() == left_before {
            let Some(empty) = self.empty.checked_sub(1) else {
                return Err(de::Error::custom(format_args!("more than {MOST_EMPTY} elements without bytes")));
            };
            self.empty = empty;
        }
        Ok(())
    }
}

macro_rules! numbers {
    ($($method:ident: $type:ty, $visit:ident;)*) => {
        $(#[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
            visitor.$visit(self.number::<$type>()?)
        })*
    };
}

impl<'de> Deserializer<'de> for &mut Decoder<'de> {
    type Error = DecodeError;

    numbers! {
        deserialize_bool: bool, visit_bool;
        deserialize_i8: i8, visit_i8;
        deserialize_i16: i16, visit_i16;
        deserialize_i32: i32, visit_i32;
        deserialize_i64: i64, visit_i64;
        deserialize_i128: i128, visit_i128;
        deserialize_u8: u8, visit_u8;
        deserialize_u16: u16, visit_u16;
        deserialize_u32: u32, visit_u32;
        deserialize_u64: u64, visit_u64;
        deserialize_u128: u128, visit_u128;
        deserialize_f32: f32, visit_f32;
        deserialize_f64: f64, visit_f64;
        deserialize_char: char, visit_char;
    }

    #[inline]
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_borrowed_str(self.str()?)
    }

    #[inline]
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_borrowed_str(self.str()?)
    }

    #[inline]
    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_borrowed_bytes(self.bytes()?)
    }

    #[inline]
    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_borrowed_bytes(self.bytes()?)
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.number::<u8>()? {
            0 => visitor.visit_none(),
            1 => self.level(|decoder| visitor.visit_some(decoder)),
            other => Err(de::Error::custom(format_args!("an option begins with 0 or 1, not {other}"))),
        }
    }

    #[inline]
    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_unit()
    }

    #[inline]
    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_unit()
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.level(|decoder| visitor.visit_newtype_struct(decoder))
    }

    #[inline]
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let left = self.len()?;
        self.level(|decoder| visitor.visit_seq(Elements { decoder, left }))
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, DecodeError> {
        self.level(|decoder| visitor.visit_seq(Members { decoder, left: len }))
    }

    #[inline]
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.deserialize_tuple(len, visitor)
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.deserialize_tuple(fields.len(), visitor)
    }

    #[inline]
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let left = self.len()?;
        self.level(|decoder| {
            let left_before = decoder.rest.len();
            visitor.visit_map(Pairs { decoder, left, left_before })
        })
    }

    #[inline]
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.level(|decoder| visitor.visit_enum(decoder))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, DecodeError> {
        Err(bincode::serde::DecodeError::AnyNotSupported.into())
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, _: V) -> Result<V::Value, DecodeError> {
        Err(bincode::serde::DecodeError::IdentifierNotSupported.into())
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, DecodeError> {
        Err(bincode::serde::DecodeError::IgnoredAnyNotSupported.into())
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// The elements of a sequence, whose bytes say how many there are.
struct Elements<'a, 'de> {
    decoder: &'a mut Decoder<'de>,
    left: usize,
}

impl<'de> de::SeqAccess<'de> for Elements<'_, 'de> {
    type Error = DecodeError;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        let left_before = self.decoder.rest.len();
        let value = seed.deserialize(&mut *self.decoder)?;
        self.decoder.count_empty(left_before)?;
        Ok(Some(value))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left.min(self.decoder.rest.len()))
    }
}

/// The members of a tuple, whose type says how many there are.
struct Members<'a, 'de> {
    decoder: &'a mut Decoder<'de>,
    left: usize,
}

impl<'de> de::SeqAccess<'de> for Members<'_, 'de> {
    type Error = DecodeError;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        seed.deserialize(&mut *self.decoder).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left.min(self.decoder.rest.len()))
    }
}

/// The keys and values of a map.
struct Pairs<'a, 'de> {
    decoder: &'a mut Decoder<'de>,
    left: usize,
    /// How many bytes were left before the pair.
    left_before: usize,
}

impl<'de> de::MapAccess<'de> for Pairs<'_, 'de> {
    type Error = DecodeError;

    #[inline]
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DecodeError> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        self.left_before = self.decoder.rest.len();
        seed.deserialize(&mut *self.decoder).map(Some)
    }

    #[inline]
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, DecodeError> {
        let value = seed.deserialize(&mut *self.decoder)?;
        self.decoder.count_empty(self.left_before)?;
        Ok(value)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left.min(self.decoder.rest.len()))
    }
}

impl<'de> de::EnumAccess<'de> for &mut Decoder<'de> {
    type Error = DecodeError;
    type Variant = Self;

    #[inline]
    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), DecodeError> {
        let number = self.number::<u32>()?;
        let variant = seed.deserialize(IntoDeserializer::<DecodeError>::into_deserializer(number))?;
        Ok((variant, self))
    }
}

impl<'de> de::VariantAccess<'de> for &mut Decoder<'de> {
    type Error = DecodeError;

    #[inline]
    fn unit_variant(self) -> Result<(), DecodeError> {
        Ok(())
    }

    #[inline]
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, DecodeError> {
        seed.deserialize(self)
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_tuple(len, visitor)
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.deserialize_tuple(fields.len(), visitor)
    }
}
