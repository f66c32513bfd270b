//! Parts that know neither keys nor values nor policies: plain data structures over slot numbers and hashes.

pub(crate) mod ghost;
pub(crate) mod lists;
pub(crate) mod read_buffer;
pub(crate) mod sketch;
pub(crate) mod striped;
pub(crate) mod timer;
pub(crate) mod wait;
