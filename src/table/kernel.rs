//! What is asked of the operating system, beside memory.

#[cfg(all(target_os = "linux", not(miri), not(larder_loom)))]
mod os {
    /// Whether there is a kernel to ask for barriers.
    pub(crate) const COULD_HELP: bool = true;

    /// Prepares for [`barrier`]. Says whether the kernel can do it.
    pub(crate) fn register() -> bool {
        membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED)
    }

    /// A full barrier in all threads of the process. Says whether it could be done: a sandbox may have forbidden it since.
    pub(crate) fn barrier() -> bool {
        membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED)
    }

    fn membarrier(command: libc::c_int) -> bool {
        // SAFETY: the call reads and writes no memory of ours.
        unsafe { libc::syscall(libc::SYS_membarrier, command, 0 as libc::c_int, 0 as libc::c_int) == 0 }
    }

    /// Nanoseconds by the clock that counts the kernel's ticks, which is cheap to read; `None` if there is none.
    #[inline]
    pub(crate) fn coarse_nanos() -> Option<u64> {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the call writes to `time` only, which is ours.
        let result = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut time) };
        (result == 0).then(|| time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
    }
}

#[cfg(not(all(target_os = "linux", not(miri), not(larder_loom))))]
mod os {
    pub(crate) const COULD_HELP: bool = false;

    pub(crate) fn register() -> bool {
        false
    }

    pub(crate) fn barrier() -> bool {
        true
    }

    pub(crate) fn coarse_nanos() -> Option<u64> {
        None
    }
}

pub(crate) use os::coarse_nanos;
pub(super) use os::{COULD_HELP, barrier, register};
