//! Replaces a file as a whole, or not at all.

use crate::error::SnapshotError;
use std::collections::hash_map::RandomState;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::hash::BuildHasher;
use std::io::{self, BufWriter, ErrorKind};
use std::path::{Path, PathBuf};
use std::process;

/// Temporary files are called `.larder-(random number).tmp`: short, so that the name is possible wherever the name proper is.
const PREFIX: &str = ".larder-";
const SUFFIX: &str = ".tmp";

/// More symbolic links in a row than any system follows.
const MOST_LINKS: usize = 256;

/// Writes a file beside the one at `path`, and puts it there when it is on the disk. Until then, and if anything fails or
/// panics, what is at `path` stays as it is. Of several writers the last one wins; files do not mix.
///
/// Symbolic links stay: what they lead to is replaced, or created. Only a regular file is replaced. A FIFO, a device, a socket
/// or a directory is an error.
///
/// Who may read an entry may not be for everybody: on Unix a new file is its owner's alone (mode 600), and one that takes
/// the place of another has that one's mode.
///
/// On Unix the directory is brought to the disk too. If that fails the error is reported although the new file is there.
/// File systems that cannot do it are taken as they are. On Windows the file is replaced in one step, but after a loss of
/// power either may be found.
///
/// A process that is killed leaves its temporary file behind. The next save into the same directory removes it.
pub(crate) fn write_atomically<T>(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<&File>) -> Result<T, SnapshotError>,
) -> Result<T, SnapshotError> {
    if path.file_name().is_none() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "the path names no file").into());
    }
    let target = target_of(path)?;
    let directory = directory_of(&target);
    remove_leftovers(directory);
    let mut temporary = Temporary::create(directory)?;
    let mut buffered = BufWriter::with_capacity(1 << 16, &temporary.file);
    let result = write(&mut buffered)?;
    buffered.into_inner().map_err(io::IntoInnerError::into_error)?;
    keep_mode(&target, &temporary.file)?;
    temporary.file.sync_all()?;
    fs::rename(&temporary.path, &target)?;
    temporary.renamed = true;
    sync_directory(directory)?;
    Ok(result)
}

/// Follows symbolic links to the file that is to be replaced, or that is not there yet.
fn target_of(path: &Path) -> io::Result<PathBuf> {
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => {
            return Err(io::Error::new(ErrorKind::InvalidInput, "what is there is no regular file"));
        }
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut target = path.to_owned();
    for _ in 0..MOST_LINKS {
        match fs::read_link(&target) {
            Ok(next) => target = directory_of(&target).join(next),
            // No link, or nothing at all.
            Err(_) => return Ok(target),
        }
    }
    Err(io::Error::other("the symbolic links change while they are followed"))
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A file that is removed unless it was renamed.
///
/// Its writer holds the lock of the file, which the system takes from a process that ends, however it does. A process number
/// would not do: in a container it means another process, and may be the same after each start.
struct Temporary {
    path: PathBuf,
    file: File,
    renamed: bool,
}

impl Temporary {
    fn create(directory: &Path) -> io::Result<Self> {
        loop {
            // No number comes twice, so that a path never means another file than the one that was found there.
            let number = RandomState::new().hash_one(process::id());
            let path = directory.join(format!("{PREFIX}{number:016x}{SUFFIX}"));
            let file = options().open(&path)?;
            let temporary = Self { path, file, renamed: false };
            match temporary.file.try_lock() {
                // Another writer took it for a leftover before it was locked.
                Err(TryLockError::WouldBlock) => {}
                Ok(()) if !temporary.path.exists() => {}
                // Where there are no locks leftovers stay.
                Ok(()) | Err(TryLockError::Error(_)) => return Ok(temporary),
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

/// Removes the temporary files that nobody is writing. What cannot be removed stays: it does no harm but for its size.
fn remove_leftovers(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let is_ours = name.to_str().is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX));
        if !is_ours || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        // Some network file systems lock only what is open for writing.
        let file = OpenOptions::new().write(true).open(entry.path());
        // The lock is held until the file is gone, so a writer that has just created it cannot lock it, and takes another one.
        if let Ok(file) = file
            && file.try_lock().is_ok()
        {
            let _ = fs::remove_file(entry.path());
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
    fn leftovers_go_and_what_is_being_written_stays() {
        let directory = Directory::new("leftovers");
        let being_written = Temporary::create(&directory.0).unwrap();
        let name = being_written.path.file_name().unwrap().to_str().unwrap().to_owned();
        for left in [".larder-7-0.tmp", ".larder-00000000deadbeef.tmp"] {
            fs::write(directory.at(left), "left").unwrap();
        }
        // Not ours.
        for theirs in ["larder-1.tmp", ".larder-1", ".other-1.tmp"] {
            fs::write(directory.at(theirs), "theirs").unwrap();
        }
        fs::create_dir(directory.at(".larder-folder.tmp")).unwrap();
        write(&directory.at("snapshot"), "new").unwrap();
        let mut expected =
            [".larder-1", ".larder-folder.tmp", ".other-1.tmp", "larder-1.tmp", "snapshot", &name];
        expected.sort_unstable();
        assert_eq!(directory.names(), expected);
        drop(being_written);
        assert!(!directory.at(&name).exists());
    }

    /// A writer's file is there before it is locked.
    #[test]
    fn writers_do_not_take_each_others_files_for_leftovers() {
        let directory = Directory::new("each-other");
        thread::scope(|scope| {
            for writer in 0..4 {
                let path = directory.at(&writer.to_string());
                scope.spawn(move || (0..200).for_each(|_| assert_eq!(write(&path, "text").unwrap(), 4)));
            }
        });
        assert_eq!(directory.names(), ["0", "1", "2", "3"]);
    }

    #[cfg(unix)]
    #[test]
    fn modes_are_private_or_stay() {
        use std::os::unix::fs::PermissionsExt;
        let directory = Directory::new("modes");
        let mode = |name| fs::metadata(directory.at(name)).unwrap().permissions().mode() & 0o7777;
        write(&directory.at("new"), "text").unwrap();
        assert_eq!(mode("new"), 0o600);
        for bits in [0o640, 0o644, 0o400] {
            fs::set_permissions(directory.at("new"), fs::Permissions::from_mode(bits)).unwrap();
            write(&directory.at("new"), "newer").unwrap();
            assert_eq!(mode("new"), bits);
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_stay_and_what_they_lead_to_is_replaced() {
        use std::os::unix::fs::symlink;
        let directory = Directory::new("links");
        fs::create_dir(directory.at("elsewhere")).unwrap();
        fs::write(directory.at("elsewhere/target"), "old").unwrap();
        symlink("elsewhere/target", directory.at("link")).unwrap();
        symlink("link", directory.at("link to a link")).unwrap();
        symlink("elsewhere/new", directory.at("link to nothing")).unwrap();
        symlink("loop", directory.at("loop")).unwrap();
        for (link, target) in [
            ("link", "target"),
            ("link to a link", "target"),
            ("link to nothing", "new"),
            ("link to nothing", "new"),
        ] {
            write(&directory.at(link), link).unwrap();
            assert!(fs::symlink_metadata(directory.at(link)).unwrap().is_symlink());
            assert_eq!(fs::read_to_string(directory.at("elsewhere").join(target)).unwrap(), link);
        }
        assert!(matches!(write(&directory.at("loop"), "text"), Err(SnapshotError::Io(_))));
        assert_eq!(directory.names(), ["elsewhere", "link", "link to a link", "link to nothing", "loop"]);
        assert_eq!(fs::read_dir(directory.at("elsewhere")).unwrap().count(), 2, "no temporary file is left");
    }
}
