//! Where slabs come from.

use super::SLAB_BYTES;

/// Gives slabs and takes them back.
pub trait Source {
    /// A slab, or what stands for one.
    type Slab;

    /// A slab, and whether it was used before. What is in it is of no meaning.
    fn get(&mut self) -> (Self::Slab, bool);

    /// Copies `text`, of a slab's size, into it.
    fn fill(&mut self, slab: &mut Self::Slab, text: &[u8]);

    /// What is in it.
    fn read<'a>(&'a self, slab: &'a Self::Slab) -> &'a [u8];

    /// Takes it back.
    fn put(&mut self, slab: Self::Slab);
}

/// Every slab is allocated and freed.
#[derive(Debug)]
pub struct Heap;

impl Source for Heap {
    type Slab = Vec<u8>;

    fn get(&mut self) -> (Vec<u8>, bool) {
        (Vec::with_capacity(SLAB_BYTES), false)
    }

    fn fill(&mut self, slab: &mut Vec<u8>, text: &[u8]) {
        slab.clear();
        slab.extend_from_slice(text);
    }

    fn read<'a>(&'a self, slab: &'a Vec<u8>) -> &'a [u8] {
        slab
    }

    fn put(&mut self, slab: Vec<u8>) {
        drop(slab);
    }
}

/// Slabs given back are kept for the next, up to a number; the rest is freed.
#[derive(Debug)]
pub struct Pool {
    idle: Vec<Vec<u8>>,
    most_idle: usize,
}

impl Pool {
    /// A pool that keeps at most so many idle slabs.
    #[must_use]
    pub fn new(most_idle: usize) -> Self {
        Self { idle: Vec::with_capacity(most_idle), most_idle }
    }
}

impl Source for Pool {
    type Slab = Vec<u8>;

    fn get(&mut self) -> (Vec<u8>, bool) {
        match self.idle.pop() {
            Some(slab) => (slab, true),
            None => (Vec::with_capacity(SLAB_BYTES), false),
        }
    }

    fn fill(&mut self, slab: &mut Vec<u8>, text: &[u8]) {
        Heap.fill(slab, text);
    }

    fn read<'a>(&'a self, slab: &'a Vec<u8>) -> &'a [u8] {
        slab
    }

    fn put(&mut self, slab: Vec<u8>) {
        if self.idle.len() < self.most_idle {
            self.idle.push(slab);
        }
    }
}

/// Slabs are cut from large chunks that stay until the end; those given back are kept, all of them.
#[derive(Debug, Default)]
pub struct Hybrid {
    chunks: Vec<Box<[u8]>>,
    /// How many slabs of the last chunk were cut.
    cut: usize,
    idle: Vec<Cut>,
}

/// A slab of a chunk.
#[derive(Debug, PartialEq, Eq)]
pub struct Cut {
    chunk: usize,
    start: usize,
}

/// How many slabs a chunk has: 4 MiB of them.
const CHUNK_SLABS: usize = 64;

impl Source for Hybrid {
    type Slab = Cut;

    fn get(&mut self) -> (Cut, bool) {
        if let Some(slab) = self.idle.pop() {
            return (slab, true);
        }
        if self.chunks.is_empty() || self.cut == CHUNK_SLABS {
            self.chunks.push(vec![0; CHUNK_SLABS * SLAB_BYTES].into());
            self.cut = 0;
        }
        self.cut += 1;
        (Cut { chunk: self.chunks.len() - 1, start: (self.cut - 1) * SLAB_BYTES }, false)
    }

    fn fill(&mut self, slab: &mut Cut, text: &[u8]) {
        self.chunks[slab.chunk][slab.start..][..SLAB_BYTES].copy_from_slice(text);
    }

    fn read<'a>(&'a self, slab: &'a Cut) -> &'a [u8] {
        &self.chunks[slab.chunk][slab.start..][..SLAB_BYTES]
    }

    fn put(&mut self, slab: Cut) {
        self.idle.push(slab);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes `count` slabs, marks each, and checks that each still has its own mark.
    fn slabs_are_apart(mut source: impl Source, count: usize) {
        let mut slabs: Vec<_> = (0..count).map(|_| source.get().0).collect();
        for (mark, slab) in slabs.iter_mut().enumerate() {
            source.fill(slab, &vec![mark as u8; SLAB_BYTES]);
        }
        for (mark, slab) in slabs.iter().enumerate() {
            let bytes = source.read(slab);
            assert!(bytes.len() == SLAB_BYTES && bytes.iter().all(|&byte| byte == mark as u8), "slab {mark}");
        }
    }

    #[test]
    fn slabs_do_not_overlap() {
        slabs_are_apart(Heap, 3);
        slabs_are_apart(Pool::new(1), 3);
        slabs_are_apart(Hybrid::default(), CHUNK_SLABS + 2);
    }

    #[test]
    fn pool_keeps_no_more_than_it_may() {
        let mut pool = Pool::new(2);
        let slabs: Vec<_> = (0..3).map(|_| pool.get().0).collect();
        slabs.into_iter().for_each(|slab| pool.put(slab));
        assert_eq!([(); 3].map(|()| pool.get().1), [true, true, false]);
    }

    #[test]
    fn hybrid_reuses_every_slab_before_it_cuts_another() {
        let mut hybrid = Hybrid::default();
        let slabs: Vec<_> = (0..CHUNK_SLABS + 1).map(|_| hybrid.get()).collect();
        assert!(slabs.iter().all(|(_, used)| !used));
        slabs.into_iter().for_each(|(slab, _)| hybrid.put(slab));
        assert!((0..CHUNK_SLABS + 1).all(|_| hybrid.get().1));
        assert_eq!((hybrid.get().1, hybrid.chunks.len()), (false, 2));
    }
}
