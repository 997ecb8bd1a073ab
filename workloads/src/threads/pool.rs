//! Threads that are started once and handed work through queues.

use std::iter;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::abort;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use heapgate_bench::Error;

use super::queue::Queue;

/// Threads that take jobs `J` and give answers `A`.
#[derive(Debug)]
pub struct Pool<J, A> {
    queues: Arc<Queues<J, A>>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Queues<J, A> {
    /// One for each thread. No job is the last.
    inboxes: Vec<Queue<Option<J>>>,
    answers: Queue<A>,
    ready: Queue<Result<(), String>>,
}

/// What a thread of the pool works with.
#[derive(Debug)]
pub struct Seat<J, A> {
    /// Which of them it is.
    pub index: usize,
    queues: Arc<Queues<J, A>>,
}

impl<J: Send + 'static, A: Send + 'static> Pool<J, A> {
    /// Starts `count` threads, each of which runs `body` until [`Seat::jobs`] ends, and waits until all are ready.
    /// `outstanding` is the most jobs, and the most answers, that there may be at one time.
    ///
    /// # Errors
    /// [`Error::Library`] if the system has no more threads, or one of them refuses.
    pub fn start(
        count: usize,
        outstanding: usize,
        body: impl Fn(Seat<J, A>) + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let body = Arc::new(body);
        let queues = Arc::new(Queues {
            // And room for the word that there are no more.
            inboxes: (0..count).map(|_| Queue::new(outstanding + 1)).collect(),
            answers: Queue::new(outstanding),
            ready: Queue::new(count),
        });
        let mut pool = Self { queues, threads: Vec::with_capacity(count) };
        for index in 0..count {
            let seat = Seat { index, queues: Arc::clone(&pool.queues) };
            let body = Arc::clone(&body);
            let run = move || {
                // Nobody else would answer for what this thread was given: the process ends rather than wait for it.
                // What went wrong has been printed.
                if catch_unwind(AssertUnwindSafe(|| body(seat))).is_err() {
                    abort();
                }
            };
            let thread = Builder::new().name(format!("worker-{index}")).spawn(run);
            pool.threads.push(thread.map_err(|error| Error::Library(format!("no thread {index}: {error}")))?);
        }
        for _ in 0..count {
            pool.queues.ready.pop().map_err(Error::Library)?;
        }
        Ok(pool)
    }

    /// How many threads there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.threads.len()
    }

    /// Gives `job` to thread `index`.
    pub fn send(&self, index: usize, job: J) {
        self.queues.inboxes[index].push(Some(job));
    }

    /// The next `count` answers, in the order in which they come.
    pub fn answers(&self, count: usize) -> impl Iterator<Item = A> {
        (0..count).map(|_| self.queues.answers.pop())
    }
}

impl<J, A> Drop for Pool<J, A> {
    fn drop(&mut self) {
        for inbox in &self.queues.inboxes {
            inbox.push(None);
        }
        for thread in self.threads.drain(..) {
            thread.join().expect("a thread that panics ends the process");
        }
    }
}

impl<J, A> Seat<J, A> {
    /// Says that this thread is ready, and takes jobs until the pool is dropped.
    pub fn jobs(&self) -> impl Iterator<Item = J> {
        self.queues.ready.push(Ok(()));
        iter::from_fn(|| self.queues.inboxes[self.index].pop())
    }

    /// Gives `job` to the next thread, round and round.
    pub fn pass_on(&self, job: J) {
        self.queues.inboxes[(self.index + 1) % self.queues.inboxes.len()].push(Some(job));
    }

    /// Gives an answer.
    pub fn answer(&self, answer: A) {
        self.queues.answers.push(answer);
    }

    /// Says, in the place of [`Self::jobs`], that this thread can't work, and why.
    pub fn refuse(&self, reason: String) {
        self.queues.ready.push(Err(reason));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_is_answered_and_may_go_through_every_thread() {
        for count in [1, 3] {
            let pool = Pool::start(count, 16, |seat: Seat<u64, (usize, u64)>| {
                for job in seat.jobs() {
                    if job < 10 { seat.pass_on(job + 1) } else { seat.answer((seat.index, job)) }
                }
            })
            .expect("threads");
            pool.send(0, 0);
            pool.send(count - 1, 10);
            let mut answers: Vec<_> = pool.answers(2).collect();
            answers.sort_unstable();
            let mut expected = [(10 % count, 10), (count - 1, 10)];
            expected.sort_unstable();
            assert_eq!(answers, expected);
        }
    }

    #[test]
    fn a_thread_that_refuses_ends_them_all() {
        let pool = Pool::start(3, 3, |seat: Seat<(), ()>| match seat.index {
            1 => seat.refuse("not today".to_owned()),
            _ => seat.jobs().for_each(drop),
        });
        assert_eq!(pool.map(|_| ()).expect_err("it refused").to_string(), "not today");
    }

    #[test]
    fn threads_have_ended_when_the_pool_is_gone() {
        let held = Arc::new(());
        let theirs = Arc::clone(&held);
        let pool = Pool::start(4, 4, move |seat: Seat<(), ()>| {
            let _mine = Arc::clone(&theirs);
            seat.jobs().for_each(drop);
        });
        assert_eq!(Arc::strong_count(&held), 6);
        drop(pool);
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
