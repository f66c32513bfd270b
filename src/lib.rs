//! An embeddable in-process cache (placeholder root: the maintainer writes the real one).

mod error;
mod parts;
pub mod policy;
mod removal;

pub use error::ParseError;
pub use policy::EvictionPolicy;
pub use removal::RemovalCause;
