//! A bench with an allocator of its own.

use std::alloc::System;

use heapgate_bench::bench;

heapgate_bench::main! {
    allocator: System = System;
    bench!("boxes", "box", || || drop(std::hint::black_box(Box::new([0u8; 64])))),
}
