//! Errors: `Display` says what failed, `source` says why, and a chain of them repeats nothing.
#![allow(missing_docs)]

use larder::{BuildError, Cache, EvictionPolicy, LoadError, WarmUp};
use std::error::Error;
use std::fmt;

#[derive(Clone, Debug)]
struct Down;

impl fmt::Display for Down {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("db down")
    }
}

impl Error for Down {}

/// Prints an error as anyhow's `{:#}` does.
fn chain(error: &dyn Error) -> String {
    std::iter::successors(Some(error), |&error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

#[test]
fn a_load_and_a_warm_up_name_the_cause_once() {
    let cache: Cache<u32, u32> = Cache::new(10);
    let failed = cache.try_get_or_load(1, |_| Err(Down)).unwrap_err();
    assert_eq!(chain(&failed), "loading failed: db down");
    assert_eq!(failed.to_string(), "loading failed");
    let stopped = cache.try_warm(0..5, WarmUp::new(), |_| Err::<Vec<_>, _>(Down)).unwrap_err();
    assert_eq!(chain(&stopped), "warm-up stopped after 0 keys: loading failed: db down");
    // What has no cause says all itself.
    let recursive = LoadError::<Down>::Recursive;
    assert!(recursive.source().is_none() && recursive.to_string().contains("wait for itself"));
    // One that is passed on by a loader.
    let outer = cache.try_get_or_load(2, |_| Err(failed)).unwrap_err();
    assert_eq!(chain(&outer), "loading failed: loading failed: db down");
}

#[test]
fn what_is_wrong_with_options_has_no_further_cause() {
    let errors: [Box<dyn Error>; 3] = [
        Cache::<u32, u32>::builder().build().unwrap_err().into(),
        BuildError::Housekeeping { reason: "no threads".to_owned() }.into(),
        "nonesuch".parse::<EvictionPolicy>().unwrap_err().into(),
    ];
    for error in errors {
        assert!(error.source().is_none() && !error.to_string().is_empty());
    }
}

#[cfg(feature = "serde")]
mod snapshots {
    use super::{Down, chain};
    use larder::{Cache, Codec, SnapshotError};
    use std::error::Error;
    use std::io::{self, ErrorKind, Read, Write};

    struct Broken;

    impl Codec<u32> for Broken {
        fn name(&self) -> &str {
            "bincode 2 standard"
        }
        fn encode(&self, _: &u32, _: &mut Vec<u8>) -> Result<(), Box<dyn Error + Send + Sync>> {
            Err(Down.into())
        }
        fn decode(&self, _: &[u8]) -> Result<u32, Box<dyn Error + Send + Sync>> {
            Err(Down.into())
        }
    }

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::other(Down))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other(Down))
        }
    }

    #[test]
    fn a_snapshot_names_the_cause_once() {
        let cache: Cache<u32, u32> = Cache::new(10);
        cache.insert(1, 1);
        let mut bytes = Vec::new();
        cache.snapshot().save_to(&mut bytes).unwrap();
        let errors = [
            cache.snapshot().save_to(Broken).unwrap_err(),
            cache.snapshot().load_from(Broken).unwrap_err(),
            cache.snapshot().codec(Broken).save_to(io::sink()).unwrap_err(),
            cache.snapshot().codec(Broken).load_from(&bytes[..]).unwrap_err(),
        ];
        for error in errors {
            let said = chain(&error);
            assert!(!error.to_string().contains("db down") && said.matches("db down").count() == 1, "{said}");
        }
    }

    /// The system's errors name no file.
    #[test]
    fn a_file_is_named_with_the_cause() {
        let path = std::env::temp_dir().join(format!("larder-errors-{}", std::process::id())).join("cache");
        let cache: Cache<u32, u32> = Cache::new(10);
        for error in [cache.snapshot().save(&path).unwrap_err(), cache.snapshot().load(&path).unwrap_err()] {
            assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
            let SnapshotError::File { path: named, source } = &error else { panic!("{error:?}") };
            assert_eq!((named, source.kind()), (&path, ErrorKind::NotFound));
            assert_eq!(chain(&error), format!("{error}: {source}"));
        }
    }
}
