//! When memory that readers may still be looking at can be used again.
//!
//! All that the rest of the table knows of reclamation is here, so that another scheme can take its place: a reader
//! [pins](pin), and what a writer took out of the table before it called [`Guard::after_readers`] is out of sight of
//! every reader by the time that the closure runs.

use crossbeam_epoch as epoch;

/// While it lives, nothing that could be reached when it was made is freed or used again.
pub(crate) struct Guard(epoch::Guard);

/// Announces a reader. Costs one locked instruction on a line that only this thread writes.
#[inline]
pub(crate) fn pin() -> Guard {
    Guard(epoch::pin())
}

impl Guard {
    /// Runs `done`, in whatever thread, once every guard that lives now has been dropped.
    pub(crate) fn after_readers(&self, done: impl FnOnce() + Send + 'static) {
        self.0.defer(done);
        // Without this it waits in this thread's bag until the bag is full, or for ever if the thread goes idle.
        self.0.flush();
    }
}

/// Lets closures run whose readers have gone since they were handed in.
pub(crate) fn collect() {
    // Every step of the epoch needs a round of its own, and a closure waits for two steps.
    for _ in 0..3 {
        epoch::pin().flush();
    }
}
