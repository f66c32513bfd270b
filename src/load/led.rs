//! Whose loader runs where, and waits for whom: so that nobody waits for oneself.

use parking_lot::Mutex;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;

/// The number of no load.
const NONE: u64 = u64::MAX;

thread_local! {
    /// The number of the load whose loader runs in this thread now, or is polled in it.
    static LED: Cell<u64> = const { Cell::new(NONE) };
    /// Further ones: of the same loader, or of those that wait for it to return.
    static LED_BESIDE: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// (who, whom): loads whose thread is blocked until the flight of another lands. Each has but one thread, and so stands here
/// once at most; and there are no rings, since who would close one does not get in.
static BLOCKED: Mutex<Vec<(u64, u64)>> = Mutex::new(Vec::new());

/// The loads whose loaders run here.
fn led_here() -> Vec<u64> {
    if LED.get() == NONE {
        return Vec::new();
    }
    let mut led = LED_BESIDE.try_with(|beside| beside.borrow().clone()).unwrap_or_default();
    led.push(LED.get());
    led
}

/// Whether the loader of this load is what runs here.
pub(super) fn is_led_here(load: u64) -> bool {
    led_here().contains(&load)
}

/// Runs a loader for these loads.
#[inline]
pub(super) fn leading<T>(loads: &[u64], loader: impl FnOnce() -> T) -> T {
    let Some((&first, further)) = loads.split_first() else { return loader() };
    let outer = LED.replace(first);
    let is_alone = outer == NONE && further.is_empty();
    let _led = Led { outer, beside: if is_alone { None } else { lead_beside(outer, further) } };
    loader()
}

/// Says how many there were before.
#[cold]
fn lead_beside(outer: u64, further: &[u64]) -> Option<usize> {
    let add = |beside: &RefCell<Vec<u64>>| {
        let mut beside = beside.borrow_mut();
        let before = beside.len();
        beside.extend(further);
        beside.extend((outer != NONE).then_some(outer));
        before
    };
    LED_BESIDE.try_with(add).ok()
}

/// Takes them off again.
struct Led {
    outer: u64,
    beside: Option<usize>,
}

impl Drop for Led {
    #[inline]
    fn drop(&mut self) {
        LED.set(self.outer);
        if let Some(before) = self.beside {
            let _ = LED_BESIDE.try_with(|beside| beside.borrow_mut().truncate(before));
        }
    }
}

/// Runs a loader's future for these loads.
pub(super) async fn leading_async<T>(loads: &[u64], mut loading: Pin<Box<impl Future<Output = T>>>) -> T {
    poll_fn(|context| leading(loads, || loading.as_mut().poll(context))).await
}

/// As long as it lives, this thread is blocked.
pub(super) struct Blocked(Vec<u64>);

/// Lets this thread block until the flight of a load lands; `None` if that waits for one of this thread's own.
pub(super) fn block_on(load: u64) -> Option<Blocked> {
    let led = led_here();
    // Next to always: no loader runs here, so nobody waits for this thread.
    if !led.is_empty() {
        let mut blocked = BLOCKED.lock();
        let mut next = Some(load);
        while let Some(load) = next {
            if led.contains(&load) {
                return None;
            }
            next = blocked.iter().find(|(who, _)| *who == load).map(|(_, whom)| *whom);
        }
        blocked.extend(led.iter().map(|&led| (led, load)));
    }
    Some(Blocked(led))
}

impl Drop for Blocked {
    fn drop(&mut self) {
        if !self.0.is_empty() {
            BLOCKED.lock().retain(|(who, _)| !self.0.contains(who));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{catch_unwind, resume_unwind};

    fn sorted() -> Vec<u64> {
        let mut led = led_here();
        led.sort_unstable();
        led
    }

    /// Single loads, calls for many and loads without a key within each other, however they end.
    #[test]
    fn those_that_wait_for_a_loader_are_led_too() {
        leading(&[1, 2], || {
            leading(&[3], || {
                assert!(catch_unwind(|| leading(&[4, 5], || resume_unwind(Box::new("on purpose")))).is_err());
                assert_eq!(leading(&[], sorted), [1, 2, 3]);
                assert_eq!(leading(&[6, 7], sorted), [1, 2, 3, 6, 7]);
                assert_eq!(leading(&[8], || leading(&[9], sorted)), [1, 2, 3, 8, 9]);
            });
            assert_eq!(sorted(), [1, 2]);
            assert!(block_on(2).is_none() && !is_led_here(3));
        });
        assert!(led_here().is_empty());
        assert!(LED_BESIDE.with_borrow(Vec::is_empty));
    }
}
