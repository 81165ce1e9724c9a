//! The content that was made last: deltas mostly apply to what came shortly before them.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use super::Number;

const BUDGET: u64 = 48 << 20;
/// Larger content would drive out everything else.
const LARGEST: u64 = BUDGET / 2;

/// Content by number of its object; the oldest goes first.
#[derive(Default)]
pub struct Cache {
    content: HashMap<Number, Rc<Vec<u8>>>,
    order: VecDeque<Number>,
    size: u64,
}

impl Cache {
    /// What is kept of an object.
    pub fn get(&self, number: Number) -> Option<Rc<Vec<u8>>> {
        self.content.get(&number).cloned()
    }

    /// Keeps content for a while.
    pub fn put(&mut self, number: Number, content: &Rc<Vec<u8>>) {
        let size = content.len() as u64;
        if size > LARGEST || self.content.contains_key(&number) {
            return;
        }
        self.shrink(BUDGET - size);
        self.content.insert(number, content.clone());
        self.order.push_back(number);
        self.size += size;
    }

    /// Lets go of the oldest until there are at most so many bytes.
    pub fn shrink(&mut self, size: u64) {
        while self.size > size
            && let Some(oldest) = self.order.pop_front()
        {
            self.size -= self.content.remove(&oldest).map_or(0, |content| content.len() as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_first() {
        let mut cache = Cache::default();
        for number in 0..7 {
            cache.put(number, &Rc::new(vec![0; 8 << 20]));
        }
        assert!(cache.get(0).is_none());
        assert!((1..7).all(|number| cache.get(number).is_some()));
        cache.put(7, &Rc::new(vec![0; 25 << 20]));
        assert!(cache.get(7).is_none());
        cache.shrink(10 << 20);
        assert_eq!((1..7).filter(|number| cache.get(*number).is_some()).collect::<Vec<_>>(), [6]);
        cache.shrink(0);
        assert_eq!(cache.size, 0);
    }
}
