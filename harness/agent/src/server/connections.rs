//! Who is connected, and who has to go when there are too many.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    /// Nothing has been asked, or everything answered.
    Idle,
    /// A request is being answered.
    Answering(Instant),
    /// The same, and the answer is an exposition.
    Exposing(Instant),
}

/// One connection, as the others see it.
#[derive(Debug)]
pub(super) struct Connection {
    doing: Mutex<Doing>,
    /// Told to end.
    end: Notify,
}

/// All connections, oldest first.
#[derive(Debug, Default)]
pub(super) struct Connections(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    next: u64,
    open: BTreeMap<u64, Arc<Connection>>,
}

/// A place among the connections; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    pub connection: Arc<Connection>,
    id: u64,
    of: Arc<Connections>,
}

/// Held while a request is answered.
#[derive(Debug)]
pub(super) struct Answering(Arc<Connection>);

impl Connections {
    /// A place for a new connection. If there are `most` already, one of them is told to end: the one that has been
    /// open longest and is idle, or else the one that has taken longest to answer.
    pub fn admit(self: &Arc<Self>, most: usize) -> Place {
        let connection = Arc::new(Connection { doing: Mutex::new(Doing::Idle), end: Notify::new() });
        let mut connections = self.lock();
        while connections.open.len() >= most {
            let Some(victim) = connections.victim() else { break };
            if let Some(victim) = connections.open.remove(&victim) {
                victim.end.notify_one();
            }
        }
        let id = connections.next;
        connections.next += 1;
        connections.open.insert(id, Arc::clone(&connection));
        Place { connection, id, of: Arc::clone(self) }
    }

    /// Ends the exposition that has taken longest.
    pub fn end_slowest_exposition(&self) {
        let connections = self.lock();
        let slowest = connections.open.values().filter_map(|connection| match connection.doing() {
            Doing::Exposing(since) => Some((since, connection)),
            _ => None,
        });
        if let Some((_, slowest)) = slowest.min_by_key(|(since, _)| *since) {
            slowest.end.notify_one();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Open> {
        // Nothing panics while it is held, and what it guards is whole at any time.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn victim(&self) -> Option<u64> {
        let idle = self.open.iter().find(|(_, connection)| connection.doing() == Doing::Idle);
        let slowest = || {
            self.open.iter().min_by_key(|(_, connection)| match connection.doing() {
                Doing::Idle => None,
                Doing::Answering(since) | Doing::Exposing(since) => Some(since),
            })
        };
        idle.or_else(slowest).map(|(id, _)| *id)
    }
}

impl Connection {
    fn doing(&self) -> Doing {
        *self.doing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, doing: Doing) {
        *self.doing.lock().unwrap_or_else(PoisonError::into_inner) = doing;
    }

    /// A request has come.
    pub fn answer(self: &Arc<Self>) -> Answering {
        self.set(Doing::Answering(Instant::now()));
        Answering(Arc::clone(self))
    }

    /// When the present answer was begun.
    pub fn answering_since(&self) -> Option<Instant> {
        match self.doing() {
            Doing::Idle => None,
            Doing::Answering(since) | Doing::Exposing(since) => Some(since),
        }
    }

    /// Returns when the connection has to end.
    pub async fn ended(&self) {
        self.end.notified().await;
    }
}

impl Answering {
    /// The answer is an exposition, which begins now.
    pub fn expose(&self) {
        self.0.set(Doing::Exposing(Instant::now()));
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.set(Doing::Idle);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.of.lock().open.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(connections: &Arc<Connections>) -> Vec<u64> {
        connections.lock().open.keys().copied().collect()
    }

    #[test]
    fn the_connection_that_has_been_idle_longest_makes_room() {
        let connections = Arc::new(Connections::default());
        let places: Vec<_> = (0..3).map(|_| connections.admit(3)).collect();
        let _answering = places[0].connection.answer();
        let _new = connections.admit(3);
        assert_eq!(open(&connections), [0, 2, 3]);
    }

    #[test]
    fn among_busy_connections_the_slowest_makes_room() {
        let connections = Arc::new(Connections::default());
        let places: Vec<_> = (0..2).map(|_| connections.admit(2)).collect();
        let _second = places[1].connection.answer();
        let _first = places[0].connection.answer();
        let _new = connections.admit(2);
        assert_eq!(open(&connections), [0, 2]);
    }

    #[test]
    fn a_place_is_given_back() {
        let connections = Arc::new(Connections::default());
        drop(connections.admit(1));
        assert!(open(&connections).is_empty());
    }
}
