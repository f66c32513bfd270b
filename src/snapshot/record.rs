//! What stands in a file after its header.

use super::fields::{Fields, put_bytes, put_u8, put_u64, put_varint};
use crate::segment::{Back, Given, Kept, Rest};
use crate::tag::Tag;

/// An entry. Pinned ones come first, then the others from the hottest to the coldest.
pub(super) const ENTRY: u8 = 1;
/// Some of the words that the policy of a segment has beside the entries.
pub(super) const WORDS: u8 = 2;
/// All words are there.
pub(super) const COMPLETE: u8 = 3;

/// Words in a record.
const WORDS_AT_ONCE: usize = 1 << 12;

const WEIGHT: u16 = 1;
const PINNED: u16 = 1 << 1;
const TAGS: u16 = 1 << 2;
const DEADLINE: u16 = 1 << 3;
const END: u16 = 1 << 4;
const IDLE: u16 = 1 << 5;
const READS: u16 = 1 << 6;
const AGE: u16 = 1 << 7;
const TTL: u16 = 1 << 8;
const TOOK: u16 = 1 << 9;
/// Weight and tags are the entry's own.
const OWN_WEIGHT: u16 = 1 << 10;
const OWN_TAGS: u16 = 1 << 11;

/// Appends all of an entry but its value, which comes last.
pub(super) fn put_entry(into: &mut Vec<u8>, key: &[u8], kept: &Kept) {
    let Kept { weight, is_pinned, tags, given, back: Back { note, mark, turn, rest } } = kept;
    if *weight == 1 && tags.is_empty() && *given == Given::NOTHING && *rest == Rest::ENDLESS {
        // As most are.
        into.extend((if *is_pinned { PINNED } else { 0 }).to_le_bytes());
    } else {
        put_rest(into, kept);
    }
    put_varint(into, note.unwrap_or(0));
    put_varint(into, u64::from(*turn));
    put_u8(into, *mark);
    tags.iter().for_each(|tag| put_u64(into, tag.number()));
    put_bytes(into, key);
}

/// Appends the flags and the numbers that they announce.
fn put_rest(into: &mut Vec<u8>, kept: &Kept) {
    let Kept { weight, is_pinned, tags, given, back: Back { rest, .. } } = kept;
    let place = into.len();
    into.extend([0; 2]);
    let mut flags = 0;
    let marks = [(PINNED, *is_pinned), (OWN_WEIGHT, given.weight), (OWN_TAGS, given.tags)];
    marks.into_iter().filter(|mark| mark.1).for_each(|mark| flags |= mark.0);
    let mut put = |flag, is_there: bool, number: u64| {
        if is_there {
            flags |= flag;
            put_varint(into, number);
        }
    };
    put(WEIGHT, *weight != 1, *weight);
    put(TAGS, !tags.is_empty(), tags.len() as u64);
    put(DEADLINE, rest.deadline != Rest::ENDLESS.deadline, rest.deadline);
    put(END, rest.end != rest.deadline, rest.end);
    put(IDLE, rest.idle.is_some(), rest.idle.unwrap_or(0));
    put(READS, rest.reads.is_some(), rest.reads.unwrap_or(0));
    put(AGE, rest.age.is_some(), rest.age.unwrap_or(0));
    put(TTL, rest.ttl.is_some(), rest.ttl.unwrap_or(0));
    put(TOOK, rest.took != 0, rest.took);
    into[place..place + 2].copy_from_slice(&u16::to_le_bytes(flags));
}

/// Gives the bytes of an entry's key and of its value. None if these are not of an entry.
pub(super) fn entry(record: &[u8]) -> Option<(&[u8], &[u8], Kept)> {
    let mut fields = Fields::new(record);
    let flags = u16::from_le_bytes([fields.u8()?, fields.u8()?]);
    let mut number = |flag, otherwise: u64| if flags & flag == 0 { Some(otherwise) } else { fields.varint() };
    let weight = number(WEIGHT, 1)?;
    let tags = number(TAGS, 0)?;
    let deadline = number(DEADLINE, Rest::ENDLESS.deadline)?;
    let end = number(END, deadline)?;
    let idle = number(IDLE, 0)?;
    let reads = number(READS, 0)?;
    let age = number(AGE, 0)?;
    let ttl = number(TTL, 0)?;
    let took = number(TOOK, 0)?;
    let there = |flag, number| (flags & flag != 0).then_some(number);
    let rest = Rest {
        deadline,
        end,
        idle: there(IDLE, idle),
        ttl: there(TTL, ttl),
        reads: there(READS, reads),
        age: there(AGE, age),
        took,
    };
    let note = Some(fields.varint()?);
    let turn = u32::try_from(fields.varint()?).unwrap_or(u32::MAX);
    let mark = fields.u8()?;
    if tags > fields.rest().len() as u64 / 8 {
        return None;
    }
    let tags = (0..tags).map(|_| fields.u64().map(Tag::from)).collect::<Option<_>>()?;
    let key = fields.bytes()?;
    let is_pinned = flags & PINNED != 0;
    let given = Given { weight: flags & OWN_WEIGHT != 0, tags: flags & OWN_TAGS != 0 };
    Some((key, fields.rest(), Kept { weight, is_pinned, tags, given, back: Back { note, mark, turn, rest } }))
}

/// The records of the words of one segment's policy.
pub(super) fn records_of_words(segment: u32, words: &[u64]) -> impl Iterator<Item = Vec<u8>> {
    // Also if there are none: the next segment's come after them.
    let empty = words.is_empty().then_some(words);
    words.chunks(WORDS_AT_ONCE).chain(empty).map(move |words| {
        let mut record = Vec::new();
        put_varint(&mut record, u64::from(segment));
        words.iter().for_each(|&word| put_u64(&mut record, word));
        record
    })
}

/// Adds the words of a record to those of its segment, which come in their order. None if it is no such record.
pub(super) fn add_words(record: &[u8], all: &mut Vec<Vec<u64>>) -> Option<()> {
    let mut fields = Fields::new(record);
    let segment = usize::try_from(fields.varint()?).ok()?;
    if segment == all.len() {
        all.push(Vec::new());
    }
    let words = all.get_mut(segment)?;
    while !fields.rest().is_empty() {
        words.push(fields.u64()?);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kept() -> impl Strategy<Value = Kept> {
        let number = prop_oneof![Just(0), Just(1), Just(u64::MAX), any::<u64>()];
        let optional = || proptest::option::of(number.clone());
        let own = (any::<bool>(), any::<bool>(), optional());
        let rest = (number.clone(), number.clone(), optional(), optional(), optional(), number.clone());
        let tags = proptest::collection::vec(any::<u64>().prop_map(Tag::from), 0..4);
        (number.clone(), any::<bool>(), tags, own, number, any::<(u8, u32)>(), rest).prop_map(
            |(weight, is_pinned, tags, own, note, (mark, turn), (deadline, end, idle, reads, age, took))| {
                let given = Given { weight: own.0, tags: own.1 };
                let rest = Rest { deadline, end, idle, ttl: own.2, reads, age, took };
                Kept { weight, is_pinned, tags, given, back: Back { note: Some(note), mark, turn, rest } }
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 512 }))]

        #[test]
        fn an_entry_comes_back(key: Vec<u8>, value: Vec<u8>, kept in kept()) {
            let mut record = Vec::new();
            put_entry(&mut record, &key, &kept);
            record.extend(&value);
            prop_assert_eq!(entry(&record), Some((&key[..], &value[..], kept)));
        }

        #[test]
        fn any_bytes_are_read(record: Vec<u8>) {
            let _ = entry(&record);
            let mut words = Vec::new();
            let _ = add_words(&record, &mut words);
            prop_assert!(words.iter().map(|words| words.len() * 8).sum::<usize>() <= record.len());
        }

        #[test]
        fn words_come_back(words in proptest::collection::vec(any::<u64>(), 0..3 * WORDS_AT_ONCE)) {
            let mut again = Vec::new();
            for record in records_of_words(0, &[]).chain(records_of_words(1, &words)) {
                prop_assert_eq!(add_words(&record, &mut again), Some(()));
            }
            prop_assert_eq!(again, [Vec::new(), words]);
        }
    }
}
