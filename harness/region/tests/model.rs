//! Random programs against a model: what a region hands out never overlaps, lies where it should, keeps its contents
//! over every resize, and is counted exactly when it escapes.

use heapgate_region::{CHUNK_BYTES, MAX_LEVELS, MAX_OBJECT_BYTES, Region, is_ours, scope, stats};
use proptest::prelude::*;
use proptest::test_runner::{FailurePersistence, FileFailurePersistence};
use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

static REGION: Region<System> = Region::new(System);

#[derive(Debug, Clone)]
enum Step {
    Enter,
    Leave,
    Alloc { size: usize, align: usize, zeroed: bool },
    Free { which: usize },
    FreeElsewhere { which: usize },
    Resize { which: usize, size: usize },
}

struct Block {
    ptr: *mut u8,
    layout: Layout,
    fill: u8,
    /// How many scopes were open when it was made, or moved; falls as they end. 0: no open scope's.
    level: usize,
}

// SAFETY: plain memory with one owner, and a region allows frees from any thread.
unsafe impl Send for Block {}

impl Block {
    fn check(&self) {
        // SAFETY: the block is live and was filled.
        let bytes = unsafe { std::slice::from_raw_parts(self.ptr, self.layout.size()) };
        assert!(bytes[0] == self.fill && bytes[1..] == bytes[..bytes.len() - 1], "contents changed");
    }

    fn free(self) {
        self.check();
        // SAFETY: the block is live with this layout, and `self` is consumed.
        unsafe { REGION.dealloc(self.ptr, self.layout) }
    }
}

#[derive(Default)]
struct Model {
    blocks: Vec<Block>,
    /// Start and end of every live block.
    spans: BTreeMap<usize, usize>,
    depth: usize,
    deepest: usize,
    next_fill: u8,
    escaped: (u64, u64),
}

impl Model {
    /// Runs steps until the scope they are in ends.
    fn run(&mut self, steps: &mut std::slice::Iter<'_, Step>) {
        while let Some(step) = steps.next() {
            match *step {
                Step::Enter => {
                    scope(|| {
                        self.depth += 1;
                        self.deepest = self.deepest.max(self.depth);
                        self.run(steps);
                    });
                    self.left();
                }
                Step::Leave if self.depth > 0 => return,
                Step::Leave => {}
                Step::Alloc { size, align, zeroed } => self.alloc(size, align, zeroed),
                Step::Free { which } => {
                    if let Some(block) = self.take(which) {
                        block.free();
                    }
                }
                Step::FreeElsewhere { which } => {
                    if let Some(block) = self.take(which) {
                        std::thread::spawn(move || block.free()).join().expect("the contents are right");
                    }
                }
                Step::Resize { which, size } => self.resize(which, size),
            }
        }
    }

    /// The scope's blocks become its parent's, and count as escapes.
    fn left(&mut self) {
        for block in self.blocks.iter_mut().filter(|block| block.level == self.depth) {
            block.level -= 1;
            if is_ours(block.ptr) {
                self.escaped.0 += 1;
                self.escaped.1 += block.layout.size() as u64;
            }
        }
        self.depth -= 1;
    }

    fn alloc(&mut self, size: usize, align: usize, zeroed: bool) {
        let layout = Layout::from_size_align(size, align).expect("a valid layout");
        // SAFETY: sizes start at 1.
        let ptr = unsafe { if zeroed { REGION.alloc_zeroed(layout) } else { REGION.alloc(layout) } };
        self.place(ptr, layout);
        if zeroed {
            Block { ptr, layout, fill: 0, level: 0 }.check();
        }
        self.next_fill = self.next_fill.wrapping_add(1);
        let block = Block { ptr, layout, fill: self.next_fill, level: self.depth };
        // SAFETY: the block is `size` bytes long.
        unsafe { ptr.write_bytes(block.fill, size) };
        self.blocks.push(block);
    }

    fn resize(&mut self, which: usize, size: usize) {
        let Some(mut block) = self.take(which) else { return };
        block.check();
        // SAFETY: the block is live with this layout; sizes start at 1.
        let ptr = unsafe { REGION.realloc(block.ptr, block.layout, size) };
        let kept =
            Layout::from_size_align(size.min(block.layout.size()), block.layout.align()).expect("a valid layout");
        let layout = Layout::from_size_align(size, block.layout.align()).expect("a valid layout");
        Block { ptr, layout: kept, ..block }.check();
        if ptr.addr() == block.ptr.addr() {
            self.note_span(ptr, layout);
        } else if is_ours(block.ptr) {
            block.level = self.depth;
            self.place(ptr, layout);
        } else {
            assert!(!is_ours(ptr), "a block of the inner allocator stays there");
            self.note_span(ptr, layout);
        }
        // SAFETY: the block is `size` bytes long.
        unsafe { ptr.write_bytes(block.fill, size) };
        self.blocks.push(Block { ptr, layout, ..block });
    }

    /// A new block lies in the range exactly when a scope is open and it is small, and then in one chunk.
    fn place(&mut self, ptr: *mut u8, layout: Layout) {
        let fits = self.depth > 0 && layout.size() <= MAX_OBJECT_BYTES;
        // A large alignment is met by the chunk if it can be.
        if !fits || layout.align() <= MAX_OBJECT_BYTES {
            assert_eq!(is_ours(ptr), fits);
        }
        self.note_span(ptr, layout);
    }

    fn note_span(&mut self, ptr: *mut u8, layout: Layout) {
        let (start, end) = (ptr.addr(), ptr.addr() + layout.size());
        assert_eq!(start % layout.align(), 0, "alignment");
        if is_ours(ptr) {
            assert_eq!(start / CHUNK_BYTES, (end - 1) / CHUNK_BYTES, "a block crosses its chunk's end");
        }
        let before = self.spans.range(..end).next_back();
        assert!(before.is_none_or(|(_, other_end)| *other_end <= start), "two live blocks overlap");
        self.spans.insert(start, end);
    }

    fn take(&mut self, which: usize) -> Option<Block> {
        let last = self.blocks.len().checked_sub(1)?;
        // Small numbers count from the newest: most programs free what they made last.
        let block = self.blocks.remove(last - which % (last + 1));
        self.spans.remove(&block.ptr.addr());
        Some(block)
    }
}

/// What a program's run showed: the escapes (objects, bytes) by the model and as counted, and how deep its scopes went.
#[derive(Debug)]
struct Outcome {
    model: (u64, u64),
    counted: (u64, u64),
    deepest: usize,
}

/// Runs a program on a thread of its own.
fn run(program: &[Step]) -> Outcome {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let before = stats();
    let body = || {
        let mut model = Model::default();
        model.run(&mut program.iter());
        let counted = stats();
        model.blocks.into_iter().for_each(Block::free);
        (model.escaped, model.deepest, counted)
    };
    let (model, deepest, counted) = std::thread::scope(|threads| threads.spawn(body).join())
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    assert_eq!(stats().chunks_in_use, before.chunks_in_use, "every chunk came back");
    let objects = counted.escaped_objects - before.escaped_objects;
    Outcome { model, counted: (objects, counted.escaped_bytes - before.escaped_bytes), deepest }
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![
        8 => 1..300usize,
        2 => 300..MAX_OBJECT_BYTES / 4,
        2 => MAX_OBJECT_BYTES / 4..=MAX_OBJECT_BYTES,
        1 => MAX_OBJECT_BYTES + 1..2 * CHUNK_BYTES,
    ]
}

fn step(elsewhere: u32) -> impl Strategy<Value = Step> {
    let which = prop_oneof![3 => 0..2usize, 1 => 0..1000usize];
    let align = prop_oneof![8 => 0..5u32, 1 => 5..CHUNK_BYTES.ilog2() + 2].prop_map(|power| 1usize << power);
    prop_oneof![
        2 => Just(Step::Enter),
        2 => Just(Step::Leave),
        12 => (size(), align, any::<bool>()).prop_map(|(size, align, zeroed)| Step::Alloc { size, align, zeroed }),
        7 => which.clone().prop_map(|which| Step::Free { which }),
        elsewhere => which.clone().prop_map(|which| Step::FreeElsewhere { which }),
        5 => (which, size()).prop_map(|(which, size)| Step::Resize { which, size }),
    ]
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 300 },
        // Miri has no file system to keep failures in.
        failure_persistence: (!cfg!(miri))
            .then(|| Box::<FileFailurePersistence>::default() as Box<dyn FailurePersistence>),
        ..ProptestConfig::default()
    }
}

const LONGEST: usize = if cfg!(miri) { 50 } else { 400 };

proptest! {
    #![proptest_config(config())]

    #[test]
    fn one_threads_blocks_are_disjoint_and_its_escapes_exact(program in prop::collection::vec(step(0), 0..LONGEST)) {
        let ran = run(&program);
        // Scopes deeper than the levels share one, and record less.
        prop_assert!(ran.deepest > MAX_LEVELS || ran.model == ran.counted, "{ran:?}");
    }

    #[test]
    fn blocks_that_other_threads_free_are_disjoint_too(program in prop::collection::vec(step(4), 0..LONGEST)) {
        let ran = run(&program);
        // A free by another thread may be missed, and never invented.
        prop_assert!(ran.deepest > MAX_LEVELS || ran.model.0 <= ran.counted.0, "{ran:?}");
    }
}
