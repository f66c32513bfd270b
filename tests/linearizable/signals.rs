//! Signals that interrupt threads wherever they are, and make them yield there.
#![cfg_attr(all(target_os = "linux", not(miri)), allow(unsafe_code))]

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

#[cfg(all(target_os = "linux", not(miri)))]
mod system {
    /// A thread that can be interrupted as long as it lives.
    pub(super) type Thread = libc::pthread_t;

    extern "C" fn yield_there(_: libc::c_int) {
        for _ in 0..4 {
            // SAFETY: it has no preconditions, is a system call without more, and never fails.
            unsafe { libc::sched_yield() };
        }
    }

    pub(super) fn this_thread() -> Thread {
        // SAFETY: it has no preconditions.
        unsafe { libc::pthread_self() }
    }

    /// Makes SIGUSR1 harmless, but for the time it takes.
    pub(super) fn prepare() {
        // SAFETY: all its fields may be zero; those that matter are set below.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = yield_there as *const () as usize;
        action.sa_flags = libc::SA_RESTART;
        // SAFETY: the action is a valid one, and its handler does nothing that a handler must not.
        let result = unsafe { libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()) };
        assert_eq!(result, 0, "SIGUSR1 can be handled");
    }

    /// Interrupts a thread, which has to be alive.
    pub(super) fn interrupt(thread: Thread) {
        // SAFETY: the register keeps its threads alive until nobody interrupts them.
        unsafe { libc::pthread_kill(thread, libc::SIGUSR1) };
    }
}

#[cfg(not(all(target_os = "linux", not(miri))))]
mod system {
    pub(super) type Thread = ();

    pub(super) fn this_thread() {}

    pub(super) fn prepare() {}

    pub(super) fn interrupt((): Thread) {
        std::thread::yield_now();
    }
}

thread_local! {
    /// Place of this thread in its register.
    static PLACE: Cell<usize> = const { Cell::new(0) };
}

/// Place of a thread that is likely to be running. The others would be interrupted where they wait for their turn.
static BUSY: AtomicUsize = AtomicUsize::new(0);

/// Says that this thread is running.
pub fn is_busy() {
    BUSY.store(PLACE.get(), Relaxed);
}

/// Threads that may be interrupted.
#[derive(Default)]
pub struct Register {
    threads: Mutex<Vec<system::Thread>>,
    is_released: AtomicBool,
}

impl Register {
    /// Runs something in a thread that stays alive until it is released.
    pub fn stay(&self, run: impl FnOnce()) {
        {
            let mut threads = self.threads.lock().unwrap();
            PLACE.set(threads.len());
            threads.push(system::this_thread());
        }
        let result = catch_unwind(AssertUnwindSafe(run));
        while !self.is_released.load(SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        result.unwrap_or_else(|payload| resume_unwind(payload));
    }

    /// Lets the threads end.
    pub fn release(&self) {
        self.is_released.store(true, SeqCst);
    }

    /// Interrupts a thread that is busy, again and again with a short sleep between, until all is done.
    pub fn interrupt_until(self: &Arc<Self>, done: Arc<AtomicBool>) -> JoinHandle<()> {
        let register = Arc::clone(self);
        std::thread::spawn(move || {
            system::prepare();
            while !done.load(SeqCst) {
                if let Some(&thread) = register.threads.lock().unwrap().get(BUSY.load(Relaxed)) {
                    system::interrupt(thread);
                }
                std::thread::sleep(Duration::from_micros(1));
            }
        })
    }
}
