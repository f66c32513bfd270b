//! `N` doubly linked lists over slot numbers, in one array of eight bytes a slot.
//!
//! A slot stands in at most one of the lists. Which one is packed into the top bits of its back link, so that
//! unlinking a slot from the middle needs nothing but its number:
//!
//! ```text
//! prev:  | list (3 bits) | previous slot (29 bits) |      list 7: in none
//! next:  | 0     (3 bits)| next slot     (29 bits) |      slot 2^29 - 1: end of the list
//! ```

const LIST_SHIFT: u32 = 29;
const END: u32 = (1 << LIST_SHIFT) - 1;
const UNLINKED: u32 = 7;

/// The largest number of slots that the lists can tell apart.
pub(crate) const MAX_SLOTS: usize = END as usize;

#[derive(Clone, Copy)]
struct Node {
    prev: u32,
    next: u32,
}

#[derive(Clone, Copy)]
struct Ends {
    front: u32,
    back: u32,
    len: u32,
}

/// `N` lists, numbered from 0, at most 7. Operations on a slot are O(1).
pub(crate) struct Lists<const N: usize> {
    nodes: Vec<Node>,
    ends: [Ends; N],
}

impl<const N: usize> Lists<N> {
    pub(crate) fn new() -> Self {
        const { assert!(N <= UNLINKED as usize) }
        Self { nodes: Vec::new(), ends: [Ends { front: END, back: END, len: 0 }; N] }
    }

    /// Makes room for the slots `0..slots`.
    pub(crate) fn reserve(&mut self, slots: usize) {
        assert!(slots <= MAX_SLOTS, "more than {MAX_SLOTS} slots in one segment");
        if slots > self.nodes.len() {
            self.nodes.reserve_exact(slots - self.nodes.len());
            self.nodes.resize(slots, Node { prev: UNLINKED << LIST_SHIFT | END, next: END });
        }
    }

    pub(crate) fn len(&self, list: usize) -> usize {
        self.ends[list].len as usize
    }

    /// The list in which `slot` stands; none for a slot that was never reserved, too.
    pub(crate) fn list_of(&self, slot: u32) -> Option<usize> {
        let list = self.nodes.get(slot as usize)?.prev >> LIST_SHIFT;
        (list != UNLINKED).then_some(list as usize)
    }

    pub(crate) fn front(&self, list: usize) -> Option<u32> {
        some(self.ends[list].front)
    }

    pub(crate) fn back(&self, list: usize) -> Option<u32> {
        some(self.ends[list].back)
    }

    /// The neighbour of a linked slot towards the back of its list.
    pub(crate) fn next(&self, slot: u32) -> Option<u32> {
        some(self.nodes[slot as usize].next)
    }

    /// The neighbour of a linked slot towards the front of its list.
    pub(crate) fn prev(&self, slot: u32) -> Option<u32> {
        some(self.nodes[slot as usize].prev & END)
    }

    /// Adds `slot`, which must stand in no list, behind all others of `list`.
    pub(crate) fn push_back(&mut self, list: usize, slot: u32) {
        debug_assert_eq!(self.list_of(slot), None, "slot {slot} is linked already");
        let back = self.ends[list].back;
        self.nodes[slot as usize] = Node { prev: (list as u32) << LIST_SHIFT | back, next: END };
        self.set_next(list, back, slot);
        self.ends[list].back = slot;
        self.ends[list].len += 1;
    }

    /// Adds `slot`, which must stand in no list, right behind the linked `after` of `list`, or as the front of it.
    pub(crate) fn insert_after(&mut self, list: usize, after: Option<u32>, slot: u32) {
        debug_assert_eq!(self.list_of(slot), None, "slot {slot} is linked already");
        let prev = after.unwrap_or(END);
        let next = match after {
            Some(after) => self.nodes[after as usize].next,
            None => self.ends[list].front,
        };
        self.nodes[slot as usize] = Node { prev: (list as u32) << LIST_SHIFT | prev, next };
        self.set_next(list, prev, slot);
        self.set_prev(list, next, slot);
        self.ends[list].len += 1;
    }

    /// Takes `slot` out and says where it stood; does nothing to a slot that stands in no list.
    pub(crate) fn remove(&mut self, slot: u32) -> Option<usize> {
        let list = self.list_of(slot)?;
        let Node { prev, next } = self.nodes[slot as usize];
        self.set_next(list, prev & END, next);
        self.set_prev(list, next, prev & END);
        self.nodes[slot as usize] = Node { prev: UNLINKED << LIST_SHIFT | END, next: END };
        self.ends[list].len -= 1;
        Some(list)
    }

    /// Moves a linked slot to the back of `list`, its own or another.
    pub(crate) fn move_to_back(&mut self, list: usize, slot: u32) {
        self.remove(slot);
        self.push_back(list, slot);
    }

    /// Lets `new`, which must stand in no list, take the place of the linked `old`.
    pub(crate) fn replace(&mut self, old: u32, new: u32) {
        debug_assert_eq!(self.list_of(new), None, "slot {new} is linked already");
        let Some(list) = self.list_of(old) else { return };
        let node = self.nodes[old as usize];
        self.nodes[new as usize] = node;
        self.set_next(list, node.prev & END, new);
        self.set_prev(list, node.next, new);
        self.nodes[old as usize] = Node { prev: UNLINKED << LIST_SHIFT | END, next: END };
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
        for (list, ends) in self.ends.iter().enumerate() {
            let (mut before, mut len) = (END, 0);
            for slot in self.iter(list) {
                assert_eq!(self.list_of(slot), Some(list), "slot {slot} is in the wrong list");
                assert_eq!(self.nodes[slot as usize].prev & END, before, "slot {slot} has a wrong back link");
                before = slot;
                len += 1;
            }
            assert_eq!(ends.back, before, "list {list} has a wrong back");
            assert_eq!(ends.len, len, "list {list} has a wrong length");
            linked += len;
        }
        let all = (0..self.nodes.len() as u32).filter(|&slot| self.list_of(slot).is_some()).count();
        assert_eq!(all, linked as usize, "a slot says that it is linked, but no list has it");
    }

    fn set_next(&mut self, list: usize, slot: u32, next: u32) {
        if slot == END {
            self.ends[list].front = next;
        } else {
            self.nodes[slot as usize].next = next;
        }
    }

    fn set_prev(&mut self, list: usize, slot: u32, prev: u32) {
        if slot == END {
            self.ends[list].back = prev;
        } else {
            self.nodes[slot as usize].prev = (list as u32) << LIST_SHIFT | prev;
        }
    }
}

fn some(slot: u32) -> Option<u32> {
    (slot != END).then_some(slot)
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
