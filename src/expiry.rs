//! Lives that depend on the entry.

use std::time::Duration;

/// How long entries live, decided for each: [`Builder::expire_after`](crate::Builder::expire_after).
///
/// Each method gives how long the entry is to live from now on; `None` is without end. `remaining` is what was left of its
/// life until now. Where there is a [`time_to_live`](crate::Builder::time_to_live), too, the earlier end counts; reads
/// do not move that.
///
/// The methods run without a lock, in the thread that writes or reads, and may use the cache. What they are told was so when
/// they were called: with other threads at the same key a created entry may turn out to replace one, or the reverse.
///
/// ```
/// use larder::{Cache, Clock, Expiry};
/// use std::time::Duration;
///
/// /// Sessions say themselves how long they last, and get a minute more with each use.
/// struct Session(Duration);
/// struct BySession;
///
/// impl Expiry<u32, Session> for BySession {
///     fn after_create(&self, _: &u32, session: &Session) -> Option<Duration> {
///         Some(session.0)
///     }
///     fn after_read(&self, _: &u32, _: &Session, remaining: Option<Duration>) -> Option<Duration> {
///         Some(remaining?.max(Duration::from_secs(60)))
///     }
/// }
///
/// let clock = Clock::manual();
/// let sessions = Cache::builder().max_capacity(100).expire_after(BySession).clock(clock.clone()).build()?;
/// sessions.insert(7, Session(Duration::from_secs(90)));
/// clock.advance(Duration::from_secs(80));
/// assert!(sessions.with(&7, |_| ()).is_some());
/// clock.advance(Duration::from_secs(59));
/// assert!(sessions.contains_key(&7));
/// clock.advance(Duration::from_secs(1));
/// assert!(!sessions.contains_key(&7));
/// # Ok::<(), larder::BuildError>(())
/// ```
pub trait Expiry<K, V> {
    /// The key is inserted and was not there. Without end, if not said otherwise.
    fn after_create(&self, key: &K, value: &V) -> Option<Duration> {
        let _ = (key, value);
        None
    }

    /// The key gets this value in place of another. As if it were created, if not said otherwise.
    fn after_update(&self, key: &K, value: &V, remaining: Option<Duration>) -> Option<Duration> {
        let _ = remaining;
        self.after_create(key, value)
    }

    /// The entry was read, by a method that counts as a read. What remains, if not said otherwise.
    fn after_read(&self, key: &K, value: &V, remaining: Option<Duration>) -> Option<Duration> {
        let _ = (key, value);
        remaining
    }
}
