use super::*;
use crate::fault::Offset;

/// `[1, 2, 3]` as little-endian `u64`s, by the `zstd` tool, with its checksum at the end.
const ZSTD: &[u8] = &[
    40, 181, 47, 253, 4, 88, 165, 0, 0, 96, 1, 0, 2, 0, 3, 0, 0, 0, 0, 0, 0, 0, 2, 0, 96, 224, 1, 96, 1, 250,
    205, 192, 229,
];

fn text(content: &'static [u8]) -> Result<Requests, Found> {
    parse(Input::new(content, Compression::None), Format::Text, None)
}

fn lis(content: &'static [u8]) -> Result<Requests, Found> {
    parse(Input::new(content, Compression::None), Format::Lis, None)
}

fn numbers(content: Vec<u8>, compression: Compression, limit: Option<usize>) -> Result<Requests, Found> {
    parse(Input::new(std::io::Cursor::new(content), compression), Format::U64, limit)
}

fn little_endian(keys: &[u64]) -> Vec<u8> {
    keys.iter().flat_map(|key| key.to_le_bytes()).collect()
}

fn byte(bytes: u64) -> Place {
    Place::Byte(Offset::OfFile(bytes))
}

fn line(number: u64, bytes: u64) -> Place {
    Place::Line(number, Offset::OfFile(bytes))
}

#[test]
fn keys_are_numbered_as_they_come() {
    let requests = numbers(little_endian(&[u64::MAX, 7, u64::MAX, 0]), Compression::None, None).unwrap();
    assert_eq!((requests.keys, requests.distinct), (vec![0, 1, 0, 2], 3));
    let long: Vec<u64> = (0..20_000).collect();
    assert_eq!(numbers(little_endian(&long), Compression::None, None).unwrap().distinct, 20_000);
}

#[test]
fn a_limit_stops_before_what_lies_behind() {
    let mut content = little_endian(&[1, 2, 3]);
    content.push(0);
    assert_eq!(numbers(content, Compression::None, Some(2)).unwrap().keys, [0, 1]);
    let limited = |content: &'static [u8], format| {
        parse(Input::new(content, Compression::None), format, Some(2)).unwrap().keys
    };
    assert_eq!(limited(b"a\nb\n\xff", Format::Text), [0, 1]);
    assert_eq!(limited(b"5 9 0 0\n", Format::Lis), [0, 1]);
}

#[test]
fn a_cut_key_is_found() {
    let mut content = little_endian(&[1, 2]);
    content.extend([0; 3]);
    let found = numbers(content, Compression::None, None).unwrap_err();
    assert_eq!(found, Found::new(byte(16), "cut off: a key has 8 bytes, here are 3"));
}

#[test]
fn zstd_is_decompressed_frame_after_frame() {
    assert_eq!(numbers(ZSTD.to_vec(), Compression::Zstd, None).unwrap().keys, [0, 1, 2]);
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9], ZSTD].concat();
    let frames = [ZSTD, &skippable].concat();
    assert_eq!(numbers(frames, Compression::Zstd, None).unwrap().keys, [0, 1, 2, 0, 1, 2]);
}

#[test]
fn no_damage_to_zstd_goes_unnoticed() {
    for end in 1..ZSTD.len() {
        let found = numbers(ZSTD[..end].to_vec(), Compression::Zstd, None).unwrap_err();
        assert!(found.reason.starts_with("broken zstd"), "cut at {end}: {found:?}");
        assert!(
            matches!(found.place, Place::Byte(Offset::OfFile(at)) if at <= end as u64),
            "cut at {end}: {found:?}"
        );
    }
    let trailing = [ZSTD, b"xyzw"].concat();
    let found = numbers(trailing, Compression::Zstd, None).unwrap_err();
    assert!(matches!(found.place, Place::Byte(Offset::OfFile(at)) if at >= ZSTD.len() as u64), "{found:?}");
    // Behind the frame's header, where one bit means nothing: what else the header tells, the checksum covers.
    for at in 6..ZSTD.len() {
        let mut damaged = ZSTD.to_vec();
        damaged[at] ^= 0x10;
        let result = numbers(damaged, Compression::Zstd, None);
        assert!(result.is_err(), "byte {at} changed: {result:?}");
    }
}

#[test]
fn any_token_is_a_key() {
    let requests = text("\u{feff}GET:/a\r\n\n 7 \n07\nGET:/a\nλ".as_bytes()).unwrap();
    assert_eq!(requests.keys, [0, 1, 2, 0, 3]);
}

#[test]
fn text_faults_have_a_place() {
    assert_eq!(text(b"a\nbc\xffd\n").unwrap_err().place, line(2, 4));
    assert_eq!(text(b"a\n b  c\n").unwrap_err().place, line(2, 6));
    assert_eq!(text(b"").unwrap_err(), Found::new(byte(0), "the trace is empty"));
    assert_eq!(text(b"\n\n").unwrap_err().place, byte(2));
}

#[test]
fn block_ranges_are_expanded() {
    assert_eq!(lis(b"10 3 0 1\n12 1 0 2\n\n10 0 0 3\n9 2 0 4").unwrap().keys, [0, 1, 2, 2, 3, 0]);
}

#[test]
fn block_range_faults_have_a_place() {
    assert_eq!(lis(b"1 1 0 0\n1 x 0 0\n").unwrap_err().place, line(2, 10));
    assert_eq!(lis(b"1 1 0\n").unwrap_err().place, line(1, 0));
    assert_eq!(lis(b"1 1 0 0 0\n").unwrap_err().place, line(1, 0));
    assert_eq!(lis(b"1 -1 0 0\n").unwrap_err().place, line(1, 2));
    assert_eq!(lis(b"1 1 0 0\n18446744073709551615 2 0 0\n").unwrap_err().place, line(2, 8));
    assert_eq!(lis(b"0 99999999999 0 0\n").unwrap_err().place, line(1, 0));
    assert_eq!(lis(b"\xfe").unwrap_err().place, line(1, 0));
    assert_eq!(lis(b"").unwrap_err().place, byte(0));
}

#[test]
fn names_tell_the_format() {
    let of = |name: &str| kind(Path::new(name));
    assert_eq!(of("a/b.u64"), (Format::U64, Compression::None));
    assert_eq!(of("b.u64.zst"), (Format::U64, Compression::Zstd));
    assert_eq!(of("b.lis"), (Format::Lis, Compression::None));
    assert_eq!(of("requests.log"), (Format::Text, Compression::None));
    assert_eq!(name_of(Path::new("a/web.12.u64.zst")), "web.12");
    assert_eq!(name_of(Path::new("requests.log")), "requests.log");
    assert!(stem("README.md").is_none() && stem("field.tsv").is_none() && stem("u64").is_none());
}

#[test]
fn what_is_not_there_is_said() {
    let fault = files(Path::new("no/such/folder")).unwrap_err().to_string();
    assert!(fault.starts_with("no/such/folder: "), "{fault}");
    let fault =
        files(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/simulate"))).unwrap_err().to_string();
    assert!(fault.contains("no traces in this folder"), "{fault}");
}
