//! Whose loader runs where, and waits for whom: so that nobody waits for oneself.

use parking_lot::Mutex;
use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;

thread_local! {
    /// The numbers of the flights whose loaders run in this thread now, or are polled in it; the innermost last.
    static LED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// (who, whom): flights whose thread is blocked until another flight lands. Each has but one thread, and so stands here once
/// at most; and there are no rings, since who would close one does not get in.
static BLOCKED: Mutex<Vec<(u64, u64)>> = Mutex::new(Vec::new());

/// Whether the loader of this flight is what runs here.
pub(super) fn is_led_here(flight: u64) -> bool {
    LED.try_with(|led| led.borrow().contains(&flight)).unwrap_or(false)
}

/// Runs a loader for these flights.
pub(super) fn leading<T>(flights: &[u64], load: impl FnOnce() -> T) -> T {
    /// Takes them off again.
    struct Led(usize);
    impl Drop for Led {
        fn drop(&mut self) {
            let _ = LED.try_with(|led| led.borrow_mut().truncate(self.0));
        }
    }
    let before = LED.try_with(|led| {
        let mut led = led.borrow_mut();
        let before = led.len();
        led.extend(flights);
        before
    });
    let _led = Led(before.unwrap_or(0));
    load()
}

/// Runs a loader's future for these flights.
pub(super) async fn leading_async<T>(flights: &[u64], mut loading: Pin<Box<impl Future<Output = T>>>) -> T {
    poll_fn(|context| leading(flights, || loading.as_mut().poll(context))).await
}

/// As long as it lives, this thread is blocked.
pub(super) struct Blocked(Vec<u64>);

/// Lets this thread block until a flight lands; `None` if that waits for one of this thread's own.
pub(super) fn block_on(flight: u64) -> Option<Blocked> {
    let led = LED.try_with(|led| led.borrow().clone()).unwrap_or_default();
    // Next to always: no loader runs here, so nobody waits for this thread.
    if !led.is_empty() {
        let mut blocked = BLOCKED.lock();
        let mut next = Some(flight);
        while let Some(flight) = next {
            if led.contains(&flight) {
                return None;
            }
            next = blocked.iter().find(|(who, _)| *who == flight).map(|(_, whom)| *whom);
        }
        blocked.extend(led.iter().map(|&led| (led, flight)));
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
