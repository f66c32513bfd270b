//! Snapshots: what a cache holds, in a file.
//!
//! ```text
//! codec    keys and values as bytes
//! frame    records in blocks with checksums: the file's format, whatever the records are
//! fields   numbers and strings of which records are made
//! header   the first of them: what the file is a snapshot of
//! file     replaces a file as a whole, or not at all
//! ```

pub(crate) mod codec;
pub(crate) mod fields;
pub(crate) mod file;
pub(crate) mod frame;
pub(crate) mod header;
