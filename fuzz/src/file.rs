//! A snapshot taken apart, so that it can be changed and put together again with the checksums that belong to it.
//!
//! This is the format a second time, from its description: were it larder's own code, both would share their mistakes.

const PREAMBLE: usize = 10;
const HEADER: u8 = 0;
const END: u8 = 0xff;

/// A file's header and its records, each with its kind.
#[derive(Clone, Debug, PartialEq)]
pub struct File {
    pub preamble: Vec<u8>,
    pub header: Vec<u8>,
    pub records: Vec<(u8, Vec<u8>)>,
    /// Records in a block at most.
    pub in_block: usize,
    /// What the end says too much.
    pub miscounted: u64,
    /// What follows the end.
    pub behind: Vec<u8>,
}

impl File {
    /// A file that is whole.
    pub fn parse(bytes: &[u8]) -> Self {
        let (preamble, mut rest) = bytes.split_at(PREAMBLE);
        let mut file = Self {
            preamble: preamble.to_vec(),
            header: Vec::new(),
            records: Vec::new(),
            in_block: usize::MAX,
            miscounted: 0,
            behind: Vec::new(),
        };
        while let [kind, a, b, c, d, behind @ ..] = rest {
            let len = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
            let (mut payload, behind) = behind.split_at(len);
            rest = &behind[4..];
            match *kind {
                HEADER => file.header = payload.to_vec(),
                END => break,
                kind => {
                    while !payload.is_empty() {
                        let len = varint(&mut payload) as usize;
                        let (record, behind) = payload.split_at(len);
                        file.records.push((kind, record.to_vec()));
                        payload = behind;
                    }
                }
            }
        }
        file
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.preamble.clone();
        let mut chain = crc32fast::hash(&bytes);
        let (mut blocks, mut records) = (0, 0_u64);
        let mut block = |kind: u8, payload: &[u8]| {
            let start = bytes.len();
            bytes.push(kind);
            bytes.extend((payload.len() as u32).to_le_bytes());
            bytes.extend(payload);
            let mut hasher = crc32fast::Hasher::new();
            hasher.update(&chain.to_le_bytes());
            hasher.update(&bytes[start..]);
            chain = hasher.finalize();
            bytes.extend(chain.to_le_bytes());
        };
        block(HEADER, &self.header);
        blocks += 1;
        for same in self.records.chunk_by(|(a, _), (b, _)| a == b) {
            for some in same.chunks(self.in_block.max(1)) {
                let mut payload = Vec::new();
                for (_, record) in some {
                    put_varint(&mut payload, record.len() as u64);
                    payload.extend(record);
                    records += 1;
                }
                block(some[0].0, &payload);
                blocks += 1;
            }
        }
        let totals = [u64::to_le_bytes(blocks), u64::to_le_bytes(records.wrapping_add(self.miscounted))];
        block(END, totals.as_flattened());
        bytes.extend(&self.behind);
        bytes
    }
}

/// Of a file that is whole.
fn varint(from: &mut &[u8]) -> u64 {
    let mut number = 0;
    for place in 0.. {
        let (&byte, rest) = from.split_first().expect("a file that is whole");
        *from = rest;
        number |= u64::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            break;
        }
    }
    number
}

pub fn put_varint(into: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        into.push(number as u8 | 0x80);
        number >>= 7;
    }
    into.push(number as u8);
}
