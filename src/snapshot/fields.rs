//! Numbers and strings of which records are made.

/// Bytes of the longest variable-length number.
pub(crate) const VARINT_MOST: usize = 10;

/// Appends a number in as few bytes as it takes: seven bits each, the lowest first, and a high bit where more follow.
#[inline]
pub(crate) fn put_varint(into: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        into.push(number as u8 | 0x80);
        number >>= 7;
    }
    into.push(number as u8);
}

/// How many bytes [`put_varint`] appends.
#[inline]
pub(crate) fn varint_len(number: u64) -> usize {
    (64 - (number | 1).leading_zeros()).div_ceil(7) as usize
}

pub(crate) fn put_u8(into: &mut Vec<u8>, number: u8) {
    into.push(number);
}

pub(crate) fn put_u32(into: &mut Vec<u8>, number: u32) {
    into.extend_from_slice(&number.to_le_bytes());
}

pub(crate) fn put_u64(into: &mut Vec<u8>, number: u64) {
    into.extend_from_slice(&number.to_le_bytes());
}

pub(crate) fn put_i128(into: &mut Vec<u8>, number: i128) {
    into.extend_from_slice(&number.to_le_bytes());
}

/// Appends bytes after their number.
#[inline]
pub(crate) fn put_bytes(into: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(into, bytes.len() as u64);
    into.extend_from_slice(bytes);
}

pub(crate) fn put_str(into: &mut Vec<u8>, text: &str) {
    put_bytes(into, text.as_bytes());
}

/// Reads what the functions above have appended, in the same order. It gives None where the bytes are none of that, and
/// then says no more about the rest.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What was not read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Some if all was read.
    pub(crate) fn end(&self) -> Option<()> {
        self.rest.is_empty().then_some(())
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*array)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    #[inline]
    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn i128(&mut self) -> Option<i128> {
        self.array().map(i128::from_le_bytes)
    }

    /// A number of variable length. Only its shortest form counts.
    #[inline]
    pub(crate) fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for place in 0..VARINT_MOST {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            number |= bits << (7 * place);
            if byte < 0x80 {
                let short = place == 0 || byte != 0;
                let fits = number >> (7 * place) == bits;
                return (short && fits).then_some(number);
            }
        }
        None
    }

    /// Bytes after their number.
    #[inline]
    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.varint()?).ok()?;
        let (bytes, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(bytes)
    }

    pub(crate) fn str(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_come_back_in_order() {
        let mut bytes = Vec::new();
        put_u8(&mut bytes, 7);
        put_u32(&mut bytes, u32::MAX - 1);
        put_u64(&mut bytes, u64::MAX - 1);
        put_i128(&mut bytes, -1);
        put_varint(&mut bytes, 300);
        put_bytes(&mut bytes, &[]);
        put_str(&mut bytes, "tée");
        let mut fields = Fields::new(&bytes);
        assert_eq!(fields.end(), None);
        assert_eq!(fields.u8(), Some(7));
        assert_eq!(fields.u32(), Some(u32::MAX - 1));
        assert_eq!(fields.u64(), Some(u64::MAX - 1));
        assert_eq!(fields.i128(), Some(-1));
        assert_eq!(fields.varint(), Some(300));
        assert_eq!(fields.bytes(), Some(&[][..]));
        assert_eq!(fields.str(), Some("tée"));
        assert_eq!(fields.end(), Some(()));
        assert_eq!(fields.rest(), [0; 0]);
    }

    #[test]
    fn what_is_not_there_is_none() {
        for len in 0..8 {
            let bytes = [1; 8];
            assert_eq!(Fields::new(&bytes[..len]).u64(), None);
            assert_eq!(Fields::new(&bytes[..len]).u32().is_some(), len >= 4);
            assert_eq!(Fields::new(&bytes[..len]).u8().is_some(), len >= 1);
            assert_eq!(Fields::new(&bytes[..len]).bytes().is_some(), len >= 2);
        }
        assert_eq!(Fields::new(&[2, b'a']).bytes(), None);
        assert_eq!(Fields::new(&[1, 0xff]).str(), None);
        assert_eq!(Fields::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0]).bytes(), None);
    }

    #[test]
    fn numbers_have_one_form() {
        assert_eq!(Fields::new(&[0x80, 0]).varint(), None, "longer than it needs to be");
        assert_eq!(Fields::new(&[0xff; 9]).varint(), None, "no end");
        assert_eq!(Fields::new(&[0xff; 11]).varint(), None, "too long");
        let mut most = [0xff; 10];
        most[9] = 1;
        assert_eq!(Fields::new(&most).varint(), Some(u64::MAX));
        most[9] = 2;
        assert_eq!(Fields::new(&most).varint(), None, "more than 64 bits");
        for bits in 0..64 {
            for number in [1_u64 << bits, (1 << bits) - 1, u64::MAX >> bits] {
                let mut bytes = Vec::new();
                put_varint(&mut bytes, number);
                assert_eq!(bytes.len(), varint_len(number), "{number}");
                assert_eq!(Fields::new(&bytes).varint(), Some(number));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(if cfg!(miri) { 8 } else { 512 }) })]

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..24)) {
            let mut fields = Fields::new(&bytes);
            if let Some(number) = fields.varint() {
                let mut again = Vec::new();
                put_varint(&mut again, number);
                prop_assert_eq!(&bytes[..again.len()], &again[..]);
            }
            let _ = Fields::new(&bytes).str();
        }
    }
}
