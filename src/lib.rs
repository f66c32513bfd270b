//! An embeddable, in-process cache.

mod builder;
mod cache;
mod compute;
mod error;
mod iter;
mod parts;
pub mod policy;
mod removal;
mod segment;
mod stats;
mod table;

pub use builder::Builder;
pub use cache::{Cache, InsertOptions};
pub use compute::{Computed, Entry, Op};
pub use equivalent::Equivalent;
pub use error::{BuildError, ParseError};
pub use iter::{Drain, Iter, Keys};
pub use policy::EvictionPolicy;
pub use removal::RemovalCause;
pub use stats::Stats;
