//! Timing by rounds: on a machine that does other things, too, only what runs within the same second compares.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::{Duration, Instant};

/// Runs `warm` and then `timed` in each of some threads, which start `timed` together.
///
/// Gives the time from the first start to the last end, and what `timed` gave.
pub(crate) fn round<T: Send>(
    threads: usize,
    warm: impl Fn(usize) + Sync,
    timed: impl Fn(usize) -> T + Sync,
) -> (Duration, Vec<T>) {
    let ready = AtomicUsize::new(0);
    let one = |thread| {
        warm(thread);
        ready.fetch_add(1, SeqCst);
        // Not a `Barrier`: to be woken takes as long as thousands of hits.
        while ready.load(SeqCst) < threads {
            thread::yield_now();
        }
        let start = Instant::now();
        let result = timed(thread);
        (start, Instant::now(), result)
    };
    let one = &one;
    let runs: Vec<_> = thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|thread| scope.spawn(move || one(thread))).collect();
        handles.into_iter().map(|handle| handle.join().expect("a thread of a round")).collect()
    });
    let start = runs.iter().map(|run| run.0).min().expect("a thread");
    let end = runs.iter().map(|run| run.1).max().expect("a thread");
    (end - start, runs.into_iter().map(|run| run.2).collect())
}

/// The value below which `part` of the others lie.
pub(crate) fn quantile<T: Copy + PartialOrd>(values: &[T], part: f64) -> T {
    let mut values = values.to_vec();
    let at = ((values.len() as f64 * part) as usize).min(values.len() - 1);
    *values.select_nth_unstable_by(at, |a, b| a.partial_cmp(b).expect("no NaN")).1
}

pub(crate) fn median<T: Copy + PartialOrd>(values: &[T]) -> T {
    quantile(values, 0.5)
}

/// How long the thread has run: a thread that waits for its processor says nothing about what it does. Where the system
/// does not tell, the time that passes.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)] // The standard library has no such clock.
pub(crate) fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a `timespec` that lives and may be written to.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    assert_eq!(failed, 0, "every Linux has this clock");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn thread_time() -> Duration {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}
