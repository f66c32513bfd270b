//! Replaces a file as a whole, or not at all.

use crate::error::SnapshotError;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Writes a file beside `path`, and puts it there when it is on the disk. Until then, and if anything fails or panics,
/// what is at `path` stays as it is. Of several writers the last one wins; files do not mix.
///
/// Who may read an entry may not be for everybody: on Unix a new file is its owner's alone (mode 600), and one that takes
/// the place of another has that one's mode. A symbolic link is replaced, not followed.
///
/// On Unix the directory is brought to the disk too. If that fails the error is reported although the new file is there.
/// File systems that cannot do it are taken as they are. On Windows the file is replaced in one step, but after a loss of
/// power either may be found.
///
/// A process that is killed leaves its temporary file, `.larder-(process)-(number).tmp`, behind.
pub(crate) fn write_atomically<T>(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<T, SnapshotError>,
) -> Result<T, SnapshotError> {
    if path.file_name().is_none() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "the path names no file").into());
    }
    let directory = directory_of(path);
    // The guard goes last: what is open cannot be removed everywhere.
    let (mut guard, file) = Temporary::create(directory)?;
    keep_mode(path, &file)?;
    let mut buffered = BufWriter::with_capacity(1 << 16, file);
    let result = write(&mut buffered)?;
    let file = buffered.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&guard.path, path)?;
    guard.renamed = true;
    sync_directory(directory)?;
    Ok(result)
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A file that is removed unless it was renamed.
struct Temporary {
    path: PathBuf,
    renamed: bool,
}

impl Temporary {
    fn create(directory: &Path) -> io::Result<(Self, File)> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = NUMBER.fetch_add(1, Relaxed);
            // Short, so that it is possible wherever the name proper is.
            let path = directory.join(format!(".larder-{}-{number}.tmp", process::id()));
            match options().open(&path) {
                Ok(file) => return Ok((Self { path, renamed: false }, file)),
                // A process with the same number was killed. What it left may be another container's.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.renamed {
            // There is an error already, and nobody to tell of this one.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Gives the new file the mode of the one whose place it takes.
#[cfg(unix)]
fn keep_mode(path: &Path, file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    match fs::symlink_metadata(path) {
        Ok(old) if old.is_file() => {
            file.set_permissions(fs::Permissions::from_mode(old.permissions().mode() & 0o777))
        }
        _ => Ok(()),
    }
}

#[cfg(not(unix))]
fn keep_mode(_: &Path, _: &File) -> io::Result<()> {
    Ok(())
}

/// Without this the new name may be lost with the power, though not the file under the old one.
#[cfg(unix)]
fn sync_directory(directory: &Path) -> io::Result<()> {
    match File::open(directory).and_then(|directory| directory.sync_all()) {
        // Not every file system can, and not every directory may be opened.
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::InvalidInput | ErrorKind::Unsupported | ErrorKind::PermissionDenied
            ) =>
        {
            Ok(())
        }
        result => result,
    }
}

#[cfg(not(unix))]
fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use std::io::Write;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::{env, thread};

    /// A directory for a test, removed after it.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = env::temp_dir().join(format!("larder-{name}-{}", process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn at(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).unwrap();
            let mut names: Vec<_> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn write(path: &Path, text: &str) -> Result<usize, SnapshotError> {
        write_atomically(path, |file| {
            file.write_all(text.as_bytes())?;
            Ok(text.len())
        })
    }

    #[test]
    fn files_are_written_and_replaced() {
        let directory = Directory::new("replaced");
        let path = directory.at("snapshot");
        assert_eq!(write(&path, "old").unwrap(), 3);
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(write(&path, "").unwrap(), 0);
        assert_eq!(fs::read_to_string(&path).unwrap(), "");
        assert_eq!(directory.names(), ["snapshot"]);
    }

    #[test]
    fn until_it_is_whole_the_old_one_stays() {
        let directory = Directory::new("stays");
        let path = directory.at("snapshot");
        write(&path, "old").unwrap();
        for bytes in (0..200_000).step_by(13_999) {
            let error = write_atomically(&path, |file| -> Result<(), _> {
                file.write_all(&vec![7; bytes])?;
                assert_eq!(fs::read_to_string(&path).unwrap(), "old");
                assert_eq!(directory.names().len(), 2);
                Err(io::Error::other("broken").into())
            });
            assert!(matches!(error, Err(SnapshotError::Io(io)) if io.to_string() == "broken"));
            assert_eq!(fs::read_to_string(&path).unwrap(), "old");
            assert_eq!(directory.names(), ["snapshot"]);
        }
        let panic = catch_unwind(AssertUnwindSafe(|| {
            write_atomically(&path, |file| -> Result<(), _> {
                file.write_all(b"new")?;
                panic!("on purpose")
            })
        }));
        assert!(panic.is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(directory.names(), ["snapshot"]);
    }

    #[test]
    fn what_cannot_be_replaced_stays() {
        let directory = Directory::new("cannot");
        fs::create_dir(directory.at("taken")).unwrap();
        fs::write(directory.at("taken").join("inside"), "text").unwrap();
        for path in
            [directory.at("taken"), directory.at("missing").join("snapshot"), directory.at(".."), "/".into()]
        {
            assert!(matches!(write(&path, "new"), Err(SnapshotError::Io(_))), "{}", path.display());
        }
        assert_eq!(directory.names(), ["taken"]);
        assert_eq!(directory_of(Path::new("snapshot")), Path::new("."));
    }

    #[test]
    fn of_several_writers_one_wins() {
        let directory = Directory::new("several");
        let path = directory.at("snapshot");
        let text = |writer: usize| writer.to_string().repeat(100_000);
        thread::scope(|scope| {
            for writer in 0..4 {
                let path = &path;
                scope.spawn(move || write(path, &text(writer)).unwrap());
            }
        });
        let found = fs::read_to_string(&path).unwrap();
        assert!((0..4).any(|writer| found == text(writer)));
        assert_eq!(directory.names(), ["snapshot"]);
    }

    #[test]
    fn what_a_killed_process_left_is_in_nobodys_way() {
        let directory = Directory::new("killed");
        let (first, _file) = Temporary::create(&directory.0).unwrap();
        let number: u64 = first.path.to_str().unwrap().rsplit(['-', '.']).nth(1).unwrap().parse().unwrap();
        for next in number + 1..number + 20 {
            fs::write(directory.at(&format!(".larder-{}-{next}.tmp", process::id())), "left").unwrap();
        }
        write(&directory.at("snapshot"), "new").unwrap();
        assert_eq!(fs::read_to_string(directory.at("snapshot")).unwrap(), "new");
        for name in directory.names().iter().filter(|name| name.ends_with(".tmp")) {
            assert!(name == first.path.file_name().unwrap().to_str().unwrap() || directory.left(name));
        }
    }

    impl Directory {
        fn left(&self, name: &str) -> bool {
            fs::read_to_string(self.at(name)).unwrap() == "left"
        }
    }

    #[cfg(unix)]
    #[test]
    fn modes_are_private_or_stay() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let directory = Directory::new("modes");
        let mode = |name| fs::metadata(directory.at(name)).unwrap().permissions().mode() & 0o7777;
        write(&directory.at("new"), "text").unwrap();
        assert_eq!(mode("new"), 0o600);
        for bits in [0o640, 0o644, 0o400] {
            fs::set_permissions(directory.at("new"), fs::Permissions::from_mode(bits)).unwrap();
            write(&directory.at("new"), "newer").unwrap();
            assert_eq!(mode("new"), bits);
        }
        fs::write(directory.at("target"), "target").unwrap();
        symlink("target", directory.at("link")).unwrap();
        write(&directory.at("link"), "text").unwrap();
        assert!(fs::symlink_metadata(directory.at("link")).unwrap().is_file());
        assert_eq!(fs::read_to_string(directory.at("target")).unwrap(), "target");
        assert_eq!(mode("link"), 0o600);
    }
}
