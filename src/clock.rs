//! What time it is, as far as a cache wants to know.

use crate::table::coarse_nanos;
use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// What a cache reads the time from: [`Builder::clock`](crate::Builder::clock).
///
/// Clocks never run backwards, and the time of day plays no part, but for how long a snapshot has lain. A cache in which nothing
/// expires reads none.
///
/// | clock | resolution | to read it costs |
/// | --- | --- | --- |
/// | [`coarse`](Self::coarse), the default | 1 to 10 ms on Linux (4 ms with most kernels); as `precise` elsewhere | a third of `precise` |
/// | [`precise`](Self::precise) | that of [`Instant`] | as [`Instant::now`] |
/// | [`manual`](Self::manual) | 1 ns | a load |
///
/// By the coarse clock an entry may live longer or shorter than asked for, by up to that resolution.
///
/// On Linux the first two stand still while the machine is suspended; elsewhere they do as [`Instant`] does.
///
/// For tests of one's own expiry there is a clock that is set by hand. Its clones show the same time:
///
/// ```
/// use larder::{Cache, Clock};
/// use std::time::Duration;
///
/// let clock = Clock::manual();
/// let cache = Cache::builder()
///     .max_capacity(100)
///     .time_to_live(Duration::from_secs(60))
///     .clock(clock.clone())
///     .build()?;
/// cache.insert("key", 1);
/// clock.advance(Duration::from_secs(59));
/// assert_eq!(cache.get("key"), Some(1));
/// clock.advance(Duration::from_secs(1));
/// assert_eq!(cache.get("key"), None);
/// # Ok::<(), larder::BuildError>(())
/// ```
#[derive(Clone)]
pub struct Clock(Source);

/// What all times have more than their nanoseconds: their highest bit. Without it they are over, by any clock.
pub(crate) const EPOCH: u64 = 1 << 63;

/// A moment: really, and as the clock shows it.
#[derive(Clone, Copy)]
pub(crate) struct Moment {
    /// Not zero, so that a load that is not timed takes no more room.
    real: NonZeroU64,
    shown: u64,
}

/// How long something took, in nanoseconds.
#[derive(Clone, Copy)]
pub(crate) struct Took {
    pub(crate) real: u64,
    /// By the clock: another time only by a manual one.
    pub(crate) shown: u64,
}

#[derive(Clone)]
enum Source {
    Coarse,
    Precise,
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// A clock that is cheap to read, where the system has one.
    #[must_use]
    pub const fn coarse() -> Self {
        Self(Source::Coarse)
    }

    /// The clock of [`Instant`].
    #[must_use]
    pub const fn precise() -> Self {
        Self(Source::Precise)
    }

    /// A clock that stands still but for [`advance`](Self::advance). It starts at zero.
    #[must_use]
    pub fn manual() -> Self {
        Self::manual_at(Duration::ZERO)
    }

    /// As [`manual`](Self::manual), from a time on: to test what happens after years.
    #[must_use]
    pub fn manual_at(time: Duration) -> Self {
        Self(Source::Manual(Arc::new(AtomicU64::new(EPOCH.saturating_add(nanos(time).max(1))))))
    }

    /// Moves a manual clock, and its clones, forwards. It stops at 2^63 nanoseconds, some 292 years.
    ///
    /// # Panics
    ///
    /// If this is no manual clock.
    pub fn advance(&self, time: Duration) {
        let Source::Manual(now) = &self.0 else {
            panic!("`advance` of a clock that is not manual: {self:?}")
        };
        let later = |now: u64| Some(now.saturating_add(nanos(time)));
        let _ = now.fetch_update(Relaxed, Relaxed, later);
    }

    #[cfg(feature = "serde")]
    /// Whether it has nothing to do with the time of day.
    pub(crate) fn is_manual(&self) -> bool {
        matches!(self.0, Source::Manual(_))
    }

    /// Nanoseconds since some moment in the past, and [`EPOCH`]: always more than that.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        match &self.0 {
            Source::Coarse => coarse_nanos().map_or_else(precise_nanos, |nanos| EPOCH + nanos),
            Source::Precise => precise_nanos(),
            Source::Manual(now) => now.load(Relaxed),
        }
    }

    /// Returns a moment from which to measure how long something takes: never coarse.
    pub(crate) fn moment(&self) -> Moment {
        let real = precise_nanos();
        let shown = if let Source::Manual(now) = &self.0 { now.load(Relaxed) } else { real };
        Moment { real: NonZeroU64::MIN.saturating_add(real), shown }
    }

    /// Returns the time since some moment.
    pub(crate) fn since(&self, Moment { real, shown }: Moment) -> Took {
        let now = self.moment();
        Took { real: now.real.get().saturating_sub(real.get()), shown: now.shown.saturating_sub(shown) }
    }
}

/// The cheap one.
impl Default for Clock {
    fn default() -> Self {
        Self::coarse()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Source::Coarse => "Clock::coarse()",
            Source::Precise => "Clock::precise()",
            Source::Manual(_) => "Clock::manual()",
        })
    }
}

fn precise_nanos() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    EPOCH.saturating_add(nanos(START.get_or_init(Instant::now).elapsed()).max(1))
}

/// A time in nanoseconds, at most `u64::MAX`.
pub(crate) fn nanos(time: Duration) -> u64 {
    time.as_nanos().try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_do_not_run_backwards() {
        for clock in [Clock::coarse(), Clock::precise()] {
            let mut last = clock.now();
            for _ in 0..if cfg!(miri) { 100 } else { 100_000 } {
                let now = clock.now();
                assert!(now >= last, "{clock:?}: {now} after {last}");
                last = now;
            }
        }
    }

    #[test]
    fn a_manual_clock_stops_at_its_end() {
        let clock = Clock::manual_at(Duration::from_nanos(i64::MAX as u64 - 1));
        clock.advance(Duration::MAX);
        assert_eq!(clock.now(), u64::MAX);
    }
}
