//! Deadlines, in a hierarchical timing wheel: G. Varghese and T. Lauck, "Hashed and hierarchical timing wheels" (1987).
//!
//! Time is counted in ticks of about a millisecond. On the lowest level a bucket is one tick, on each further level as much as
//! all the level below, so that eight levels of 64 buckets reach the end of time, as far as 64 bits tell it. A slot stands in the lowest level on which its
//! tick is not in the current bucket; when a bucket on a higher level begins its slots move down.
//!
//! ```text
//! level 0:   | now | +1 ms | +2 ms | ...  the rest of the current bucket of level 1
//! level 1:   |  .  |  67 ms  |  67 ms  | ...  the rest of the current bucket of level 2
//! ```
//!
//! # Lower bounds
//!
//! A slot stands where it is due *at the latest* by its deadline when it was scheduled. The wheel hands it out then, and
//! whoever takes it looks at the deadline itself, which may have moved on, and schedules it again. So deadlines are put off
//! without a word to the wheel, and nothing is taken out of it: a slot whose entry has left is handed out for nothing, unless
//! it has a new entry by then, whose later deadline needs no other place. In a cache that evicts much and expires little that
//! saves nearly all of the work.
//!
//! To schedule takes O(1); to hand out takes O(1) amortised, since a slot moves down at most once for each level.

use super::extend_zeroed;

/// Nanoseconds in a tick, as a power of two.
const TICK_SHIFT: u32 = 20;
/// Buckets on a level, as a power of two.
const LEVEL_SHIFT: u32 = 6;
const BUCKETS: u64 = 1 << LEVEL_SHIFT;
/// Enough for all times.
const LEVELS: u32 = (u64::BITS - TICK_SHIFT).div_ceil(LEVEL_SHIFT);
/// The first nodes: one that stands for none, then one for each bucket, in which its ring begins and ends.
const HEADS: usize = 1 + (LEVELS as usize) * BUCKETS as usize;

/// Links to the previous node and the next. Zeros: in no bucket.
type Node = [u32; 2];
const PREV: usize = 0;
const NEXT: usize = 1;

pub(crate) struct Wheel {
    nodes: Vec<Node>,
    /// Of each level the buckets in which something stands.
    occupied: [u64; LEVELS as usize],
    /// The tick up to which everything has been handed out.
    elapsed: u64,
    /// Nothing is due before this tick is over.
    soonest: u64,
}

impl Wheel {
    /// A wheel that begins now. Times are in nanoseconds.
    pub(crate) fn new(now: u64) -> Self {
        let heads = 0..HEADS as u32;
        let nodes = heads.map(|head| [head; 2]).collect();
        Self { nodes, occupied: [0; LEVELS as usize], elapsed: now >> TICK_SHIFT, soonest: u64::MAX }
    }

    /// Makes room for the slots `0..slots`.
    pub(crate) fn reserve(&mut self, slots: usize) {
        extend_zeroed(&mut self.nodes, slots + HEADS);
    }

    /// Whether there is room for a slot.
    #[inline]
    pub(crate) fn has_room(&self, slot: u32) -> bool {
        slot as usize + HEADS < self.nodes.len()
    }

    /// The slot is due by `deadline`. It stood in the wheel before by the deadline of `before` or an earlier one, if it stood
    /// there at all.
    #[inline]
    pub(crate) fn schedule(&mut self, slot: u32, deadline: u64, before: u64) {
        let node = slot as usize + HEADS;
        if self.nodes[node] != [0; 2] {
            if before <= deadline {
                return;
            }
            self.unlink(node);
        }
        self.link(node, deadline);
    }

    fn link(&mut self, node: usize, deadline: u64) {
        let tick = (deadline >> TICK_SHIFT).max(self.elapsed);
        let level = ((self.elapsed ^ tick) | (BUCKETS - 1)).ilog2() / LEVEL_SHIFT;
        let bucket = (tick >> (LEVEL_SHIFT * level)) & (BUCKETS - 1);
        self.occupied[level as usize] |= 1 << bucket;
        self.soonest = self.soonest.min((tick >> (LEVEL_SHIFT * level)) << (LEVEL_SHIFT * level));
        let head = head_of(level, bucket);
        let last = std::mem::replace(&mut self.nodes[head][PREV], node as u32);
        self.nodes[last as usize][NEXT] = node as u32;
        self.nodes[node] = [last, head as u32];
    }

    /// A bucket that becomes empty by this is found to be so when it is looked at.
    fn unlink(&mut self, node: usize) {
        let [prev, next] = std::mem::take(&mut self.nodes[node]);
        self.nodes[prev as usize][NEXT] = next;
        self.nodes[next as usize][PREV] = prev;
    }

    /// Whether there may be any slot that is due.
    #[inline]
    pub(crate) fn may_be_due(&self, now: u64) -> bool {
        now >> TICK_SHIFT > self.soonest
    }

    /// Hands out a slot that may be due. It stands in the wheel no more; whoever gets it schedules it again if it is not due
    /// yet. All deadlines in ticks that are over have been handed out when there is none.
    #[inline]
    pub(crate) fn next_due(&mut self, now: u64) -> Option<u32> {
        if !self.may_be_due(now) {
            return None;
        }
        self.take_next(now >> TICK_SHIFT)
    }

    fn take_next(&mut self, now: u64) -> Option<u32> {
        loop {
            let Some((level, bucket, start)) = self.first_bucket() else {
                self.soonest = u64::MAX;
                self.elapsed = self.elapsed.max(now);
                return None;
            };
            if start >= now {
                self.soonest = start;
                self.elapsed = self.elapsed.max(now);
                return None;
            }
            self.elapsed = self.elapsed.max(start);
            let head = head_of(level, bucket);
            let node = self.nodes[head][NEXT] as usize;
            if node == head {
                self.occupied[level as usize] &= !(1 << bucket);
                continue;
            }
            self.unlink(node);
            return Some((node - HEADS) as u32);
        }
    }

    /// The bucket that begins first: its level, its place there and its first tick.
    fn first_bucket(&self) -> Option<(u32, u64, u64)> {
        let first = |level: u32| {
            // Nothing stands before the current bucket.
            let occupied = self.occupied[level as usize];
            let shift = LEVEL_SHIFT * level;
            let bucket = (occupied != 0).then(|| u64::from(occupied.trailing_zeros()))?;
            let start = (((self.elapsed >> shift) & !(BUCKETS - 1)) | bucket) << shift;
            Some((level, bucket, start))
        };
        // Of buckets that begin together that on the highest level moves down first.
        (0..LEVELS).rev().filter_map(first).min_by_key(|&(_, _, start)| start)
    }

    /// A time before which nothing is due by a deadline that was scheduled and is not handed out.
    #[inline]
    pub(crate) fn soonest(&self) -> u64 {
        if self.soonest == u64::MAX { u64::MAX } else { self.soonest << TICK_SHIFT }
    }

    /// Whether the slot stands in the wheel.
    pub(crate) fn contains(&self, slot: u32) -> bool {
        self.nodes.get(slot as usize + HEADS).is_some_and(|node| *node != [0; 2])
    }

    /// Checks the rings, and that nothing stands before the current bucket of its level.
    pub(crate) fn validate(&self) {
        let mut linked = 0;
        for level in 0..LEVELS {
            let current = (self.elapsed >> (LEVEL_SHIFT * level)) & (BUCKETS - 1);
            for bucket in 0..BUCKETS {
                let head = head_of(level, bucket);
                let (mut at, mut len) = (head, 0);
                loop {
                    let next = self.nodes[at][NEXT] as usize;
                    assert_eq!(self.nodes[next][PREV] as usize, at, "a broken ring");
                    at = next;
                    if at == head {
                        break;
                    }
                    len += 1;
                }
                let is_occupied = (self.occupied[level as usize] >> bucket) & 1 == 1;
                assert!(
                    len == 0 || is_occupied,
                    "bucket {bucket} of level {level} is not known to be occupied"
                );
                assert!(len == 0 || bucket >= current, "bucket {bucket} of level {level} is over");
                linked += len;
            }
        }
        let nodes = self.nodes[HEADS..].iter().filter(|node| **node != [0; 2]).count();
        assert_eq!(nodes, linked, "a node stands in no ring");
    }
}

fn head_of(level: u32, bucket: u64) -> usize {
    1 + level as usize * BUCKETS as usize + bucket as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const TICK: u64 = 1 << TICK_SHIFT;

    fn due(wheel: &mut Wheel, now: u64) -> Vec<u32> {
        let due = std::iter::from_fn(|| wheel.next_due(now)).collect();
        wheel.validate();
        due
    }

    #[test]
    fn each_is_handed_out_when_its_tick_is_over() {
        for start in [1, TICK * 63, TICK << 41, u64::MAX - (TICK << 43)] {
            let mut wheel = Wheel::new(start);
            wheel.reserve(8);
            let spans = [0, 1, 63, 64, 4_096, 1 << 20, 1 << 40];
            for (slot, span) in (0..).zip(spans) {
                wheel.schedule(slot, start + span * TICK, 0);
            }
            let mut handed_out = Vec::new();
            for (slot, span) in (0..).zip(spans) {
                let deadline = start + span * TICK;
                // On the way down some are handed out early, to be scheduled again.
                for early in due(&mut wheel, deadline) {
                    assert!(early >= slot, "{early} before {slot}");
                    wheel.schedule(early, start + spans[early as usize] * TICK, 0);
                }
                handed_out.extend(due(&mut wheel, deadline + TICK));
                handed_out.retain(|&other| {
                    if other > slot {
                        wheel.schedule(other, start + spans[other as usize] * TICK, 0);
                    }
                    other <= slot
                });
            }
            assert_eq!(handed_out, (0..spans.len() as u32).collect::<Vec<_>>(), "from {start}");
            assert!(due(&mut wheel, u64::MAX).is_empty());
        }
    }

    #[test]
    fn a_later_deadline_needs_no_other_place_and_an_earlier_one_does() {
        let mut wheel = Wheel::new(1);
        wheel.reserve(2);
        wheel.schedule(0, 10 * TICK, 0);
        wheel.schedule(0, 20 * TICK, 10 * TICK);
        wheel.schedule(1, 20 * TICK, 0);
        wheel.schedule(1, 10 * TICK, 20 * TICK);
        assert_eq!(due(&mut wheel, 11 * TICK), [0, 1]);
        assert!(!wheel.contains(0) && !wheel.contains(1));
    }

    proptest! {
        /// Against a sorted map: whatever is scheduled, put off and brought forward, nothing is due and not handed out, and
        /// nothing is handed out that is not there.
        #[test]
        #[cfg_attr(miri, ignore = "too long for Miri")]
        fn agrees_with_a_sorted_map(
            start in prop_oneof![0..1_u64 << 30, any::<u64>()],
            steps in prop::collection::vec((0..20_u32, 0..4_u8, 0..62_u32, any::<u64>()), 1..100),
        ) {
            let mut wheel = Wheel::new(start);
            wheel.reserve(20);
            let mut now = start;
            let mut deadlines = BTreeMap::new();
            for (slot, what, bits, amount) in steps {
                let span = amount & ((1 << bits) - 1);
                if what < 3 {
                    let deadline = now.saturating_add(span);
                    let before = deadlines.insert(slot, deadline).unwrap_or(0);
                    wheel.schedule(slot, deadline, before);
                } else {
                    now = now.saturating_add(span);
                    while let Some(slot) = wheel.next_due(now) {
                        let deadline = *deadlines.get(&slot).expect("it was scheduled");
                        if deadline <= now {
                            deadlines.remove(&slot);
                        } else {
                            wheel.schedule(slot, deadline, 0);
                        }
                    }
                    let late = |deadline: &u64| deadline >> TICK_SHIFT < now >> TICK_SHIFT;
                    prop_assert!(!deadlines.values().any(late));
                }
                wheel.validate();
                for slot in 0..20 {
                    prop_assert_eq!(wheel.contains(slot), deadlines.contains_key(&slot));
                }
            }
        }
    }
}
