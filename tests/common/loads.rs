//! What the tests of loading share: futures polled by hand, loaders that wait until the test lets them go on, and the
//! plainest cache to load into.

use super::until;
use larder::{Builder, Cache};
use std::pin::Pin;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

pub type Numbers<S = larder::RandomState> = Cache<u64, u64, S>;

/// Room for all keys of a test, with statistics, which count who waits.
pub fn counting() -> Builder<u64, u64> {
    Cache::builder().max_capacity(1_000).record_stats()
}

pub fn numbers() -> Numbers {
    counting().build().unwrap()
}

/// Lets other threads run until `n` callers have joined loads of others, in all.
pub fn until_waiting<S>(cache: &Numbers<S>, n: u64) {
    until(|| cache.stats().load_wait_count() >= n);
}

/// Each key with a value of its own.
pub fn valued(keys: impl IntoIterator<Item = u64>) -> Vec<(u64, u64)> {
    keys.into_iter().map(|key| (key, key + 100)).collect()
}

/// A task that loads a key, and gets for it what the test gives.
pub fn leader<'a>(cache: &'a Numbers, key: u64, gate: &Gate<u64>) -> Task<'a, u64> {
    let loading = gate.get();
    Task::new(cache.get_or_load_async(key, |_| loading)).starts()
}

/// A task that waits for a key that somebody else loads.
pub fn joiner(cache: &Numbers, key: u64) -> Task<'_, u64> {
    Task::new(cache.get_or_load_async(key, |_| async { panic!("somebody else loads it") })).starts()
}

/// A waker that counts how often it is used.
#[derive(Default)]
pub struct Wakes(AtomicUsize);

impl Wakes {
    pub fn count(&self) -> usize {
        self.0.load(SeqCst)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// A future that a test polls by hand.
pub struct Task<'a, T> {
    future: Pin<Box<dyn Future<Output = T> + Send + 'a>>,
    wakes: Arc<Wakes>,
}

impl<'a, T> Task<'a, T> {
    pub fn new(future: impl Future<Output = T> + Send + 'a) -> Self {
        Self { future: Box::pin(future), wakes: Arc::default() }
    }

    pub fn poll(&mut self) -> Poll<T> {
        self.poll_with(&Waker::from(Arc::clone(&self.wakes)))
    }

    pub fn poll_with(&mut self, waker: &Waker) -> Poll<T> {
        self.future.as_mut().poll(&mut Context::from_waker(waker))
    }

    /// How often it was woken.
    pub fn wakes(&self) -> usize {
        self.wakes.count()
    }

    /// Polls it for the first time: it has to wait.
    pub fn starts(mut self) -> Self {
        assert!(self.poll().is_pending());
        self
    }

    /// Polls it: it has its result.
    pub fn ready(&mut self) -> T {
        match self.poll() {
            Poll::Ready(result) => result,
            Poll::Pending => panic!("it should be ready"),
        }
    }
}

/// Runs a future in this thread.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(result) => return result,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// What a loader waits for, until the test gives it.
pub struct Gate<T>(Arc<Mutex<(Option<T>, Option<Waker>)>>);

impl<T> Clone for Gate<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Gate<T> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new((None, None))))
    }
}

impl<T> Gate<T> {
    pub fn give(&self, what: T) {
        let waker = {
            let mut inner = self.0.lock().unwrap();
            inner.0 = Some(what);
            inner.1.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }

    pub fn get(&self) -> impl Future<Output = T> + Send + use<T>
    where
        T: Send,
    {
        let gate = self.clone();
        std::future::poll_fn(move |context| {
            let mut inner = gate.0.lock().unwrap();
            match inner.0.take() {
                Some(what) => Poll::Ready(what),
                None => {
                    inner.1 = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
    }
}
