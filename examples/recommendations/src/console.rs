//! Lines for whoever has started the program.
//!
//! `println!` and `eprintln!` panic when nobody reads any more, as after `| head`. A service should go on then.

use std::fmt::Display;
use std::io::{self, Write};

pub fn say(line: impl Display) {
    let _ = writeln!(io::stdout(), "{line}");
}

pub fn warn(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}
