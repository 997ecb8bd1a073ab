//! A queue between threads that allocates nothing once it is made.
//!
//! The channels of the standard library allocate at a time that depends on the schedule: when a thread first blocks in
//! one. Two calls in millions, and no two runs would be the same.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A queue of at most so many things.
#[derive(Debug)]
pub struct Queue<T> {
    things: Mutex<VecDeque<T>>,
    arrived: Condvar,
    capacity: usize,
}

impl<T> Queue<T> {
    /// A queue with room for `capacity` things.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { things: Mutex::new(VecDeque::with_capacity(capacity)), arrived: Condvar::new(), capacity }
    }

    /// Appends `thing`.
    ///
    /// # Panics
    /// If the queue is full: whoever made it said that this could not be.
    pub fn push(&self, thing: T) {
        let mut things = self.lock();
        assert!(things.len() < self.capacity, "a queue of {} is full", self.capacity);
        things.push_back(thing);
        drop(things);
        self.arrived.notify_one();
    }

    /// Takes the first thing, and waits for it if there is none.
    pub fn pop(&self) -> T {
        let mut things = self.lock();
        loop {
            if let Some(thing) = things.pop_front() {
                return thing;
            }
            things = self.arrived.wait(things).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<T>> {
        self.things.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn what_one_thread_puts_in_another_gets_in_order() {
        let queue = Queue::new(1_000);
        thread::scope(|scope| {
            scope.spawn(|| (0..1_000).for_each(|n| queue.push(n)));
            assert!((0..1_000).all(|n| queue.pop() == n));
        });
    }

    #[test]
    #[should_panic(expected = "a queue of 1 is full")]
    fn more_than_its_capacity_is_refused() {
        let queue = Queue::new(1);
        queue.push(1);
        queue.push(2);
    }
}
