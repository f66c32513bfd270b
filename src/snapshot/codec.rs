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
/// something else. For the same reason types with these serde attributes do not come back:
///
/// | attribute | result |
/// | --- | --- |
/// | `flatten`, `untagged`, `tag`, `tag` with `content` | an error |
/// | on a field: `skip_serializing_if`; `skip_serializing` or `skip_deserializing` alone | an error, or wrong values in the fields after it |
/// | on a variant: `skip_deserializing` or `skip`, if another variant follows | **without an error** one of the variants after it for another: `Open` comes back as `Closed` |
/// | on a variant: `skip_serializing` | an error if a value has this variant |
///
/// `skip` on a field, `default`, `rename`, `alias`, `other`, `with`, `from`, `into` and `transparent` are fine.
///
/// Keys and values in an `Arc` need serde's feature `rc`: `serde = { version = "1", features = ["derive", "rc"] }`.
///
/// The crate bincode is no longer maintained ([RUSTSEC-2025-0141]), so its version is pinned. It encodes, and decodes
/// single numbers. Everything with a length is read by larder, with bounds for bytes that somebody has made up:
///
/// - Room is made for what is there, not for the length that bytes claim: for no more elements at each level than there
///   are bytes.
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
        let value = T::deserialize(&mut decoder).map_err(explained)?;
        match decoder.rest.len() {
            0 => Ok(value),
            more => Err(format!("{more} bytes are left over: are they of another type?").into()),
        }
    }
}

/// The same error in words. Bincode prints its own as Rust does for debugging.
#[cold]
fn explained(error: DecodeError) -> Box<dyn Error + Send + Sync> {
    match error {
        DecodeError::UnexpectedEnd { .. } => "the bytes end too soon: are they of another type?".into(),
        DecodeError::Utf8 { inner } => inner.into(),
        DecodeError::OtherString(said) => said.into(),
        other => other.into(),
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
        self.level(|decoder| visitor.visit_seq(Elements(Members { decoder, left })))
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
struct Elements<'a, 'de>(Members<'a, 'de>);

impl<'de> de::SeqAccess<'de> for Elements<'_, 'de> {
    type Error = DecodeError;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        let left_before = self.0.decoder.rest.len();
        let value = self.0.next_element_seed(seed)?;
        if value.is_some() {
            self.0.decoder.count_empty(left_before)?;
        }
        Ok(value)
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::{Deserialize, Serialize};
    use std::collections::{BTreeMap, HashMap, HashSet};
    use std::fmt::Debug;

    type Any = Box<dyn Error + Send + Sync>;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Newtype(u64);

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Nothing;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Choice {
        Unit,
        One(String),
        Two(i8, Option<Newtype>),
        Named { bytes: Vec<u8>, nothing: Nothing },
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Record {
        numbers: (u8, u16, u32, u64, u128),
        signed: (i8, i16, i32, i64, i128),
        floats: (f32, f64),
        others: (bool, char, (), [u16; 3]),
        choices: Vec<Choice>,
        map: BTreeMap<String, Option<u32>>,
    }

    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    struct Chain(Option<Box<Chain>>);

    fn encoded<T: Serialize + DeserializeOwned>(value: &T) -> Vec<u8> {
        let mut bytes = b"before".to_vec();
        Bincode.encode(value, &mut bytes).unwrap();
        assert_eq!(&bytes[..6], b"before");
        bytes.split_off(6)
    }

    fn decode<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T, Any> {
        Bincode.decode(bytes)
    }

    /// Bincode's own decoder gives the same, and the value comes back.
    fn comes_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
        let bytes = encoded(value);
        assert_eq!(bytes, bincode::serde::encode_to_vec(value, standard()).unwrap());
        assert_eq!(&decode::<T>(&bytes).unwrap(), value);
        let (theirs, used): (T, usize) = bincode::serde::decode_from_slice(&bytes, standard()).unwrap();
        assert_eq!((&theirs, used), (value, bytes.len()));
        for len in 0..bytes.len() {
            assert!(decode::<T>(&bytes[..len]).is_err(), "{len} bytes of {value:?}");
        }
        let error = decode::<T>(&[&bytes[..], &[0]].concat()).unwrap_err().to_string();
        assert_eq!(error, "1 bytes are left over: are they of another type?");
    }

    fn a_record() -> Record {
        Record {
            numbers: (1, 300, 70_000, u64::MAX, u128::MAX),
            signed: (-1, -300, -70_000, i64::MIN, i128::MIN),
            floats: (1.5, -0.0),
            others: (true, 'é', (), [1, 2, 3]),
            choices: vec![
                Choice::Unit,
                Choice::One("tea".into()),
                Choice::Two(-7, Some(Newtype(7))),
                Choice::Named { bytes: vec![0, 255], nothing: Nothing },
            ],
            map: BTreeMap::from([("a".into(), None), (String::new(), Some(1))]),
        }
    }

    #[test]
    fn values_come_back() {
        comes_back(&a_record());
        comes_back(&HashMap::from([(1_u64, "one".to_owned()), (2, String::new())]));
        comes_back(&HashSet::from([1, 2, 1_000_000]));
        comes_back(&Some(Some("text".to_owned())));
        comes_back(&Ok::<u32, String>(7));
        comes_back(&std::time::Duration::from_nanos(1_234_567_890));
        comes_back(&std::net::IpAddr::from([127, 0, 0, 1]));
        comes_back(&(Box::<str>::from("a"), std::cell::Cell::new(1), std::num::NonZeroU8::MIN));
        assert_eq!(decode::<f64>(&encoded(&f64::NAN)).unwrap().to_bits(), f64::NAN.to_bits());
        assert!(encoded(&()).is_empty());
        decode::<()>(&[]).unwrap();
    }

    /// Declares an enum or a struct that serde is told of.
    macro_rules! told {
        ($($item:item)*) => { $(#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)] $item)* };
    }

    /// Whether a value comes back. `None` if an error says that it does not.
    fn returns<T: Serialize + DeserializeOwned + PartialEq>(value: T) -> Option<bool> {
        let mut bytes = Vec::new();
        Bincode.encode(&value, &mut bytes).ok()?;
        decode::<T>(&bytes).ok().map(|found| found == value)
    }

    #[test]
    fn attributes_that_bincode_can_carry() {
        told! {
            #[serde(rename_all = "camelCase", deny_unknown_fields)]
            struct Named { #[serde(rename = "first", alias = "one", default)] a: u8, b: u8 }
            #[serde(transparent)]
            struct Transparent { a: u8 }
            struct Skips { a: u8, #[serde(skip)] b: u8, c: u8 }
            struct With { #[serde(with = "plus_one")] a: u8, b: u8 }
            #[serde(from = "u8", into = "u8")]
            struct Converted(u8);
            enum Variants { #[default] A, #[serde(skip_serializing)] B, #[serde(rename = "d", alias = "c")] C(u8), #[serde(other)] D }
            enum SkipsLast { #[default] A, B(u8), #[serde(skip)] C }
        }
        mod plus_one {
            use serde::{Deserialize, Deserializer, Serialize, Serializer};
            pub(super) fn serialize<S: Serializer>(value: &u8, to: S) -> Result<S::Ok, S::Error> {
                (value + 1).serialize(to)
            }
            pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u8, D::Error> {
                Ok(u8::deserialize(from)? - 1)
            }
        }
        impl From<u8> for Converted {
            fn from(number: u8) -> Self {
                Self(number)
            }
        }
        impl From<Converted> for u8 {
            fn from(converted: Converted) -> Self {
                converted.0
            }
        }
        assert_eq!(returns(Named { a: 1, b: 2 }), Some(true));
        assert_eq!(returns(Transparent { a: 1 }), Some(true));
        assert_eq!(returns(Skips { a: 1, b: 0, c: 2 }), Some(true));
        assert_eq!(returns(With { a: 1, b: 2 }), Some(true));
        assert_eq!(returns(Converted(1)), Some(true));
        assert_eq!([Variants::A, Variants::C(1), Variants::D].map(returns), [Some(true); 3]);
        assert_eq!(returns(Variants::B), None, "it cannot be encoded");
        assert_eq!([SkipsLast::A, SkipsLast::B(1)].map(returns), [Some(true); 2]);
        assert_eq!(returns(SkipsLast::C), None);
    }

    /// The documentation lists them: some are errors, others are read as something else.
    #[test]
    fn attributes_that_bincode_cannot_carry() {
        told! {
            struct Inner { b: u8 }
            struct Flat { a: u8, #[serde(flatten)] inner: Inner }
            #[serde(untagged)]
            enum Untagged { #[default] A, B(u8) }
            enum UntaggedVariant { #[default] A, #[serde(untagged)] B(u8) }
            #[serde(tag = "t")]
            enum Internal { #[default] A, B { b: u8 } }
            #[serde(tag = "t", content = "c")]
            enum Adjacent { #[default] A, B(u8) }
            struct If { #[serde(skip_serializing_if = "is_zero")] a: u8, b: u8 }
            struct NotWritten { #[serde(skip_serializing)] a: u8, b: u8 }
            struct NotRead { #[serde(skip_deserializing)] a: u8, b: u8 }
            enum VariantNotRead { #[default] #[serde(skip_deserializing)] Old, Open, Closed }
            enum SkipsFirst { #[default] #[serde(skip)] Old, Open, Closed }
        }
        fn is_zero(number: &u8) -> bool {
            *number == 0
        }
        let come_back = [
            returns(Flat { a: 1, inner: Inner { b: 2 } }),
            returns(Untagged::B(1)),
            returns(UntaggedVariant::A),
            returns(UntaggedVariant::B(1)),
            returns(Internal::A),
            returns(Internal::B { b: 1 }),
            returns(Adjacent::A),
            returns(Adjacent::B(1)),
            returns(If { a: 0, b: 1 }),
            returns(NotWritten { a: 0, b: 1 }),
            returns(NotRead { a: 0, b: 1 }),
            returns(VariantNotRead::Open),
            returns(SkipsFirst::Open),
        ];
        assert!(come_back.iter().all(|back| *back != Some(true)), "{come_back:?}");
        // Without an error.
        assert_eq!(
            decode::<VariantNotRead>(&encoded(&VariantNotRead::Open)).unwrap(),
            VariantNotRead::Closed
        );
        assert_eq!(decode::<SkipsFirst>(&encoded(&SkipsFirst::Open)).unwrap(), SkipsFirst::Closed);
    }

    #[test]
    fn what_is_no_value_is_an_error() {
        assert!(decode::<bool>(&[2]).is_err());
        assert!(decode::<Option<u8>>(&[2, 0]).is_err());
        assert!(decode::<char>(&[0xff, 0, 0, 0]).is_err());
        assert!(decode::<String>(&[1, 0xff]).is_err());
        assert!(decode::<Choice>(&[4]).is_err());
        assert!(decode::<u32>(&encoded(&u64::MAX)).is_err());
        assert!(decode::<std::num::NonZeroU8>(&[0]).is_err());
        let said = |error: Any| error.to_string();
        assert_eq!(
            decode::<String>(&[2, 0]).map_err(said).unwrap_err(),
            "the bytes end too soon: are they of another type?"
        );
        assert!(said(decode::<String>(&[1, 0xff]).unwrap_err()).contains("utf-8"));
    }

    #[test]
    fn elements_without_bytes_are_bounded() {
        let at_most = if cfg!(miri) { 100 } else { MOST_EMPTY };
        let empty = vec![(); at_most];
        assert_eq!(decode::<Vec<()>>(&encoded(&empty)).unwrap(), empty);
        assert_eq!(decode::<HashMap<(), ()>>(&encoded(&HashMap::from([((), ())]))).unwrap().len(), 1);
        for len in [MOST_EMPTY as u64 + 1, u64::MAX] {
            if cfg!(miri) {
                return;
            }
            let bytes = encoded(&len);
            let expected = "more than 65536 elements without bytes";
            assert_eq!(decode::<Vec<()>>(&bytes).unwrap_err().to_string(), expected);
            assert_eq!(decode::<Vec<[Nothing; 3]>>(&bytes).unwrap_err().to_string(), expected);
            assert_eq!(decode::<HashSet<()>>(&bytes).unwrap_err().to_string(), expected);
            assert_eq!(decode::<BTreeMap<(), ()>>(&bytes).unwrap_err().to_string(), expected);
        }
        // It is the sum that counts: a hundred short bytes are not a hundred long lists.
        let lists = encoded(&vec![vec![(); MOST_EMPTY / 2]; 3]);
        assert!(decode::<Vec<Vec<()>>>(&lists).is_err());
        // Members without bytes of something that has some are no matter.
        let members = vec![((), 1_u8, ()); at_most + 1];
        assert_eq!(decode::<Vec<((), u8, ())>>(&encoded(&members)).unwrap(), members);
    }

    #[test]
    fn depth_is_bounded() {
        let chain = |links: usize| (1..links).fold(Chain(None), |chain, _| Chain(Some(Box::new(chain))));
        // A newtype and a `Some` each.
        comes_back(&chain(MOST_LEVELS / 2));
        let error = decode::<Chain>(&encoded(&chain(MOST_LEVELS / 2 + 1))).unwrap_err();
        assert_eq!(error.to_string(), "nested more than 128 levels deep");
        assert!(decode::<Chain>(&[1; 100_000]).is_err());
        // What is beside each other is not nested.
        comes_back(&vec![chain(5); if cfg!(miri) { 3 } else { 100 }]);
    }

    fn agree<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) {
        let theirs = bincode::serde::decode_from_slice::<T, _>(bytes, standard().with_limit::<100_000>());
        match (decode::<T>(bytes), theirs) {
            (Ok(ours), Ok((theirs, used))) => {
                // By their text, since a NaN is not equal to itself.
                assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
                assert_eq!(used, bytes.len());
            }
            (Err(_), Ok((_, used))) => assert!(used < bytes.len(), "{bytes:?}"),
            (Err(_), Err(_)) => {}
            (Ok(ours), Err(theirs)) => panic!("{bytes:?}: {ours:?}, not {theirs}"),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 512 }) })]

        #[test]
        fn bincode_agrees_on_any_bytes(bytes in prop::collection::vec(prop_oneof![4 => 0..6_u8, 1 => any::<u8>()], 0..24)) {
            agree::<Record>(&bytes);
            agree::<Vec<Choice>>(&bytes);
            agree::<BTreeMap<String, Vec<Option<char>>>>(&bytes);
            agree::<(f32, i64, Vec<Newtype>)>(&bytes);
            agree::<(u128, bool, String)>(&bytes);
        }

        #[test]
        fn bincode_agrees_on_damaged_values(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = encoded(&a_record());
            let at = at.index(bytes.len());
            bytes[at] = byte;
            agree::<Record>(&bytes);
        }

        #[test]
        fn any_values_come_back(
            pairs in any::<Vec<(i64, String)>>(),
            nested in any::<Option<(u16, Vec<Vec<u8>>)>>(),
        ) {
            let bytes = encoded(&pairs);
            prop_assert_eq!(&decode::<Vec<(i64, String)>>(&bytes).unwrap(), &pairs);
            prop_assert_eq!(decode::<Option<(u16, Vec<Vec<u8>>)>>(&encoded(&nested)).unwrap(), nested);
        }
    }
}
