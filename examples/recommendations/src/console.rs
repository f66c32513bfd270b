//! Lines for whoever has started the program.
//!
//! `println!` and `eprintln!` panic when nobody reads any more, as after `| head`. A service should go on then.

use std::error::Error;
use std::fmt::Display;
use std::io::{self, Write};

pub fn say(line: impl Display) {
    let _ = writeln!(io::stdout(), "{line}");
}

pub fn warn(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Tells an error and what has caused it, in one line. Errors of larder do not repeat their causes themselves.
pub fn with_causes(error: &(dyn Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |&error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
