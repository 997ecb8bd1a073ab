//! What is named, and what is left alone.

use super::*;

const S: u64 = 1_000_000_000;
const RUNNING: Settings = Settings { running: true, drained: false, older_than: None };
const ENDED: Settings = Settings { running: false, drained: false, older_than: None };

fn place(line: u32, created: u64, finalized: u64, longest_ns: u64) -> Place {
    Place { file: "src/a.rs".into(), line, column: 5, created, finalized, longest_ns, ..Place::default() }
}

fn arena(id: u64, place: usize, created_ns: u64, bytes: u64) -> OpenArena {
    OpenArena { id, place, thread: 7, thread_name: "worker".into(), created_ns, bytes }
}

fn look(at_ns: u64, places: Vec<Place>, arenas: Vec<OpenArena>) -> Look {
    let created = places.iter().map(|place| place.created).sum();
    let finalized = places.iter().map(|place| place.finalized).sum();
    let reading = ArenaReading { created, finalized, places, arenas, ..ArenaReading::default() };
    Look { at_ns, live_bytes: None, reading }
}

fn named(look: &Look, settings: Settings) -> Vec<(String, Vec<u64>)> {
    let found = find(std::slice::from_ref(look), settings);
    found.leaks.into_iter().map(|leak| (leak.place, leak.items.iter().map(|item| item.id).collect())).collect()
}

#[test]
fn one_in_ten_thousand_is_named_and_the_one_in_use_is_not() {
    let used = arena(10_000, 0, 99 * S, 100);
    let leaked = arena(4_711, 0, 40 * S, 4096);
    let look = look(100 * S, vec![place(3, 10_000, 9_998, 20_000_000)], vec![used, leaked]);
    assert_eq!(named(&look, RUNNING), [("src/a.rs:3:5".to_owned(), vec![4_711])]);
    let found = find(&[look], RUNNING);
    let leak = &found.leaks[0];
    assert_eq!((leak.reason, leak.bytes, leak.items[0].age_s), (Reason::Outlived, 4096, 60.0));
    assert_eq!((found.open, found.untracked), (2, 0));
}

#[test]
fn a_run_without_leaks_names_none() {
    let at = 1_000 * S;
    // A cache made once, a pool of eight filled at the start, and requests of which some take longer.
    let pool = (0..8).map(|n| arena(10 + n, 1, 2 * S + n, 1 << 20));
    let requests = (0..5).map(|n| arena(100 + n, 2, at - 3 * S - n, 5000));
    let arenas = std::iter::once(arena(1, 0, S, 1 << 30)).chain(pool).chain(requests).collect();
    let look = look(at, vec![place(1, 1, 0, 0), place(2, 8, 0, 0), place(3, 90_000, 89_995, S / 1000)], arenas);
    assert_eq!(named(&look, RUNNING), []);
}

#[test]
fn a_line_that_releases_none_and_goes_on_making_them_is_named() {
    let arenas = (0..100).map(|n| arena(n + 1, 0, n * S, 10)).collect();
    let look = look(100 * S, vec![place(1, 100, 0, 0)], arenas);
    let found = find(std::slice::from_ref(&look), RUNNING);
    assert_eq!((found.leaks.len(), found.leaks[0].reason), (1, Reason::NeverReleased));
    assert_eq!(found.leaks[0].items.len(), 90, "the ten youngest may be in use");
    assert_eq!(find(&[look], ENDED).leaks[0].items.len(), 100);
}

#[test]
fn a_named_age_takes_the_place_of_the_rules() {
    let look = look(100 * S, vec![place(1, 2, 0, 0)], vec![arena(1, 0, 10 * S, 1), arena(2, 0, 95 * S, 9)]);
    let older = |s| Settings { older_than: Some(Duration::from_secs(s)), ..RUNNING };
    assert_eq!(named(&look, older(30)), [("src/a.rs:1:5".to_owned(), vec![1])]);
    assert_eq!(named(&look, older(1)), [("src/a.rs:1:5".to_owned(), vec![2, 1])], "biggest first");
    assert_eq!(named(&look, older(200)), []);
}

#[test]
fn the_biggest_line_comes_first_and_one_line_at_two_addresses_is_one() {
    let places = vec![place(1, 100, 98, S), place(2, 100, 99, S), place(1, 100, 99, 2 * S)];
    let arenas = vec![arena(1, 0, 0, 10), arena(2, 1, 0, 25), arena(3, 2, 0, 20)];
    let found = find(&[look(100 * S, places, arenas)], RUNNING);
    let rows: Vec<_> = found.leaks.iter().map(|leak| (leak.place.as_str(), leak.bytes, leak.created)).collect();
    assert_eq!(rows, [("src/a.rs:1:5", 30, 200), ("src/a.rs:2:5", 25, 100)]);
}

#[test]
fn a_scope_that_stays_open_is_named_while_the_process_runs() {
    let scope = |id, begun_ns| OpenScope {
        id,
        place: 0,
        thread: 9,
        thread_name: "main".into(),
        depth: 0,
        begun_ns,
        bytes: 3 << 20,
    };
    let mut look = look(100 * S, vec![place(8, 0, 0, 0)], vec![]);
    look.reading.scopes = vec![scope(5, 20 * S), scope(6, 99 * S)];
    let found = find(std::slice::from_ref(&look), RUNNING);
    assert_eq!((found.leaks.len(), found.leaks[0].kind, found.leaks[0].items[0].id), (1, Kind::Scope, 5));
    assert_eq!(find(&[look], ENDED).leaks, []);
}

#[test]
fn growth_of_live_bytes_is_told_from_noise_and_from_too_few_looks() {
    let looks = |bytes: &dyn Fn(i64) -> i64, n: i64| -> Vec<Look> {
        (0..n).map(|i| Look { live_bytes: Some(bytes(i)), ..Look::default() }).collect()
    };
    let trend = |looks: &[Look]| find(looks, RUNNING).live_bytes;
    let grows = trend(&looks(&|i| 1000 + 50 * i, 12)).expect("enough");
    assert!(grows.grows && grows.bytes_per_window == 50.0, "{grows:?}");
    assert!(trend(&looks(&|i| 1000 + i * 7919 % 100, 12)).is_some_and(|trend| !trend.grows));
    assert_eq!(trend(&looks(&|i| i, 7)), None);
    let mut unknown = looks(&|i| i, 12);
    unknown[3].live_bytes = None;
    assert_eq!(trend(&unknown), None);
}

#[test]
fn a_series_is_cut_into_windows_of_which_each_gives_its_lowest_value() {
    let series: Vec<f64> = (0..25).map(f64::from).collect();
    let lowest = windows(&series);
    assert_eq!((lowest.len(), lowest[0], lowest[11]), (WINDOWS, 0.0, 22.0));
    assert_eq!(windows(&series[..3]), [0.0, 1.0, 2.0]);
    assert_eq!(windows(&[]), [0.0; 0]);
}

#[test]
fn after_everything_was_dropped_an_arena_is_a_leak_however_young() {
    let drained = Settings { drained: true, ..ENDED };
    let look = look(
        100 * S,
        vec![place(3, 10, 9, 20 * S), place(5, 1, 0, 0)],
        vec![arena(10, 0, 99 * S, 100), arena(3, 1, 0, 7)],
    );
    assert_eq!(named(&look, ENDED), []);
    assert_eq!(named(&look, drained), [("src/a.rs:3:5".to_owned(), vec![10])], "a cache that is made once is none");
    assert_eq!(find(&[look], drained).leaks[0].reason, Reason::Undropped);
}

#[test]
fn any_registry_can_be_judged() {
    let huge = OpenArena {
        id: u64::MAX - 1,
        place: 500,
        thread: 0,
        thread_name: String::new(),
        created_ns: 0,
        bytes: u64::MAX,
    };
    let look = look(u64::MAX, vec![place(1, u64::MAX, 1, u64::MAX)], vec![huge.clone(), huge]);
    assert!(find(&[look], RUNNING).leaks.is_empty());
    assert_eq!(find(&[], RUNNING).open, 0);
}
