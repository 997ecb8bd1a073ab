//! Pages of the allocator that hold next to nothing alive.

use std::io;
use std::ptr::null_mut;

use heapgate_alloc::segment::layout::Gauge;
use tikv_jemalloc_ctl::raw;
use tikv_jemalloc_sys::{MALLOCX_TCACHE_NONE, dallocx, mallocx};

use super::resident::Resident;
use crate::jemalloc;

/// Size of the objects, bytes: a size class that few programs use much, so that they don't fill the holes, of which many
/// fit a slab, so that the one that is left is little.
const OBJECT_BYTES: usize = 448;
/// How many of them are in a slab where no slabs are known: glibc puts 16 bytes before each.
const GLIBC_SLAB: Slab = Slab { objects: 64, bytes: 64 * (OBJECT_BYTES + 16) };
/// Planted anew after the last step only if the heap is by this share larger or smaller than thought.
const TOLERANCE: f64 = 0.02;

/// Slabs that are emptied to one object each.
#[derive(Debug)]
pub(super) struct Holes {
    share: f64,
    heap: Heap,
    slab: Slab,
    slabs: usize,
    /// The objects that are left, each with the address of the next in its first word.
    left: *mut Object,
}

/// Where holes are made.
#[derive(Debug)]
enum Heap {
    Jemalloc,
    /// The C library's malloc, which keeps no account of pages.
    System(Resident),
}

/// Consecutive objects of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slab {
    objects: usize,
    bytes: usize,
}

/// The head of an object of [`OBJECT_BYTES`].
struct Object {
    next: *mut Object,
}

impl Holes {
    /// Plants them.
    ///
    /// # Errors
    /// If there is no room, or `share` is more than can be had.
    pub(super) fn new(share: f64, has_jemalloc: bool) -> io::Result<Self> {
        let (heap, slab) = if has_jemalloc {
            (Heap::Jemalloc, Slab::of_jemalloc()?)
        } else {
            (Heap::System(Resident::open()?), GLIBC_SLAB)
        };
        let mut holes = Self { share, heap, slab, slabs: 0, left: null_mut() };
        holes.fit()?;
        Ok(holes)
    }

    /// Makes them as many as the heap asks for now.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(super) fn fit(&mut self) -> io::Result<()> {
        let (usable, active) = self.heap.usable_and_active()?;
        let own = (self.slabs * OBJECT_BYTES, self.slabs * self.slab.bytes);
        let (usable, active) = (usable.saturating_sub(own.0) as f64, active.saturating_sub(own.1) as f64);
        let wanted = slabs_wanted(self.share, usable, active, self.slab).ok_or_else(|| {
            let empty = 100.0 * (1.0 - usable / active);
            io::Error::other(format!("{empty:.0}% of active pages hold nothing already; plant less"))
        })?;
        if self.slabs.abs_diff(wanted) as f64 > TOLERANCE * wanted as f64 {
            // Objects more would fill the holes first.
            self.empty();
            self.fill(wanted)?;
        }
        Ok(())
    }

    fn fill(&mut self, slabs: usize) -> io::Result<()> {
        let mut all: *mut Object = null_mut();
        for _ in 0..slabs * self.slab.objects {
            let Some(object) = self.heap.allocate() else {
                (self.left, self.slabs) = (all, 0);
                self.empty();
                return Err(io::ErrorKind::OutOfMemory.into());
            };
            // SAFETY: a new object of OBJECT_BYTES, aligned for a pointer, which nobody else knows.
            unsafe { object.write(Object { next: all }) };
            all = object;
        }
        // They lie in the order in which they came, but for those that found room in slabs that were there: one in as
        // many as a slab has is one in each new slab.
        let mut place = 0;
        while !all.is_null() {
            // SAFETY: `all` is one of the objects just written.
            let next = unsafe { (*all).next };
            if place % self.slab.objects == self.slab.objects / 2 {
                // SAFETY: as above; it goes from one list to the other.
                unsafe { (*all).next = self.left };
                self.left = all;
            } else {
                self.heap.free(all);
            }
            (all, place) = (next, place + 1);
        }
        self.slabs = slabs;
        Ok(())
    }

    fn empty(&mut self) {
        while !self.left.is_null() {
            let object = self.left;
            // SAFETY: the list holds objects that were allocated and not freed.
            self.left = unsafe { (*object).next };
            self.heap.free(object);
        }
        self.slabs = 0;
    }
}

impl Drop for Holes {
    fn drop(&mut self) {
        self.empty();
    }
}

/// How many slabs make the share of `active` bytes that is not `usable` larger by `share`. `None` if none do: an emptied
/// slab holds an object, too.
///
/// With x active bytes more, of which the share r is an object's: (usable + r·x) / (active + x) = usable / active − share.
fn slabs_wanted(share: f64, usable: f64, active: f64, slab: Slab) -> Option<usize> {
    if active <= 0.0 {
        return Some(0);
    }
    let left = OBJECT_BYTES as f64 / slab.bytes as f64;
    let room = usable / active - share - left;
    // Ten times the heap and more would be another experiment.
    (room > share / 10.0).then(|| (share * active / room / slab.bytes as f64).round() as usize)
}

impl Heap {
    /// Bytes that are in use, and bytes of the pages that hold them. Allocates nothing.
    fn usable_and_active(&self) -> io::Result<(usize, usize)> {
        match self {
            Self::Jemalloc => {
                let gauges = jemalloc::gauges()?;
                let of = |wanted: Gauge| {
                    gauges.iter().find(|(gauge, _)| *gauge as usize == wanted as usize).map_or(0, |&(_, bytes)| bytes)
                };
                Ok((of(Gauge::JemallocAllocated) as usize, of(Gauge::JemallocActive) as usize))
            }
            Self::System(resident) => resident.bytes().map(|bytes| (bytes, bytes)),
        }
    }

    fn allocate(&self) -> Option<*mut Object> {
        let object = match self {
            // Past the thread's cache, where freed objects would go on counting as used.
            // SAFETY: the size is not 0; the flags are valid.
            Self::Jemalloc => unsafe { mallocx(OBJECT_BYTES, MALLOCX_TCACHE_NONE) },
            // SAFETY: malloc has no requirement.
            Self::System(_) => unsafe { libc::malloc(OBJECT_BYTES) },
        };
        (!object.is_null()).then_some(object.cast())
    }

    fn free(&self, object: *mut Object) {
        match self {
            // SAFETY: `object` came from `mallocx` above, and whoever calls this forgets it.
            Self::Jemalloc => unsafe { dallocx(object.cast(), MALLOCX_TCACHE_NONE) },
            // SAFETY: `object` came from `malloc` above, and whoever calls this forgets it.
            Self::System(_) => unsafe { libc::free(object.cast()) },
        }
    }
}

impl Slab {
    /// Those of objects of [`OBJECT_BYTES`], which depend on the size of a page.
    fn of_jemalloc() -> io::Result<Self> {
        let other = |error: tikv_jemalloc_ctl::Error| io::Error::other(error.to_string());
        let name = |bin: u32, what: &str| format!("arenas.bin.{bin}.{what}\0").into_bytes();
        // SAFETY: jemalloc's manual gives `unsigned` as this value's type.
        let bins: u32 = unsafe { raw::read(b"arenas.nbins\0") }.map_err(other)?;
        for bin in 0..bins {
            // SAFETY: as above, `size_t`.
            let size: usize = unsafe { raw::read(&name(bin, "size")) }.map_err(other)?;
            if size == OBJECT_BYTES {
                // SAFETY: as above, `uint32_t`.
                let objects: u32 = unsafe { raw::read(&name(bin, "nregs")) }.map_err(other)?;
                // SAFETY: as above, `size_t`.
                let bytes = unsafe { raw::read(&name(bin, "slab_size")) }.map_err(other)?;
                return Ok(Self { objects: objects as usize, bytes });
            }
        }
        Err(io::Error::other(format!("jemalloc has no size class of {OBJECT_BYTES} bytes")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLAB: Slab = Slab { objects: 64, bytes: 28_672 };

    #[test]
    fn so_many_slabs_raise_the_share_by_as_much() {
        for (usable, share) in [(0.9, 0.1), (0.98, 0.02), (0.7, 0.3), (0.8, 0.5)] {
            let active = 50e6;
            let slabs = slabs_wanted(share, usable * active, active, SLAB).unwrap() as f64;
            let now = 1.0 - (usable * active + slabs * OBJECT_BYTES as f64) / (active + slabs * SLAB.bytes as f64);
            assert!((now - (1.0 - usable) - share).abs() < 1e-3, "{usable} {share}: {now}");
        }
    }

    #[test]
    fn more_than_there_is_room_for_is_refused() {
        assert_eq!(slabs_wanted(0.5, 40e6, 100e6, SLAB), None);
        assert_eq!(slabs_wanted(0.9, 99e6, 100e6, SLAB), None);
        assert_eq!(slabs_wanted(0.5, 0.0, 0.0, SLAB), Some(0));
    }

    #[test]
    fn jemallocs_slabs_hold_whole_objects() {
        let slab = Slab::of_jemalloc().unwrap();
        assert!(slab.objects * OBJECT_BYTES <= slab.bytes && slab.objects >= 8, "{slab:?}");
    }

    #[test]
    fn holes_under_either_heap_are_given_back() {
        for jemalloc in [true, false] {
            let mut holes = Holes::new(0.0, jemalloc).unwrap();
            for slabs in [1, 40, 7] {
                holes.empty();
                holes.fill(slabs).unwrap();
                let (mut left, mut object) = (0, holes.left);
                while !object.is_null() {
                    // SAFETY: the list holds objects that are alive.
                    object = unsafe { (*object).next };
                    left += 1;
                }
                assert_eq!((left, holes.slabs), (slabs, slabs));
            }
            holes.empty();
            assert!(holes.left.is_null() && holes.slabs == 0);
        }
    }
}
