//! Arenas, one for each unit of work, of which some are never released.

use heapgate_region::Arena;

/// What a request might keep in one: its first block holds it.
const BYTES: usize = 1 << 10;

/// Makes them.
#[derive(Debug)]
pub(super) struct Arenas {
    /// Of those made, how many are leaked.
    share: f64,
    made: u64,
    leaked: u64,
}

impl Arenas {
    pub(super) fn new(share: f64) -> Self {
        Self { share, made: 0, leaked: 0 }
    }

    /// One for each of `units`.
    pub(super) fn after_step(&mut self, units: u64) {
        for _ in 0..units {
            let arena = Arena::new();
            arena.alloc_slice(&[b' '; BYTES]);
            self.made += 1;
            // Evenly: which ones is the same in every run.
            if self.leaked < (self.made as f64 * self.share) as u64 {
                self.leaked += 1;
                std::mem::forget(arena);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_so_many_is_leaked_whatever_the_steps_are() {
        for (share, units, steps, leaked) in [(0.0, 7, 100, 0), (0.01, 7, 100, 7), (0.25, 1, 9, 2), (1.0, 3, 2, 6)] {
            let mut arenas = Arenas::new(share);
            (0..steps).for_each(|_| arenas.after_step(units));
            assert_eq!((arenas.made, arenas.leaked), (units * steps, leaked));
        }
    }
}
