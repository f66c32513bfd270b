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
