use super::*;
use crate::fault::Offset;
use csv::Layout;
use std::io::Cursor;

/// `[1, 2, 3]` as little-endian `u64`s, by the `zstd` tool, with its checksum at the end.
const ZSTD: &[u8] = &[
    40, 181, 47, 253, 4, 88, 165, 0, 0, 96, 1, 0, 2, 0, 3, 0, 0, 0, 0, 0, 0, 0, 2, 0, 96, 224, 1, 96, 1, 250,
    205, 192, 229,
];

/// `[1, 2, 3]` by `gzip -n`, and by `xz --check=crc32`.
const GZIP: &[u8] = &[
    31, 139, 8, 0, 0, 0, 0, 0, 0, 3, 99, 100, 128, 0, 38, 40, 205, 12, 165, 1, 135, 141, 203, 43, 24, 0, 0, 0,
];
const XZ: &[u8] = &[
    253, 55, 122, 88, 90, 0, 0, 1, 105, 34, 222, 54, 2, 0, 33, 1, 22, 0, 0, 0, 116, 47, 229, 163, 224, 0, 23,
    0, 12, 93, 0, 0, 128, 61, 173, 207, 43, 33, 244, 226, 8, 0, 0, 0, 135, 141, 203, 43, 0, 1, 36, 24, 219,
    204, 2, 194, 144, 66, 153, 13, 1, 0, 0, 0, 0, 1, 89, 90,
];

fn text(content: &'static [u8]) -> Result<Requests, Found> {
    parse(Input::new(content, Compression::None), Format::Text, None)
}

fn lis(content: &'static [u8]) -> Result<Requests, Found> {
    parse(Input::new(content, Compression::None), Format::Lis, None)
}

fn lirs(content: &'static [u8]) -> Result<Requests, Found> {
    parse(Input::new(content, Compression::None), Format::Lirs, None)
}

fn csv(content: &str, layout: Layout) -> Result<Requests, Found> {
    let content = Cursor::new(content.as_bytes().to_vec());
    parse(Input::new(content, Compression::None), Format::Csv(layout), None)
}

fn column(key: usize) -> Layout {
    Layout::Column { key, delimiter: ',' }
}

fn oracle(records: &[(u32, u64, u32, i64)]) -> Vec<u8> {
    let bytes = |&(time, key, size, next): &(u32, u64, u32, i64)| {
        [&time.to_le_bytes()[..], &key.to_le_bytes(), &size.to_le_bytes(), &next.to_le_bytes()].concat()
    };
    records.iter().flat_map(bytes).collect()
}

fn read_oracle(content: Vec<u8>) -> Result<Requests, Found> {
    parse(Input::new(Cursor::new(content), Compression::None), Format::OracleGeneral, None)
}

/// A folder for one test, removed with it.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("larder-simulate-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn numbers(content: Vec<u8>, compression: Compression, limit: Option<usize>) -> Result<Requests, Found> {
    parse(Input::new(Cursor::new(content), compression), Format::U64, limit)
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
    assert_eq!(found, Found::new(byte(16), "cut off: a request has 8 bytes, here are 3"));
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
fn gzip_and_xz_are_decompressed_one_after_another() {
    for (compressed, compression) in [(GZIP, Compression::Gzip), (XZ, Compression::Xz)] {
        assert_eq!(numbers(compressed.to_vec(), compression, None).unwrap().keys, [0, 1, 2]);
        assert_eq!(numbers(compressed.repeat(2), compression, None).unwrap().keys, [0, 1, 2, 0, 1, 2]);
    }
}

#[test]
fn no_damage_to_gzip_and_xz_goes_unnoticed() {
    for (compressed, compression, name) in [(GZIP, Compression::Gzip, "gzip"), (XZ, Compression::Xz, "xz")] {
        for end in 1..compressed.len() {
            let found = numbers(compressed[..end].to_vec(), compression, None).unwrap_err();
            assert!(found.reason.starts_with(&format!("broken {name}: ")), "cut at {end}: {found:?}");
        }
        let trailing = [compressed, b"xyzw"].concat();
        assert!(numbers(trailing, compression, None).is_err());
        // Behind gzip's header, whose time and system mean nothing to the content.
        for at in 10..compressed.len() {
            let mut damaged = compressed.to_vec();
            damaged[at] ^= 0x10;
            let result = numbers(damaged, compression, None);
            assert!(result.is_err(), "{name}, byte {at} changed: {result:?}");
        }
    }
}

#[test]
fn a_file_is_decompressed_whether_or_not_its_name_says_so() {
    let folder = Folder::new("compressed");
    for (compressed, ending) in [(ZSTD, ".zst"), (GZIP, ".gz"), (XZ, ".xz")] {
        for name in ["a.u64".to_owned(), format!("a.u64{ending}"), format!("A.U64{ending}").to_uppercase()] {
            let path = folder.file(&name, compressed);
            let trace = Trace::read(&path, None, None).unwrap();
            assert_eq!(trace.keys(), [0, 1, 2], "{name}");
            assert_eq!(trace.name().to_lowercase(), "a");
        }
    }
}

#[test]
fn keys_of_oracle_general_are_its_object_ids() {
    let content = oracle(&[(5, 9, 100, 3), (5, 7, 1, -1), (6, 8, 1, i64::MAX), (9, 9, 100, 4)]);
    let requests = read_oracle(content.clone()).unwrap();
    assert_eq!(requests.keys, [0, 1, 2, 0]);
    assert!(requests.notes.is_empty());
    let found = read_oracle(content[..50].to_vec()).unwrap_err();
    assert_eq!(found, Found::new(byte(48), "cut off: a request has 24 bytes, here are 2"));
    let folder = Folder::new("oracle");
    let path = folder.file("w1.oracleGeneral.bin", &content);
    assert_eq!(Trace::read(&path, None, None).unwrap().keys(), [0, 1, 2, 0]);
}

#[test]
fn what_breaks_the_promises_of_oracle_general_is_refused() {
    for content in [
        oracle(&[(5, 9, 1, -1), (4, 9, 1, -1)]),
        oracle(&[(5, 9, 1, 1), (5, 9, 1, 1)]),
        oracle(&[(5, 9, 1, -2)]),
        little_endian(&[u64::MAX, 7, 3, 1, 2, 3]),
    ] {
        let found = read_oracle(content).unwrap_err();
        assert!(
            found.reason.starts_with("no oracleGeneral: ") && found.reason.contains("--format"),
            "{found:?}"
        );
    }
    let mut records: Vec<_> = (0..1_000).map(|at| (at, u64::from(at % 50), 1, -1)).collect();
    records[500].0 = 3;
    let notes = read_oracle(oracle(&records)).unwrap().notes;
    assert!(notes.len() == 1 && notes[0].starts_with("1 of 1000 records"), "{notes:?}");
}

#[test]
fn oracle_general_by_another_name_is_noticed() {
    let records: Vec<_> =
        (0..500_u32).map(|at| (at / 3, u64::from(at % 50) << 40, 100, i64::from(at) + 50)).collect();
    let content = oracle(&records);
    let notes = numbers(content.clone(), Compression::None, None).unwrap().notes;
    assert!(notes.iter().any(|note| note.contains("--format oracle-general")), "{notes:?}");
    assert!(parse(Input::new(Cursor::new(content), Compression::None), Format::Text, None).is_err());
    for keys in
        [(0..1_000).collect::<Vec<u64>>(), (0..1_000).map(|n: u64| n.wrapping_mul(u64::MAX / 7)).collect()]
    {
        let notes = numbers(little_endian(&keys), Compression::None, None).unwrap().notes;
        assert!(!notes.iter().any(|note| note.contains("oracle")), "{notes:?}");
    }
}

#[test]
fn text_by_the_name_of_numbers_is_refused() {
    let found = numbers(b"12345\n678901\n123".to_vec(), Compression::None, None).unwrap_err();
    assert!(found.reason.contains("--format text"), "{found:?}");
    let found = text(b"a\n\x01\0\0\0\0\0\0\0").unwrap_err();
    assert_eq!(found.place, line(2, 2));
    assert!(found.reason.contains("no text"), "{found:?}");
}

#[test]
fn keys_that_hardly_repeat_or_hardly_differ_are_noticed() {
    let notes = |keys: &[u64]| numbers(little_endian(keys), Compression::None, None).unwrap().notes;
    let once: Vec<u64> = (0..1_000).collect();
    assert!(notes(&once)[0].starts_with("0 of 1000 requests ask for a key"), "{:?}", notes(&once));
    let few: Vec<u64> = (0..9).cycle().take(1_000).collect();
    assert!(notes(&few)[0].starts_with("1000 requests ask for 9 keys"), "{:?}", notes(&few));
    assert!(notes(&once[..999]).is_empty());
    let usual: Vec<u64> = (0..900).chain(0..100).collect();
    assert!(notes(&usual).is_empty());
}

#[test]
fn a_comma_is_refused_and_the_format_named() {
    let found = text(b"7\n1,8,100\n").unwrap_err();
    assert_eq!(found.place, line(2, 3));
    assert!(found.reason.contains("--format csv --column N"), "{found:?}");
    assert!(text(b"1 8 100\n").unwrap_err().reason.contains("--format csv --column N"));
    let folder = Folder::new("comma");
    let path = folder.file("requests.csv", b"1,8,100\n");
    let fault = Trace::read(&path, None, None).unwrap_err().to_string();
    assert!(fault.contains("--format csv --column N") && fault.contains("requests.csv: "), "{fault}");
    assert_eq!(Trace::read(&path, Some(Format::Csv(column(2))), None).unwrap().keys(), [0]);
}

#[test]
fn the_key_of_csv_is_in_its_column() {
    let requests = csv("time,object,size\n1,7,100\n2,8,100\r\n\n2, 7 ,100", column(2)).unwrap();
    assert_eq!(requests.keys, [0, 1, 0]);
    assert_eq!(requests.notes, ["line 1, \"time,object,size\", has no number: skipped as a header"]);
    let requests = csv("1,a\n2,b\n3,a\n", column(2)).unwrap();
    assert_eq!((requests.keys, requests.notes.len()), (vec![0, 1, 0], 0));
    assert_eq!(csv("\"a,\"\"b\",1\n\"a,\"\"c\",2\n\"a,\"\"b\",3", column(1)).unwrap().keys, [0, 1, 0]);
    let tabs = Layout::Column { key: 1, delimiter: '\t' };
    assert_eq!(csv("1,2\t5\n1,3\t5\n1,2\t6\n", tabs).unwrap().keys, [0, 1, 0]);
}

#[test]
fn csv_faults_have_a_place() {
    let fault = |content, key| csv(content, column(key)).unwrap_err();
    assert_eq!(fault("1,2\n3\n", 1).place, line(2, 4));
    assert_eq!(fault("1,2\n", 3), Found::new(line(1, 0), "2 columns, so none is --column 3"));
    assert_eq!(fault("1,2\n1,\n", 2), Found::new(line(2, 6), "the key is empty"));
    assert_eq!(fault("1,\"2\n", 2).place, line(1, 2));
    assert_eq!(fault("\"1\"2,3\n", 2).place, line(1, 3));
    assert_eq!(fault("a,b\n", 2).reason, "the trace is empty");
}

#[test]
fn a_column_of_times_is_noticed() {
    let lines: String = (0..1_000).map(|at| format!("{},{}\n", at / 20, at % 70)).collect();
    let notes = csv(&lines, column(1)).unwrap().notes;
    assert!(notes.iter().any(|note| note.contains("as times do")), "{notes:?}");
    assert!(csv(&lines, column(2)).unwrap().notes.is_empty());
}

#[test]
fn libcachesims_columns_are_time_object_size() {
    let requests = csv("time,obj,size\n0.5,x,10\n0.7,y,5\n1,x,10\n", Layout::LibCacheSim).unwrap();
    assert_eq!((requests.keys, requests.notes.len()), (vec![0, 1, 0], 1));
    assert_eq!(csv("1,x,10,9\n", Layout::LibCacheSim).unwrap().keys, [0]);
    for content in ["x,1,10\n", "1,x\n", "1,10,x\n"] {
        let found = csv(content, Layout::LibCacheSim).unwrap_err();
        assert!(found.reason.contains("--format csv --column N"), "{content}: {found:?}");
    }
}

#[test]
fn requests_of_twitter_are_its_reads() {
    let content = "0,ab,c,4,10,1,get,0\n0,ab,c,4,10,1,set,60\n1,d,1,5,2,gets,0\n1,ab,c,4,10,7,get,0\n1,d,1,5,2,delete,0\n";
    let requests = csv(content, Layout::Twitter).unwrap();
    assert_eq!(requests.keys, [0, 1, 0]);
    assert!(requests.notes.len() == 1 && requests.notes[0].starts_with("2 lines that do not read"));
    for (content, at) in [("1,k,1,1,1,get\n", 0), ("1,k,1,1,1,fetch,0\n", 10), ("1,k,x,1,1,get,0\n", 4)] {
        assert_eq!(csv(content, Layout::Twitter).unwrap_err().place, line(1, at), "{content}");
    }
    assert_eq!(csv("1,k,1,1,1,set,0\n", Layout::Twitter).unwrap_err().reason, "the trace is empty");
}

#[test]
fn a_star_ends_the_traces_of_lirs() {
    let requests = lirs(b"5\n 7\n5\n*\n\n").unwrap();
    assert_eq!((requests.keys, requests.notes.len()), (vec![0, 1, 0], 0));
    let requests = lirs(b"5\n7\n").unwrap();
    assert!(requests.notes[0].starts_with("no line * at the end"), "{:?}", requests.notes);
    assert_eq!(lirs(b"5\n*\n7\n").unwrap_err().place, line(3, 4));
    assert_eq!(lirs(b"5\nx\n").unwrap_err().place, line(2, 2));
    assert_eq!(lirs(b"5 1\n").unwrap_err().place, line(1, 2));
    let requests = text(b"5\n7\n*\n").unwrap();
    assert!(requests.notes[0].contains("--format lirs"), "{:?}", requests.notes);
    assert!(text(b"*\n7\n").unwrap().notes.is_empty());
}

#[test]
fn a_folder_tells_what_it_skips() {
    let folder = Folder::new("folder");
    folder.file("b.u64.gz", GZIP);
    for name in ["a.lis", "c.oracleGeneral.zst", "README.md", "d.u64.bz2", "u64"] {
        folder.file(name, b"");
    }
    let found = files(&folder.0).unwrap();
    let names = |paths: &[PathBuf]| -> Vec<String> {
        paths.iter().map(|path| path.file_name().unwrap().display().to_string()).collect()
    };
    assert_eq!(names(&found.traces), ["a.lis", "b.u64.gz", "c.oracleGeneral.zst"]);
    assert_eq!(names(&found.skipped), ["README.md", "d.u64.bz2", "u64"]);
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
    let of = |name: &str| {
        let (name, compression) = without_compression(Path::new(name));
        (Format::of(&name).unwrap(), compression)
    };
    assert_eq!(of("a/b.u64"), (Format::U64, Compression::None));
    assert_eq!(of("b.u64.zst"), (Format::U64, Compression::Zstd));
    assert_eq!(of("b.oracleGeneral.zst"), (Format::OracleGeneral, Compression::Zstd));
    assert_eq!(of("b.oracleGeneral.bin.xz"), (Format::OracleGeneral, Compression::Xz));
    assert_eq!(of("b.lis"), (Format::Lis, Compression::None));
    assert_eq!(of("b.trc.gz"), (Format::Lirs, Compression::Gzip));
    assert_eq!(of("requests.log"), (Format::Text, Compression::None));
    assert_eq!(name_of(Path::new("w1.oracleGeneral.bin.zst")), "w1");
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
