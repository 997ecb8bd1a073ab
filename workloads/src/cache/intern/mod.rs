//! A prompt cache for many tenants, found by prefixes of prompts that tenants share: each tenant's map with strings of
//! its own, or all with ids of one pool of strings, ours ([`pool`]) or that of the `lasso` crate (E11).
//!
//! A step fills a cache from nothing, then looks keys up from several threads at a time, then drops it.

use std::hash::Hash;
use std::marker::PhantomData;
use std::ops::Range;
use std::time::Instant;

use heapgate_bench::{Error, FigureSpec, Figures, ParamSpec, Params, Steps, Variant, Work, Workload};
use lasso::{Rodeo, RodeoReader, Spur};
use rustc_hash::{FxBuildHasher, FxHashMap};

use crate::corpus::{Corpus, spread};
use crate::random::SplitMix64;

pub mod pool;

/// A string for each key of each tenant.
pub const HASHMAP: Variant =
    variant::<Owned>("intern-hashmap", "a prompt cache whose tenants have a HashMap<String, _> each");
/// Ids of our pool.
pub const POOL: Variant =
    variant::<Interned<pool::Pool>>("intern-pool", "a prompt cache whose tenants share an arena of interned keys");
/// Ids of lasso's.
pub const LASSO: Variant = variant::<Interned<Rodeo<Spur, FxBuildHasher>>>(
    "intern-lasso",
    "a prompt cache whose tenants share keys interned by the lasso crate",
);

const THREADS: ParamSpec =
    ParamSpec { name: "threads", default: "4", choices: &[], help: "threads that look keys up, 1 to 64" };
const LOOKUPS: ParamSpec =
    ParamSpec { name: "lookups", default: "10000", choices: &[], help: "keys each thread looks up, 1 to 10000000" };

const FIGURES: &[FigureSpec] = &[
    FigureSpec { name: "insert_mean_ns", help: "mean time to put one key into the cache" },
    FigureSpec {
        name: "lookup_mean_ns",
        help: "time until all threads had looked their keys up, divided by all look-ups: starting threads is in it",
    },
    FigureSpec { name: "distinct_keys", help: "keys that differ" },
];

const TENANTS: usize = 8;
/// How many passages there are, and how many of them each tenant has seen.
const PASSAGES: usize = 10_000;
const SEEN_PASSAGES: usize = 5_000;
/// Where a passage is cut for a key: a prompt cache keeps what was computed for each prefix of so many blocks.
const PREFIX_BYTES: [usize; 4] = [64, 128, 256, 512];

const fn variant<C: Cache + 'static>(name: &'static str, about: &'static str) -> Variant {
    Variant::new("cache", name, "key", about, set_up::<C>)
        .params(&[THREADS, LOOKUPS])
        .figures(FIGURES)
        .allocators(&["system", "jemalloc"])
}

/// A cache while it is filled.
trait Cache {
    type Filled: Lookup;
    fn empty() -> Self;
    fn insert(&mut self, tenant: usize, key: &str, answer: u32);
    fn filled(self) -> Self::Filled;
}

/// A cache that is only read.
trait Lookup: Sync {
    fn get(&self, tenant: usize, key: &str) -> Option<u32>;
    fn distinct_keys(&self) -> usize;
}

/// Strings of its own in each map.
struct Owned([FxHashMap<String, u32>; TENANTS]);

impl Cache for Owned {
    type Filled = Self;

    fn empty() -> Self {
        Self(Default::default())
    }

    fn insert(&mut self, tenant: usize, key: &str, answer: u32) {
        self.0[tenant].insert(key.to_owned(), answer);
    }

    fn filled(self) -> Self {
        self
    }
}

impl Lookup for Owned {
    fn get(&self, tenant: usize, key: &str) -> Option<u32> {
        self.0[tenant].get(key).copied()
    }

    fn distinct_keys(&self) -> usize {
        let mut keys: Vec<&str> = self.0.iter().flat_map(|map| map.keys()).map(String::as_str).collect();
        keys.sort_unstable();
        keys.dedup();
        keys.len()
    }
}

/// Something that gives strings ids.
trait Interner {
    type Id: Copy + Eq + Hash + Sync;
    type Filled: Resolver<Id = Self::Id>;
    fn empty() -> Self;
    fn intern(&mut self, text: &str) -> Self::Id;
    fn filled(self) -> Self::Filled;
}

/// Finds the ids that were given.
trait Resolver: Sync {
    type Id;
    fn id(&self, text: &str) -> Option<Self::Id>;
    fn count(&self) -> usize;
}

impl Interner for pool::Pool {
    type Id = pool::Id;
    type Filled = Self;

    fn empty() -> Self {
        Self::default()
    }

    fn intern(&mut self, text: &str) -> pool::Id {
        Self::intern(self, text)
    }

    fn filled(self) -> Self {
        self
    }
}

impl Resolver for pool::Pool {
    type Id = pool::Id;

    fn id(&self, text: &str) -> Option<pool::Id> {
        self.get(text)
    }

    fn count(&self) -> usize {
        self.len()
    }
}

impl Interner for Rodeo<Spur, FxBuildHasher> {
    type Id = Spur;
    type Filled = RodeoReader<Spur, FxBuildHasher>;

    fn empty() -> Self {
        Self::with_hasher(FxBuildHasher)
    }

    fn intern(&mut self, text: &str) -> Spur {
        self.get_or_intern(text)
    }

    fn filled(self) -> Self::Filled {
        self.into_reader()
    }
}

impl Resolver for RodeoReader<Spur, FxBuildHasher> {
    type Id = Spur;

    fn id(&self, text: &str) -> Option<Spur> {
        self.get(text)
    }

    fn count(&self) -> usize {
        self.len()
    }
}

/// Ids of one interner in each map.
struct Interned<I: Interner> {
    interner: I,
    maps: Maps<I::Id>,
}

type Maps<K> = [FxHashMap<K, u32>; TENANTS];

struct Filled<I: Interner> {
    keys: I::Filled,
    maps: Maps<I::Id>,
}

impl<I: Interner> Cache for Interned<I> {
    type Filled = Filled<I>;

    fn empty() -> Self {
        Self { interner: I::empty(), maps: Default::default() }
    }

    fn insert(&mut self, tenant: usize, key: &str, answer: u32) {
        let id = self.interner.intern(key);
        self.maps[tenant].insert(id, answer);
    }

    fn filled(self) -> Filled<I> {
        Filled { keys: self.interner.filled(), maps: self.maps }
    }
}

impl<I: Interner> Lookup for Filled<I> {
    fn get(&self, tenant: usize, key: &str) -> Option<u32> {
        self.maps[tenant].get(&self.keys.id(key)?).copied()
    }

    fn distinct_keys(&self) -> usize {
        self.keys.count()
    }
}

/// The keys, and which of them each tenant puts in.
struct Keys {
    text: String,
    spans: Vec<Range<usize>>,
}

impl Keys {
    fn load() -> Self {
        let corpus = Corpus::load();
        let (text, verses) = (corpus.text(), corpus.verses());
        let spans = (0..PASSAGES as u64).flat_map(|i| {
            let start = verses[spread(i, verses.len() as u64) as usize].start;
            PREFIX_BYTES.map(|bytes| start..text.floor_char_boundary(start + bytes))
        });
        let spans = spans.collect();
        Self { spans, text: corpus.into_text() }
    }

    fn get(&self, index: usize) -> &str {
        &self.text[self.spans[index].clone()]
    }

    /// The keys that a tenant puts in, some of them more than once.
    fn of_tenant(&self, tenant: usize) -> impl Iterator<Item = usize> {
        let mut random = SplitMix64::new(tenant as u64);
        (0..SEEN_PASSAGES).flat_map(move |_| {
            let passage = random.below(PASSAGES);
            (0..PREFIX_BYTES.len()).map(move |cut| passage * PREFIX_BYTES.len() + cut)
        })
    }
}

struct Run<C> {
    keys: Keys,
    threads: u64,
    lookups: usize,
    distinct: usize,
    insert_ns: u64,
    lookup_ns: u64,
    steps: u64,
    cache: PhantomData<fn() -> C>,
}

const INSERTS: u64 = (TENANTS * SEEN_PASSAGES * PREFIX_BYTES.len()) as u64;

fn set_up<C: Cache + 'static>(params: &Params) -> Result<Box<dyn Workload>, Error> {
    Ok(Box::new(Run::<C> {
        threads: params.number(THREADS.name, 1..=64)?,
        lookups: params.number(LOOKUPS.name, 1..=10_000_000)?,
        keys: Keys::load(),
        distinct: 0,
        insert_ns: 0,
        lookup_ns: 0,
        steps: 0,
        cache: PhantomData,
    }))
}

impl<C: Cache> Run<C> {
    fn fill(&self) -> C::Filled {
        let mut cache = C::empty();
        for tenant in 0..TENANTS {
            for key in self.keys.of_tenant(tenant) {
                cache.insert(tenant, self.keys.get(key), key as u32);
            }
        }
        cache.filled()
    }

    /// The sum of what all threads found.
    fn look_up(&self, cache: &C::Filled) -> u64 {
        let one = |thread: u64| {
            let mut random = SplitMix64::new(1_000 + thread);
            let mut sum = 0u64;
            for _ in 0..self.lookups {
                let (tenant, key) = (random.below(TENANTS), random.below(self.keys.spans.len()));
                sum = sum.wrapping_add(cache.get(tenant, self.keys.get(key)).map_or(1, u64::from));
            }
            sum
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.threads).map(|thread| scope.spawn(move || one(thread))).collect();
            threads.into_iter().map(|thread| thread.join().expect("it only reads")).fold(0, u64::wrapping_add)
        })
    }
}

impl<C: Cache> Workload for Run<C> {
    fn steps(&self) -> Steps {
        Steps { warmup: 1, measure: 10, ..Steps::default() }
    }

    fn step(&mut self) -> Work {
        let start = Instant::now();
        let cache = self.fill();
        self.insert_ns += start.elapsed().as_nanos() as u64;
        let start = Instant::now();
        let checksum = self.look_up(&cache);
        self.lookup_ns += start.elapsed().as_nanos() as u64;
        self.steps += 1;
        if self.distinct == 0 {
            self.distinct = cache.distinct_keys();
        }
        Work { units: INSERTS, checksum }
    }

    fn measure_begins(&mut self) {
        (self.insert_ns, self.lookup_ns, self.steps) = (0, 0, 0);
    }

    fn figures(&mut self, figures: &mut Figures) {
        figures.set("distinct_keys", self.distinct as f64);
        if self.steps > 0 {
            figures.set("insert_mean_ns", self.insert_ns as f64 / (self.steps * INSERTS) as f64);
            let lookups = self.steps * self.threads * self.lookups as u64;
            figures.set("lookup_mean_ns", self.lookup_ns as f64 / lookups as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled<C: Cache + 'static>(keys: &Keys) -> C::Filled {
        let mut cache = C::empty();
        for tenant in 0..TENANTS {
            keys.of_tenant(tenant).take(400).for_each(|key| cache.insert(tenant, keys.get(key), key as u32));
        }
        cache.filled()
    }

    #[test]
    fn all_caches_find_the_same() {
        let keys = Keys::load();
        let owned = filled::<Owned>(&keys);
        let ours = filled::<Interned<pool::Pool>>(&keys);
        let lasso = filled::<Interned<Rodeo<Spur, FxBuildHasher>>>(&keys);
        let mut found = 0;
        for tenant in 0..TENANTS {
            for key in 0..keys.spans.len() {
                let key = keys.get(key);
                let answer = owned.get(tenant, key);
                assert_eq!((ours.get(tenant, key), lasso.get(tenant, key)), (answer, answer), "{key}");
                found += usize::from(answer.is_some());
            }
        }
        assert!(found >= TENANTS * 300, "{found}");
        assert_eq!(ours.distinct_keys(), owned.distinct_keys());
        assert_eq!(lasso.distinct_keys(), owned.distinct_keys());
    }
}
