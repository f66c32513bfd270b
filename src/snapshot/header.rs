//! What a file is a snapshot of.

use super::fields::{Fields, VARINT_MOST, put_i128, put_str, put_u32, put_u64};
use crate::error::SnapshotError;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Bytes of a name at most.
const MOST_NAME: usize = 1 << 16;

/// The header of a file, as the payload of its first block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) created: SystemTime,
    pub(crate) key_type: String,
    pub(crate) value_type: String,
    /// The names of the codecs.
    pub(crate) key_codec: String,
    pub(crate) value_codec: String,
    pub(crate) policy: String,
    pub(crate) capacity: u64,
    /// What entries were given that had none of their own, in nanoseconds.
    pub(crate) time_to_live: u64,
    pub(crate) segments: u32,
    /// About how many entries follow.
    pub(crate) entries: u64,
    /// The hash of something known: whether the hasher is still the same.
    pub(crate) hasher_probe: u64,
}

impl Header {
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, SnapshotError> {
        let names = [&self.key_type, &self.value_type, &self.key_codec, &self.value_codec, &self.policy];
        let mut bytes =
            Vec::with_capacity(names.iter().map(|name| name.len() + VARINT_MOST).sum::<usize>() + 64);
        put_i128(&mut bytes, nanos_since_epoch(self.created));
        for name in names {
            if name.len() > MOST_NAME {
                let what = "the name of a type, codec or policy";
                return Err(SnapshotError::TooLong { what, most: MOST_NAME as u64 });
            }
            put_str(&mut bytes, name);
        }
        put_u64(&mut bytes, self.capacity);
        put_u64(&mut bytes, self.time_to_live);
        put_u32(&mut bytes, self.segments);
        put_u64(&mut bytes, self.entries);
        put_u64(&mut bytes, self.hasher_probe);
        Ok(bytes)
    }

    /// Whether a snapshot with another header can be loaded by who would write this one.
    pub(crate) fn check(&self, other: &Self) -> Result<(), SnapshotError> {
        let types = |header: &Self| match header.value_type.is_empty() {
            true => header.key_type.clone(),
            false => format!("{} to {}", header.key_type, header.value_type),
        };
        if (&self.key_type, &self.value_type) != (&other.key_type, &other.value_type) {
            return Err(SnapshotError::Types { found: types(other), expected: types(self) });
        }
        for (ours, found) in [(&self.key_codec, &other.key_codec), (&self.value_codec, &other.value_codec)] {
            if ours != found {
                return Err(SnapshotError::Codec { found: found.clone(), expected: ours.clone() });
            }
        }
        Ok(())
    }

    /// The header that these bytes are. None if they are none: too few, too many, or what this system cannot hold.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(bytes);
        let header = Self {
            created: time_of(fields.i128()?)?,
            key_type: name(&mut fields)?,
            value_type: name(&mut fields)?,
            key_codec: name(&mut fields)?,
            value_codec: name(&mut fields)?,
            policy: name(&mut fields)?,
            capacity: fields.u64()?,
            time_to_live: fields.u64()?,
            segments: fields.u32()?,
            entries: fields.u64()?,
            hasher_probe: fields.u64()?,
        };
        fields.end()?;
        Some(header)
    }
}

fn name(fields: &mut Fields<'_>) -> Option<String> {
    fields.str().filter(|name| name.len() <= MOST_NAME).map(str::to_owned)
}

/// Nanoseconds since the beginning of 1970, or before it. That a clock says so must not stop anything.
fn nanos_since_epoch(time: SystemTime) -> i128 {
    // Durations have less than 2^94 nanoseconds.
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => after.as_nanos() as i128,
        Err(before) => -(before.duration().as_nanos() as i128),
    }
}

/// The time with so many nanoseconds, if this system has it.
fn time_of(nanos: i128) -> Option<SystemTime> {
    const SECOND: u128 = 1_000_000_000;
    let distance = nanos.unsigned_abs();
    let distance = Duration::new(u64::try_from(distance / SECOND).ok()?, (distance % SECOND) as u32);
    if nanos >= 0 { UNIX_EPOCH.checked_add(distance) } else { UNIX_EPOCH.checked_sub(distance) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header() -> Header {
        Header {
            created: UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_700),
            key_type: "u64".into(),
            value_type: "alloc::string::String".into(),
            key_codec: "bincode".into(),
            value_codec: "".into(),
            policy: "s3_lirs".into(),
            capacity: u64::MAX,
            time_to_live: 60_000_000_000,
            segments: 64,
            entries: 1 << 40,
            hasher_probe: 0x0123_4567_89ab_cdef,
        }
    }

    #[test]
    fn headers_come_back() {
        let bytes = header().to_bytes().unwrap();
        assert_eq!(Header::from_bytes(&bytes), Some(header()));
        for len in 0..bytes.len() {
            assert_eq!(Header::from_bytes(&bytes[..len]), None, "{len}");
        }
        assert_eq!(Header::from_bytes(&[&bytes[..], &[0]].concat()), None);
    }

    #[test]
    fn times_before_1970_are_times() {
        // Whole units of all systems: Windows counts in 100 ns.
        for nanos in
            [0, 1_700_000_000_123_456_700, -100, -999_999_900, -1_000_000_000, -1_700_000_000_123_456_700]
        {
            let time = time_of(nanos).unwrap();
            assert_eq!(nanos_since_epoch(time), nanos);
            let header = Header { created: time, ..header() };
            assert_eq!(Header::from_bytes(&header.to_bytes().unwrap()), Some(header));
        }
    }

    #[test]
    fn times_that_no_system_has_are_refused() {
        for nanos in [i128::MIN, i128::MAX, 1 << 94, -(1 << 94)] {
            assert_eq!(time_of(nanos), None);
        }
    }

    #[test]
    fn names_have_a_limit() {
        if cfg!(miri) {
            return;
        }
        let named = |len| Header { key_type: "x".repeat(len), ..header() };
        let most = named(MOST_NAME);
        assert_eq!(Header::from_bytes(&most.to_bytes().unwrap()), Some(most));
        let error = named(MOST_NAME + 1).to_bytes().unwrap_err();
        assert!(matches!(error, SnapshotError::TooLong { most, .. } if most == MOST_NAME as u64), "{error}");
        let mut bytes = vec![0; 16];
        put_str(&mut bytes, &"x".repeat(MOST_NAME + 1));
        bytes.extend_from_slice(&[0; 4 + 36]);
        assert_eq!(Header::from_bytes(&bytes), None);
        bytes.drain(16 + 3..16 + 3 + MOST_NAME + 1);
        bytes.splice(16..16 + 3, [0]);
        assert!(Header::from_bytes(&bytes).is_some(), "but for the name all was right");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 256 }) })]

        #[test]
        fn any_bytes_are_read_without_panic(
            nanos in any::<i128>(),
            rest in prop::collection::vec(0..4_u8, 0..64),
            shift in 0..128_u32,
        ) {
            let bytes = [&(nanos >> shift).to_le_bytes()[..], &rest].concat();
            if let Some(header) = Header::from_bytes(&bytes) {
                prop_assert_eq!(Header::from_bytes(&header.to_bytes().unwrap()), Some(header));
            }
        }
    }
}
