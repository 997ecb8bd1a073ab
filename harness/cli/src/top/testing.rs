//! Made processes for tests.

use std::time::Duration;

use heapgate_segment::histogram::bucket_of;
use heapgate_segment::layout::Level;

use super::source::{Look, ProcessId, Reading, Stalls};
use super::state::State;

pub fn at(second: u64) -> Duration {
    Duration::from_secs(second)
}

pub fn look(processes: impl IntoIterator<Item = Reading>) -> Look {
    Look { processes: processes.into_iter().collect(), unreadable: Vec::new() }
}

/// Process number `number`; the higher, the more it has of everything. A tick is a nanosecond.
pub fn reading(number: u32) -> Reading {
    let n = u64::from(number);
    Reading {
        id: ProcessId { pid: number, start_time: 1_000 + n },
        alive: true,
        service: format!("service-{number}"),
        version: "1.4.2".into(),
        allocator: "jemalloc".into(),
        level: Level::Sampled,
        was_off: false,
        threads: 16,
        allocations: 1_000_000 * n,
        live_objects: 12_345 * number as i64,
        live_bytes: (3 << 20) * i64::from(number),
        rss_bytes: Some((9 << 20) * n),
        stalls: Stalls {
            clean: [
                vec![calls(60, 900_000 * n), calls(700, 80_000 * n), calls(30_000, 12)],
                vec![calls(900, 300 * n)],
                vec![calls(85, 40_000 * n), calls(250_000, 3)],
                vec![calls(40, 990_000 * n)],
            ],
            interrupted: vec![calls(4_000_000, 2 * n)],
            ticks_per_second: 1e9,
        },
    }
}

fn calls(ns: u64, count: u64) -> (u32, u64) {
    (bucket_of(ns) as u32, count)
}

/// Three processes over half a minute: one that grows, one that stalls for 250 ms at the end, one that has died. The second
/// is chosen.
pub fn busy_state() -> State {
    let mut state = State::new("/run/user/1000/heapgate".into(), Duration::from_secs(1));
    for second in 0..=30 {
        let mut tokenizer = reading(7);
        tokenizer.id.pid = 4_194_303;
        tokenizer.service = "tokenizer".into();
        tokenizer.live_bytes += second as i64 * (1 << 20);
        tokenizer.allocations += second * 250_000 + second * second * 1_000;
        tokenizer.stalls.clean[0][1].1 += second * 1_000;
        let mut embedder = reading(3);
        (embedder.service, embedder.level) = ("embedder-with-a-rather-long-name".into(), Level::Exact);
        embedder.allocations += second * 1_200;
        if second == 30 {
            embedder.stalls.clean[2].push(calls(250_000_000, 1));
        }
        let mut decoder = reading(2);
        (decoder.service, decoder.version) = ("decoder".into(), String::new());
        decoder.alive = second < 25;
        state.observe(at(second), look([tokenizer, embedder, decoder]));
    }
    state.act(super::state::Action::Down);
    state
}
