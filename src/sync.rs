//! The primitives of the lock-free code: those of the standard library and parking_lot or, in a build for the model
//! checker (`--cfg larder_loom`), those of loom.
//!
//! loom's atomics are made while the program runs, and belong to one execution of a model. So here are also the forms in
//! which statics, thread locals and arrays of atomics are written, for both builds.

#[cfg(not(larder_loom))]
mod primitives {
    pub(crate) use parking_lot::{Mutex, MutexGuard};
    pub(crate) use std::sync::OnceLock;
    pub(crate) use std::sync::atomic::{
        AtomicBool, AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, fence,
    };
    pub(crate) use std::thread;
    pub(crate) use std::thread_local as locals;

    /// Statics of the process.
    macro_rules! statics {
        ($($(#[$attribute:meta])* static $name:ident: $type:ty = $value:expr;)*) => {
            $($(#[$attribute])* static $name: $type = $value;)*
        };
    }

    /// A function that is `const`.
    macro_rules! constant {
        ($(#[$attribute:meta])* fn $($rest:tt)*) => { $(#[$attribute])* const fn $($rest)* };
    }

    /// An array of atomics, or of what consists of them.
    macro_rules! array {
        ($value:expr; $len:expr) => {
            [const { $value }; $len]
        };
    }

    pub(crate) use {array, constant, statics};
}

#[cfg(larder_loom)]
mod primitives {
    pub(crate) use loom::sync::MutexGuard;
    pub(crate) use loom::sync::atomic::{
        AtomicBool, AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, fence,
    };
    use std::sync::atomic::Ordering::{Acquire, Release};

    /// Statics of an execution.
    macro_rules! statics {
        ($($(#[$attribute:meta])* static $name:ident: $type:ty = $value:expr;)*) => {
            loom::lazy_static! { $($(#[$attribute])* static ref $name: $type = $value;)* }
        };
    }

    /// Thread locals of an execution.
    macro_rules! locals {
        ($($(#[$attribute:meta])* static $name:ident: $type:ty = const { $value:expr };)*) => {
            loom::thread_local! { $($(#[$attribute])* static $name: $type = $value;)* }
        };
    }

    /// A function that is not `const` here.
    macro_rules! constant {
        ($(#[$attribute:meta])* fn $($rest:tt)*) => { $(#[$attribute])* fn $($rest)* };
    }

    /// An array of atomics, or of what consists of them.
    macro_rules! array {
        ($value:expr; $len:expr) => {
            std::array::from_fn::<_, { $len }, _>(|_| $value)
        };
    }

    pub(crate) use {array, constant, locals, statics};

    pub(crate) mod thread {
        pub(crate) use loom::thread::{Thread, current, park};
        use std::time::Duration;

        /// Time does not pass in a model.
        pub(crate) fn park_timeout(_: Duration) {
            park();
        }
    }

    /// loom's mutex with the methods of parking_lot's.
    #[derive(Default)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
        }

        pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            self.0.try_lock().ok()
        }

        pub(crate) fn get_mut(&mut self) -> &mut T {
            self.0.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner())
        }
    }

    /// The standard library's cell that is written once, in loom's primitives. Setters do not wait for each other.
    pub(crate) struct OnceLock<T> {
        is_claimed: AtomicBool,
        is_set: AtomicBool,
        value: std::sync::OnceLock<T>,
    }

    impl<T> OnceLock<T> {
        pub(crate) fn new() -> Self {
            Self {
                is_claimed: AtomicBool::new(false),
                is_set: AtomicBool::new(false),
                value: std::sync::OnceLock::new(),
            }
        }

        pub(crate) fn get(&self) -> Option<&T> {
            // Acquire pairs with the Release in `set`: loom sees nothing of the value itself.
            if self.is_set.load(Acquire) { self.value.get() } else { None }
        }

        pub(crate) fn set(&self, value: T) -> Result<(), T> {
            if self.is_claimed.swap(true, Acquire) {
                return Err(value);
            }
            self.value.set(value)?;
            self.is_set.store(true, Release);
            Ok(())
        }
    }
}

pub(crate) use primitives::*;

/// How models are run.
#[cfg(all(test, larder_loom))]
pub(crate) mod model {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::SeqCst;
    use std::time::{Duration, Instant};

    /// Runs a model under the schedules, and with the stale values, in which threads are stopped up to `preemptions` times in
    /// the middle of what they do. The environment's `LARDER_MODEL_SECONDS` cuts it short (60 by default).
    pub(crate) fn check(name: &str, preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
        let seconds = std::env::var("LARDER_MODEL_SECONDS").map_or(60, |number| number.parse().unwrap());
        let (begin, limit) = (Instant::now(), Duration::from_secs(seconds));
        let schedules = Arc::new(AtomicUsize::new(0));
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(preemptions);
        builder.max_branches = 100_000;
        builder.max_duration = Some(limit);
        builder.checkpoint_interval = 100;
        let counter = Arc::clone(&schedules);
        builder.check(move || {
            counter.fetch_add(1, SeqCst);
            model();
        });
        let (took, schedules) = (begin.elapsed(), schedules.load(SeqCst));
        let end = if took < limit { "all" } else { "cut short after" };
        println!(
            "{name}: {end} {schedules} schedules with {preemptions} preemptions, {:.1} s",
            took.as_secs_f64()
        );
    }
}
