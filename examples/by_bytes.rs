//! A cache of pictures that is bounded by their bytes, with a listener and statistics.
//!
//! ```text
//! cargo run --release --example by_bytes
//! ```

use larder::{Cache, EvictionPolicy, InsertOptions, RemovalCause};
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex};

type Picture = Arc<[u8]>;

const KIB: u64 = 1 << 10;
const PICTURES: u64 = 5_000;

fn main() -> Result<(), Box<dyn Error>> {
    // Who left, and why: entries and bytes by cause.
    let gone: Arc<Mutex<BTreeMap<String, (u64, usize)>>> = Arc::default();
    let told = Arc::clone(&gone);

    let cache: Cache<String, Picture> = Cache::builder()
        .name("pictures")
        .max_capacity(4 * KIB * KIB)
        .weigher(|name: &String, picture: &Picture| (name.len() + picture.len()) as u64)
        .eviction_policy(EvictionPolicy::s3_fifo())
        .eviction_listener(move |_, picture, cause: RemovalCause| {
            let mut told = told.lock().unwrap();
            let (entries, bytes) = told.entry(cause.to_string()).or_default();
            *entries += 1;
            *bytes += picture.len();
        })
        .record_stats()
        .build()?;

    // The logo stays, whatever else is asked for.
    cache.insert_with("logo".to_owned(), paint(0, 30 * KIB), InsertOptions::new().pinned(true));
    // A picture larger than the whole cache is refused, and the listener is told.
    cache.insert("poster".to_owned(), paint(0, 5 * KIB * KIB));
    assert!(!cache.contains_key("poster"));

    // Visitors: low numbers are popular. A miss costs the painting.
    for visit in 0..100_000 {
        let number = popular(visit);
        let name = format!("picture {number}");
        if cache.get(&name).is_none() {
            cache.insert(name, paint(number, (1 + number % 16) * KIB));
        }
    }

    // One picture has changed, and another is withdrawn.
    cache.insert("picture 0".to_owned(), paint(1, 2 * KIB));
    cache.invalidate("picture 1");

    let stats = cache.stats();
    println!("cache       {} with policy {}", cache.name().unwrap_or("?"), cache.policy());
    println!("holds       {} pictures, {} of {} bytes", cache.len(), cache.weighted_size(), cache.capacity());
    println!(
        "reads       {:.1} % of {} were hits",
        100.0 * stats.hit_rate(),
        stats.hit_count() + stats.miss_count()
    );
    println!("evicted     {} entries of {} bytes together", stats.eviction_count(), stats.eviction_weight());
    for (cause, (entries, bytes)) in gone.lock().unwrap().iter() {
        println!("{cause:<11} {entries} pictures of {bytes} bytes, as the listener was told");
    }
    println!("pinned      the logo is {}", if cache.contains_key("logo") { "still there" } else { "gone" });
    let coldest = cache.coldest(3).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    println!("next to go  {}", coldest.join(", "));
    assert!(cache.weighted_size() <= cache.capacity());
    Ok(())
}

/// A picture's bytes.
fn paint(number: u64, bytes: u64) -> Picture {
    vec![number as u8; bytes as usize].into()
}

/// The picture that a visit asks for. Half of the visits ask for one of the first 70, the other half for all the rest.
fn popular(visit: u64) -> u64 {
    // SplitMix64: numbers that look random and are the same in each run.
    let mut x = visit.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let part = ((x ^ (x >> 31)) >> 11) as f64 / (1_u64 << 53) as f64;
    (PICTURES as f64).powf(part) as u64 - 1
}
