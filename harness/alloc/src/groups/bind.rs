//! Threads that are bound to an arena of their group's.

use std::cell::RefCell;

use super::GroupsError;
use super::arenas::Pool;
use super::mallctl::{call, no_value, value};

/// A thread's arena, handed on when it ends.
struct Bound {
    pool: &'static Pool,
    arena: u32,
}

thread_local! {
    static BOUND: RefCell<Option<Bound>> = const { RefCell::new(None) };
}

impl Drop for Bound {
    fn drop(&mut self) {
        self.pool.give_back(self.arena);
    }
}

/// Binds the calling thread to an arena of `pool`, instead of the one that it had; `taken` once there is one.
pub(super) fn bind(pool: &'static Pool, taken: impl FnOnce()) -> Result<(), GroupsError> {
    let bound = Bound { pool, arena: pool.take()? };
    taken();
    // What it has cached comes from other arenas, and would be handed out in the group's name.
    let mut arena = bound.arena;
    call("thread.tcache.flush", no_value(), no_value())?;
    call("thread.arena", no_value(), value(&mut arena))?;
    BOUND.try_with(|old| old.replace(Some(bound))).map(drop).map_err(|_| GroupsError::Ending)
}
