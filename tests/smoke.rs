use larder::*;
#[test]
fn smoke() {
    for p in ["lru", "fifo", "sieve", "tiny_lfu"] {
        for seg in [1, 4] {
            let c: Cache<u64, String> = Cache::builder()
                .max_capacity(100)
                .segments(seg)
                .eviction_policy(p.parse().unwrap())
                .build()
                .unwrap();
            for i in 0..3000u64 {
                if c.get(&(i % 170)).is_none() {
                    c.insert(i % 170, i.to_string());
                }
                if i % 13 == 0 {
                    c.insert(i % 170, i.to_string());
                }
                if i % 7 == 0 {
                    c.remove(&(i * 5 % 170));
                }
                c.validate();
            }
            assert_eq!(c.iter().count(), c.len());
            c.set_capacity(10);
            c.validate();
            c.set_capacity(1000);
            c.validate();
            c.invalidate_all();
            c.validate();
            assert!(c.is_empty());
        }
    }
}
