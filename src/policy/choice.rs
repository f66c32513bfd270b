use super::s3_lirs::S3Lirs;
use super::{End, Entries, Policy, Reads, Slot, fifo, lfu, lru, s3_fifo, sieve, tiny_lfu};
use crate::error::ParsePolicyError;
use crate::removal::RemovalCause;
use std::fmt;
use std::ops::ControlFlow;
use std::str::FromStr;
use std::sync::Arc;

/// Which eviction policy a cache uses.
///
/// A value, so that a service can read it from its configuration: it parses from a name, prints as that name and, with
/// the feature `serde`, is one in any format. The [default](Self::default) is [`s3_lirs`](Self::s3_lirs).
///
/// ```
/// use larder::EvictionPolicy;
///
/// let policy: EvictionPolicy = "s3_fifo".parse()?;
/// assert_eq!(policy, EvictionPolicy::s3_fifo());
/// assert_eq!(policy.to_string(), "s3_fifo");
/// assert_eq!("S3-FIFO".parse(), Ok(policy));
/// assert_eq!(
///     "lfru".parse::<EvictionPolicy>().unwrap_err().to_string(),
///     "unknown eviction policy \"lfru\": expected one of s3_lirs, tiny_lfu, s3_fifo, sieve, lru, lfu, fifo",
/// );
/// # Ok::<(), larder::ParsePolicyError>(())
/// ```
#[derive(Clone)]
pub struct EvictionPolicy(Kind);

type Factory = dyn Fn(u64) -> Chosen + Send + Sync;

#[derive(Clone)]
enum Kind {
    Named(&'static Named),
    Custom(Arc<Factory>),
}

struct Named {
    name: &'static str,
    make: fn(u64) -> Chosen,
}

static S3_LIRS: Named = Named { name: "s3_lirs", make: |capacity| Chosen::Default(S3Lirs::new(capacity)) };
static TINY_LFU: Named =
    Named { name: "tiny_lfu", make: |capacity| Chosen::other(tiny_lfu::TinyLfu::new(capacity)) };
static S3_FIFO: Named =
    Named { name: "s3_fifo", make: |capacity| Chosen::other(s3_fifo::S3Fifo::new(capacity)) };
static SIEVE: Named = Named { name: "sieve", make: |_| Chosen::other(sieve::Sieve::new()) };
static LRU: Named = Named { name: "lru", make: |_| Chosen::other(lru::Lru::new()) };
static LFU: Named = Named { name: "lfu", make: |_| Chosen::other(lfu::Lfu::new()) };
static FIFO: Named = Named { name: "fifo", make: |_| Chosen::other(fifo::Fifo::new()) };
static ALL: [&Named; 7] = [&S3_LIRS, &TINY_LFU, &S3_FIFO, &SIEVE, &LRU, &LFU, &FIFO];

/// A policy at work. The default is known by its type, so that what it does becomes part of what calls it.
pub(crate) enum Chosen {
    Default(S3Lirs),
    Other(Box<dyn Policy>),
}

impl Chosen {
    pub(super) fn other(policy: impl Policy) -> Self {
        Self::Other(Box::new(policy))
    }
}

macro_rules! ask {
    ($chosen:expr, $policy:ident => $what:expr) => {
        match $chosen {
            Chosen::Default($policy) => $what,
            Chosen::Other($policy) => $what,
        }
    };
}

impl Policy for Chosen {
    fn reads(&self) -> Reads {
        ask!(self, policy => policy.reads())
    }
    fn set_capacity(&mut self, capacity: u64) {
        ask!(self, policy => policy.set_capacity(capacity));
    }
    fn reserve(&mut self, slots: usize) {
        ask!(self, policy => policy.reserve(slots));
    }
    #[inline(always)]
    fn admit(&mut self, hash: u64, weight: u64, entries: Entries<'_>) -> bool {
        ask!(self, policy => policy.admit(hash, weight, entries))
    }
    #[inline(always)]
    fn insert(&mut self, slot: Slot, entries: Entries<'_>) {
        ask!(self, policy => policy.insert(slot, entries));
    }
    fn hit(&mut self, slot: Slot, entries: Entries<'_>) {
        ask!(self, policy => policy.hit(slot, entries));
    }
    fn moved(&mut self, old: Slot, new: Slot, entries: Entries<'_>) {
        ask!(self, policy => policy.moved(old, new, entries));
    }
    #[inline(always)]
    fn evict(&mut self, entries: Entries<'_>) -> Option<Slot> {
        ask!(self, policy => policy.evict(entries))
    }
    fn remove(&mut self, slot: Slot, cause: RemovalCause, entries: Entries<'_>) {
        ask!(self, policy => policy.remove(slot, cause, entries));
    }
    fn walk(&self, from: End, visit: &mut dyn FnMut(Slot) -> ControlFlow<()>) {
        ask!(self, policy => policy.walk(from, visit));
    }
    fn heat(&self, slot: Slot, entries: Entries<'_>) -> u64 {
        ask!(self, policy => policy.heat(slot, entries))
    }
    fn save(&self, entries: Entries<'_>, visit: &mut dyn FnMut(Slot, u64)) {
        ask!(self, policy => policy.save(entries, visit));
    }
    fn save_rest(&self) -> Vec<u64> {
        ask!(self, policy => policy.save_rest())
    }
    fn restore(&mut self, slot: Slot, note: u64, entries: Entries<'_>) {
        ask!(self, policy => policy.restore(slot, note, entries));
    }
    fn restore_rest(&mut self, words: &[u64], same_hashes: bool) {
        ask!(self, policy => policy.restore_rest(words, same_hashes));
    }
    fn validate(&self, len: usize, entries: Entries<'_>) {
        ask!(self, policy => policy.validate(len, entries));
    }
}

impl EvictionPolicy {
    /// S3-LIRS: a window that filters newcomers, and a main part that a key enters by coming back sooner than the entry
    /// that it displaces has been idle. The window finds its size by itself. The policy for traffic that is not known.
    ///
    /// It joins S3-FIFO (Yang, Zhang, Qiu, Yue and Rashmi, SOSP 2023) and LIRS (Jiang and Zhang, SIGMETRICS 2002).
    #[must_use]
    pub const fn s3_lirs() -> Self {
        Self(Kind::Named(&S3_LIRS))
    }

    /// W-TinyLFU: a small window for newcomers, and a main part that is entered by being used more often than its
    /// victim. Strong on skewed popularity and on scans. See the paper by Einziger, Friedman and Manes (ACM TOS 2017).
    #[must_use]
    pub const fn tiny_lfu() -> Self {
        Self(Kind::Named(&TINY_LFU))
    }

    /// S3-FIFO: three queues and no order among hits. Strong on web and key-value traffic with many keys that are
    /// asked for once. See the paper by Yang, Zhang, Qiu, Yue and Rashmi (SOSP 2023).
    #[must_use]
    pub const fn s3_fifo() -> Self {
        Self(Kind::Named(&S3_FIFO))
    }

    /// SIEVE: one queue, one bit and a hand. Simple and good on web traffic, poor on scans and loops. See the paper by
    /// Zhang, Yang, Yue, Vigfusson and Rashmi (NSDI 2024).
    #[must_use]
    pub const fn sieve() -> Self {
        Self(Kind::Named(&SIEVE))
    }

    /// Least recently used, exactly so while one thread drives the cache.
    #[must_use]
    pub const fn lru() -> Self {
        Self(Kind::Named(&LRU))
    }

    /// Least frequently used, with ageing: a newcomer starts one above the count at which the last victim left.
    #[must_use]
    pub const fn lfu() -> Self {
        Self(Kind::Named(&LFU))
    }

    /// First in, first out: reads change nothing.
    #[must_use]
    pub const fn fifo() -> Self {
        Self(Kind::Named(&FIFO))
    }

    /// A policy of one's own: `make` is called once for each segment with the weight that the segment may hold.
    ///
    /// See the [module](crate::policy) for an example.
    #[must_use]
    pub fn custom<P: Policy>(make: impl Fn(u64) -> P + Send + Sync + 'static) -> Self {
        Self(Kind::Custom(Arc::new(move |capacity| Chosen::other(make(capacity)))))
    }

    pub(crate) fn make(&self, capacity: u64) -> Chosen {
        match &self.0 {
            Kind::Named(named) => (named.make)(capacity),
            Kind::Custom(make) => make(capacity),
        }
    }

    fn name(&self) -> &'static str {
        match &self.0 {
            Kind::Named(named) => named.name,
            Kind::Custom(_) => "custom",
        }
    }
}

impl Default for EvictionPolicy {
    fn default() -> Self {
        Self::s3_lirs()
    }
}

/// Two custom policies are equal only when one is a clone of the other.
impl PartialEq for EvictionPolicy {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Kind::Named(a), Kind::Named(b)) => a.name == b.name,
            (Kind::Custom(a), Kind::Custom(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

impl Eq for EvictionPolicy {}

impl fmt::Debug for EvictionPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EvictionPolicy({})", self.name())
    }
}

impl fmt::Display for EvictionPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Reads a policy's name, in any case, and with `-` for `_`.
impl FromStr for EvictionPolicy {
    type Err = ParsePolicyError;

    fn from_str(name: &str) -> Result<Self, ParsePolicyError> {
        let plain = name.replace('-', "_").to_ascii_lowercase();
        let named = ALL.iter().find(|named| named.name == plain);
        named.map(|named| Self(Kind::Named(named))).ok_or_else(|| ParsePolicyError { name: name.to_owned() })
    }
}

#[cfg(feature = "serde")]
mod serde_support {
    use super::{EvictionPolicy, Kind};
    use serde::de::{Deserialize, Deserializer, Visitor};
    use serde::ser::{Error as _, Serialize, Serializer};
    use std::fmt;

    /// Writes the policy's name. A [custom](EvictionPolicy::custom) policy has none that could be read back: an error.
    #[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
    impl Serialize for EvictionPolicy {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            match self.0 {
                Kind::Named(named) => serializer.serialize_str(named.name),
                Kind::Custom(_) => {
                    Err(S::Error::custom("a custom eviction policy cannot be serialized: it has no name"))
                }
            }
        }
    }

    /// Reads a policy's name, as its [`FromStr`](std::str::FromStr) does.
    #[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
    impl<'de> Deserialize<'de> for EvictionPolicy {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_str(Name)
        }
    }

    struct Name;

    impl Visitor<'_> for Name {
        type Value = EvictionPolicy;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the name of an eviction policy")
        }

        fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<EvictionPolicy, E> {
            name.parse().map_err(E::custom)
        }
    }

    #[cfg(test)]
    mod tests {
        use super::super::{ALL, lru};
        use super::*;

        fn read(json: &str) -> Result<EvictionPolicy, String> {
            serde_json::from_str(json).map_err(|error| error.to_string())
        }

        #[test]
        fn every_name_comes_back() {
            for named in ALL {
                let policy = EvictionPolicy(Kind::Named(named));
                let json = serde_json::to_string(&policy).unwrap();
                assert_eq!(json, format!("\"{policy}\""));
                assert_eq!(read(&json), Ok(policy));
            }
        }

        #[test]
        fn a_name_may_have_any_case_and_hyphens() {
            for named in ALL {
                let policy = EvictionPolicy(Kind::Named(named));
                let shown = named.name.replace('_', "-").to_uppercase();
                assert_eq!((shown.parse(), read(&format!("\"{shown}\""))), (Ok(policy.clone()), Ok(policy)));
            }
            assert_eq!("S3-Fif0".parse::<EvictionPolicy>().unwrap_err().name, "S3-Fif0");
        }

        #[test]
        fn what_is_no_name_is_an_error() {
            assert!(
                read("\"lfru\"")
                    .unwrap_err()
                    .starts_with("unknown eviction policy \"lfru\": expected one of ")
            );
            assert!(read("\"custom\"").unwrap_err().starts_with("unknown eviction policy \"custom\""));
            assert!(read("7").unwrap_err().contains("expected the name of an eviction policy"));
        }

        #[test]
        fn a_custom_policy_is_not_written() {
            let policy = EvictionPolicy::custom(|_| lru::Lru::new());
            let error = serde_json::to_string(&policy).unwrap_err().to_string();
            assert_eq!(error, "a custom eviction policy cannot be serialized: it has no name");
        }
    }
}
