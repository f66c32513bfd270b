//! Which entries of a segment carry which tags. Made when the first entry with a tag comes.
//!
//! Each tag of each entry is a link. The links of a tag form a ring, those of an entry a chain, all in one array:
//!
//! ```text
//! rings:  tag  -> its oldest link, and how many there are
//! heads:  slot -> its first link
//! link:   | tag | slot | older | newer | next of the same slot |
//! ```
//!
//! So an entry with n tags comes and goes in O(n), whatever else carries them.

use crate::hash::RandomState;
use crate::tag::Tag;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// No link.
const NONE: u32 = u32::MAX;

#[derive(Default)]
pub(super) struct TagIndex {
    rings: HashMap<Tag, Ring, RandomState>,
    heads: Vec<u32>,
    links: Vec<Link>,
    /// Links that can be used again.
    free: Vec<u32>,
}

struct Ring {
    oldest: u32,
    len: usize,
}

struct Link {
    tag: Tag,
    slot: u32,
    older: u32,
    newer: u32,
    next: u32,
}

impl TagIndex {
    /// Tags the entry in `slot`, which has no tags yet. A tag that comes twice counts once.
    pub(super) fn add(&mut self, slot: u32, tags: &[Tag]) {
        tags.iter().for_each(|&tag| self.link(slot, tag));
    }

    fn link(&mut self, slot: u32, tag: Tag) {
        if self.heads.len() <= slot as usize {
            self.heads.resize(slot as usize + 1, NONE);
        }
        // If the slot has the tag already its link came last: a search would take long for many tags.
        let ring = self.rings.entry(tag);
        if let Entry::Occupied(ring) = &ring
            && self.links[self.links[ring.get().oldest as usize].older as usize].slot == slot
        {
            return;
        }
        let next = std::mem::replace(&mut self.heads[slot as usize], NONE);
        let at = self.free.pop().unwrap_or(self.links.len() as u32);
        let (older, newer) = match ring {
            Entry::Vacant(entry) => {
                entry.insert(Ring { oldest: at, len: 1 });
                (at, at)
            }
            Entry::Occupied(mut entry) => {
                let ring = entry.get_mut();
                ring.len += 1;
                let newest = std::mem::replace(&mut self.links[ring.oldest as usize].older, at);
                self.links[newest as usize].newer = at;
                (newest, ring.oldest)
            }
        };
        let link = Link { tag, slot, older, newer, next };
        match self.links.get_mut(at as usize) {
            Some(free) => *free = link,
            None => self.links.push(link),
        }
        self.heads[slot as usize] = at;
    }

    /// The tags of the entry in `slot`.
    pub(super) fn of(&self, slot: u32) -> impl Iterator<Item = Tag> {
        let at = |link: u32| (link != NONE).then(|| &self.links[link as usize]);
        let first = at(self.heads.get(slot as usize).copied().unwrap_or(NONE));
        std::iter::successors(first, move |link| at(link.next)).map(|link| link.tag)
    }

    /// Takes all tags off the entry in `slot`.
    pub(super) fn clear(&mut self, slot: u32) {
        let Some(head) = self.heads.get_mut(slot as usize) else { return };
        let mut at = std::mem::replace(head, NONE);
        while at != NONE {
            let Link { tag, older, newer, next, .. } = self.links[at as usize];
            self.links[older as usize].newer = newer;
            self.links[newer as usize].older = older;
            if let Entry::Occupied(mut entry) = self.rings.entry(tag) {
                let ring = entry.get_mut();
                ring.len -= 1;
                if ring.len == 0 {
                    entry.remove();
                } else if ring.oldest == at {
                    ring.oldest = newer;
                }
            }
            self.free.push(at);
            at = next;
        }
    }

    /// How many entries carry a tag.
    pub(super) fn count(&self, tag: Tag) -> usize {
        self.rings.get(&tag).map_or(0, |ring| ring.len)
    }

    /// The entry that has carried a tag for longest.
    pub(super) fn oldest(&self, tag: Tag) -> Option<u32> {
        self.rings.get(&tag).map(|ring| self.links[ring.oldest as usize].slot)
    }

    /// Checks the rings against the chains.
    pub(super) fn validate(&self, is_live: impl Fn(u32) -> bool) {
        let mut links = 0;
        for (slot, &head) in self.heads.iter().enumerate() {
            let mut at = head;
            while at != NONE {
                let link = &self.links[at as usize];
                assert!(is_live(link.slot), "a tag of slot {slot}, in which no entry stands");
                assert_eq!(link.slot as usize, slot, "a link of another slot");
                assert_eq!(self.links[link.older as usize].newer, at, "a broken ring");
                assert_eq!(self.links[link.newer as usize].tag, link.tag, "a ring of two tags");
                links += 1;
                at = link.next;
            }
        }
        assert_eq!(
            links,
            self.rings.values().map(|ring| ring.len).sum::<usize>(),
            "links in rings and chains"
        );
        assert_eq!(links + self.free.len(), self.links.len(), "a link is lost");
    }
}
