//! The import order: a module uses only what stands above it, and unsafe code has one room.
//!
//! ```text
//! error, expiry, hash, metadata, options, refresh, removal, sync, tag
//!                          know nothing of the others
//! parts                    plain data structures
//! table                    entries, under any order
//! clock                    asks the system by the table's unsafe room
//! policy                   orders of entries, of which it sees the headers
//! segment, stats           both together, behind one lock
//! inner                    segments, and the user's code where no lock is held
//! cache, builder, compute, iter, load, snapshot, weak
//! ```
#![allow(missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};

/// Modules from the ground up. Those in one layer do not know each other, unless `FRIENDS` says so.
const LAYERS: [&[&str]; 7] = [
    &["error", "expiry", "hash", "metadata", "options", "refresh", "removal", "sync", "tag"],
    &["parts"],
    &["table"],
    &["clock", "policy"],
    &["segment", "stats"],
    &["inner"],
    &["cache", "builder", "compute", "iter", "load", "snapshot", "weak"],
];

/// (who, whom): further imports that are meant to be.
const FRIENDS: [(&str, &str); 9] = [
    // A cache can be made of a builder and a builder makes a cache.
    ("cache", "builder"),
    ("builder", "cache"),
    // They are further methods of the cache.
    ("compute", "cache"),
    ("iter", "cache"),
    ("load", "cache"),
    ("snapshot", "cache"),
    ("weak", "cache"),
    // Tags are among the options.
    ("options", "tag"),
    // Counters of segments make up the statistics.
    ("stats", "segment"),
];

fn sources() -> Vec<(PathBuf, String)> {
    fn collect(folder: &Path, into: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, into);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                into.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    collect(&root, &mut paths);
    paths.sort();
    assert!(paths.len() > 15, "the sources are not where they were");
    paths.into_iter().map(|path| (path.strip_prefix(&root).unwrap().into(), code(&path))).collect()
}

/// A file without comments and without what is for tests only.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().map(|line| line.split("//").next().unwrap());
    let mut code = String::new();
    let mut skipping = false;
    for line in lines {
        if line.starts_with("#[cfg(test)]") || line.starts_with("#[cfg(all(test") {
            // A module at the file's top level: it ends where a line is a closing brace alone, or at once.
            skipping = true;
            continue;
        }
        if skipping {
            skipping = !(line == "}" || line.ends_with(';') && line.starts_with("mod "));
            continue;
        }
        code.push_str(line);
        code.push('\n');
    }
    code
}

/// The top-level module that a file belongs to.
fn module(path: &Path) -> String {
    let first = path.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// All `crate::...` paths of a file: the module that each begins with. `use crate::{a, b}` counts as both.
fn imports(code: &str) -> Vec<String> {
    let mut modules = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        let name =
            |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        match rest.strip_prefix('{') {
            Some(list) => {
                let list = &list[..list.find("};").expect("a list ends")];
                let mut depth = 0;
                for part in list.split_inclusive([',', '{', '}']) {
                    if depth == 0 && !name(part.trim_start()).is_empty() {
                        modules.push(name(part.trim_start()));
                    }
                    depth += part.matches('{').count();
                    depth -= part.matches('}').count();
                }
            }
            None => modules.push(name(rest)),
        }
    }
    modules
}

#[test]
fn modules_import_only_from_above() {
    let mut wrong = Vec::new();
    for (path, code) in sources() {
        let own = module(&path);
        if own == "lib" || own == "compile_fail" {
            continue;
        }
        let Some(own_layer) = layer(&own) else {
            wrong.push(format!("{}: module `{own}` is in no layer", path.display()));
            continue;
        };
        for other in imports(&code) {
            let allowed = other == own
                || layer(&other).is_some_and(|layer| layer < own_layer)
                || FRIENDS.contains(&(own.as_str(), other.as_str()));
            if !allowed {
                wrong.push(format!("{}: `{own}` must not import `{other}`", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_code_has_one_room() {
    for (path, code) in sources() {
        if module(&path) == "table" {
            continue;
        }
        let words = code.split(|c: char| !(c.is_alphanumeric() || c == '_'));
        let found = words.filter(|word| matches!(*word, "unsafe" | "unsafe_code")).count();
        assert_eq!(found, 0, "{}: unsafe code belongs into src/table/", path.display());
    }
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    assert!(manifest.contains("unsafe_code = \"deny\""), "unsafe code is denied where it is not allowed");
}

#[test]
fn the_reader_of_imports_reads() {
    let code =
        "use crate::a::b;\nuse crate::{c::d, e::{f, g}, h};\nfn x() { crate::i::j(); my_crate::no(); }";
    assert_eq!(imports(code), ["a", "c", "e", "h", "i"]);
}
