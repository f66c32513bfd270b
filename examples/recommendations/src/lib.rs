//! A recommendation service with larder's caches before SQLite.
//!
//! ```text
//! domain     users, items, events
//! model      the recommender, as plain computation
//! store/     SQLite, and the data that is made up for it
//! caches     all caches, and what each is for
//! service    what the service does, by its caches
//! snapshots  the caches on disk
//! api        HTTP; errors.rs has what it says when something is wrong, unparsed.rs when that is no request at all
//! metrics    /metrics; stats.rs has /stats.json; page.html shows them
//! server     start and stop; connections.rs and console.rs are its ends
//! load       simulated traffic, by client.rs; report.rs prints its figures
//! ```

pub mod api;
pub mod caches;
pub mod client;
pub mod connections;
pub mod console;
pub mod domain;
pub mod errors;
pub mod load;
pub mod metrics;
pub mod model;
pub mod random;
pub mod report;
pub mod server;
pub mod service;
pub mod snapshots;
pub mod stats;
pub mod store;
pub mod unparsed;
