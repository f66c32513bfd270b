//! `N` doubly linked lists over slot numbers, in one array of eight bytes a slot.
//!
//! A slot stands in at most one of the lists. Which one is packed into the top bits of its back link, so that
//! unlinking a slot from the middle needs nothing but its number. Each list is a ring through a node of its own, before
//! its front and behind its back, so that linking and unlinking never ask whether there is a neighbour:
//!
//! ```text
//! nodes:  | list 0 | .. | list N - 1 | slot 0 | slot 1 | ..
//! node:   | list + 1 (3 bits), 0 for none | previous node (29 bits) |   | next node |
//! ```

use super::extend_zeroed;

const LIST_SHIFT: u32 = 29;
const NODE: u32 = (1 << LIST_SHIFT) - 1;
const MOST_LISTS: usize = 7;

/// The largest number of slots that the lists can tell apart.
pub(crate) const MAX_SLOTS: usize = NODE as usize - MOST_LISTS;

/// The back link with its list, and the link to the next. All zero: in no list.
type Node = [u32; 2];
const PREV: usize = 0;
const NEXT: usize = 1;

/// `N` lists, numbered from 0, at most 7. Operations on a slot are O(1).
pub(crate) struct Lists<const N: usize> {
    nodes: Vec<Node>,
    lens: [u32; N],
}

impl<const N: usize> Lists<N> {
    pub(crate) fn new() -> Self {
        const { assert!(N <= MOST_LISTS) }
        let nodes = (0..N as u32).map(|list| [(list + 1) << LIST_SHIFT | list, list]).collect();
        Self { nodes, lens: [0; N] }
    }

    /// Makes room for the slots `0..slots`.
    pub(crate) fn reserve(&mut self, slots: usize) {
        assert!(slots <= MAX_SLOTS, "more than {MAX_SLOTS} slots in one segment");
        extend_zeroed(&mut self.nodes, slots + N);
    }

    /// For how many slots there is room.
    pub(crate) fn slots(&self) -> usize {
        self.nodes.len() - N
    }

    pub(crate) fn len(&self, list: usize) -> usize {
        self.lens[list] as usize
    }

    /// The list in which `slot` stands; none for a slot that was never reserved, too.
    #[inline]
    pub(crate) fn list_of(&self, slot: u32) -> Option<usize> {
        let [prev, _] = self.nodes.get(slot as usize + N)?;
        (prev >> LIST_SHIFT).checked_sub(1).map(|list| list as usize)
    }

    pub(crate) fn front(&self, list: usize) -> Option<u32> {
        self.nodes[list][NEXT].checked_sub(N as u32)
    }

    pub(crate) fn back(&self, list: usize) -> Option<u32> {
        (self.nodes[list][PREV] & NODE).checked_sub(N as u32)
    }

    /// The neighbour of a linked slot towards the back of its list.
    pub(crate) fn next(&self, slot: u32) -> Option<u32> {
        self.nodes[slot as usize + N][NEXT].checked_sub(N as u32)
    }

    /// The neighbour of a linked slot towards the front of its list.
    pub(crate) fn prev(&self, slot: u32) -> Option<u32> {
        (self.nodes[slot as usize + N][PREV] & NODE).checked_sub(N as u32)
    }

    /// Adds `slot`, which must stand in no list, behind all others of `list`.
    #[inline]
    pub(crate) fn push_back(&mut self, list: usize, slot: u32) {
        let last = self.nodes[list][PREV] & NODE;
        self.link(list, last, slot);
    }

    /// Adds `slot`, which must stand in no list, right behind the linked `after` of `list`, or as the front of it.
    pub(crate) fn insert_after(&mut self, list: usize, after: Option<u32>, slot: u32) {
        self.link(list, after.map_or(list as u32, |after| after + N as u32), slot);
    }

    /// Links `slot` behind the node `prev`.
    #[inline]
    fn link(&mut self, list: usize, prev: u32, slot: u32) {
        debug_assert_eq!(self.list_of(slot), None, "slot {slot} is linked already");
        let (node, tag) = (slot + N as u32, (list as u32 + 1) << LIST_SHIFT);
        let next = std::mem::replace(&mut self.nodes[prev as usize][NEXT], node);
        self.nodes[next as usize][PREV] = tag | node;
        self.nodes[node as usize] = [tag | prev, next];
        self.lens[list] += 1;
    }

    /// Takes `slot` out and says where it stood; does nothing to a slot that stands in no list.
    #[inline]
    pub(crate) fn remove(&mut self, slot: u32) -> Option<usize> {
        let list = self.list_of(slot)?;
        self.unlink(list, slot);
        Some(list)
    }

    /// Takes the front of `list` out.
    #[inline]
    pub(crate) fn pop_front(&mut self, list: usize) -> Option<u32> {
        let slot = self.front(list)?;
        let [tagged_list, next] = std::mem::take(&mut self.nodes[slot as usize + N]);
        self.nodes[list][NEXT] = next;
        self.nodes[next as usize][PREV] = tagged_list;
        self.lens[list] -= 1;
        Some(slot)
    }

    #[inline]
    fn unlink(&mut self, list: usize, slot: u32) {
        let [prev, next] = std::mem::take(&mut self.nodes[slot as usize + N]);
        self.nodes[(prev & NODE) as usize][NEXT] = next;
        self.nodes[next as usize][PREV] = prev;
        self.lens[list] -= 1;
    }

    /// Moves a linked slot to the back of `list`, its own or another.
    #[inline]
    pub(crate) fn move_to_back(&mut self, list: usize, slot: u32) {
        self.remove(slot);
        self.push_back(list, slot);
    }

    /// Lets `new`, which must stand in no list, take the place of the linked `old`.
    pub(crate) fn replace(&mut self, old: u32, new: u32) {
        debug_assert_eq!(self.list_of(new), None, "slot {new} is linked already");
        let Some(list) = self.list_of(old) else { return };
        let before = self.nodes[old as usize + N][PREV] & NODE;
        self.unlink(list, old);
        self.link(list, before, new);
    }

    /// The slots of a list, front to back.
    pub(crate) fn iter(&self, list: usize) -> impl Iterator<Item = u32> {
        std::iter::successors(self.front(list), |&slot| self.next(slot))
    }

    /// The slots of a list, back to front.
    pub(crate) fn iter_back(&self, list: usize) -> impl Iterator<Item = u32> {
        std::iter::successors(self.back(list), |&slot| self.prev(slot))
    }

    /// Re-derives every length and link.
    pub(crate) fn validate(&self) {
        let mut linked = 0;
        for (list, &stated) in self.lens.iter().enumerate() {
            let (mut before, mut len) = (None, 0);
            for slot in self.iter(list) {
                assert_eq!(self.list_of(slot), Some(list), "slot {slot} is in the wrong list");
                assert_eq!(self.prev(slot), before, "slot {slot} has a wrong back link");
                before = Some(slot);
                len += 1;
            }
            assert_eq!(self.back(list), before, "list {list} has a wrong back");
            assert_eq!(stated, len, "list {list} has a wrong length");
            linked += len;
        }
        let slots = 0..(self.nodes.len() - N) as u32;
        let all = slots.filter(|&slot| self.list_of(slot).is_some()).count();
        assert_eq!(all, linked as usize, "a slot says that it is linked, but no list has it");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 4 } else { 256 }, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn behaves_as_two_deques(ops in prop::collection::vec((0..5u8, 0..12u32, 0..12u32, 0..2usize), 0..80)) {
            let mut lists = Lists::<2>::new();
            lists.reserve(12);
            let mut model = [VecDeque::new(), VecDeque::new()];
            let place = |model: &[VecDeque<u32>; 2], slot| {
                (0..2).find_map(|l| model[l].iter().position(|&s| s == slot).map(|i| (l, i)))
            };
            for (op, slot, other, list) in ops {
                match (op, place(&model, slot)) {
                    (0, None) => {
                        lists.push_back(list, slot);
                        model[list].push_back(slot);
                    }
                    (1, found) => {
                        prop_assert_eq!(lists.remove(slot), found.map(|(l, _)| l));
                        if let Some((l, i)) = found { model[l].remove(i); }
                    }
                    (2, Some((l, i))) => {
                        lists.move_to_back(list, slot);
                        model[l].remove(i);
                        model[list].push_back(slot);
                    }
                    (4, None) => {
                        let after = model[list].iter().position(|&s| s == other);
                        lists.insert_after(list, after.map(|_| other), slot);
                        model[list].insert(after.map_or(0, |i| i + 1), slot);
                    }
                    (3, Some((l, i))) if place(&model, other).is_none() => {
                        lists.replace(slot, other);
                        model[l][i] = other;
                    }
                    _ => {}
                }
                lists.validate();
                for (l, model) in model.iter().enumerate() {
                    prop_assert!(lists.iter(l).eq(model.iter().copied()));
                    prop_assert!(lists.iter_back(l).eq(model.iter().rev().copied()));
                    prop_assert_eq!(lists.len(l), model.len());
                }
            }
        }
    }
}
