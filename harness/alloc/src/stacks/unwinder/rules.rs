//! Follows what the tables say of each call site, kept as one word of a fixed table of the process's.
//!
//! Only code that stays where it is as long as the process lives is looked up: that of this crate's own module (the
//! program, as a rule), of the C library and of the compiler's runtime. Of a library that `dlopen` maps, another may lie at
//! the same address later.

use std::ffi::c_void;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Frames;
use super::call_frames::{Entry, Row};
use super::runtime::_Unwind_Backtrace;

/// Call sites that are kept: those of a large program's allocations. A power of two.
const SITES: usize = 1 << 13;
/// Its words, each a call site in the upper half and its rule in the lower; 64 KiB, of which only what is used costs memory.
static KEPT: [AtomicU64; SITES] = [const { AtomicU64::new(0) }; SITES];

/// The modules whose code stays.
static CODE: OnceLock<Code> = OnceLock::new();
const MODULES: usize = 3;

/// Ranges of addresses: begin and end of each, and what its first is numbered.
#[derive(Debug, Default)]
struct Code([(u64, u64, u64); MODULES]);

/// How a caller is found, in 32 bits: whether by the frame's pointer (1), the offset of the canonical frame address from it or
/// from the stack's (15, in words, none is 0), how far below that address the caller's frame pointer is (16, in words; 0 if
/// it is unchanged).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rule(u32);

impl Rule {
    /// The thread's first function: there is no caller.
    const END: Self = Self(1);
    /// This walk is for the runtime.
    const OTHERWISE: Self = Self(2);
    const FROM_RBP: u32 = 1 << 31;

    fn of(row: Row) -> Self {
        let Row::Caller { from_rbp, cfa_offset, rbp_offset } = row else { return Self::END };
        let words = |bytes: i64| (bytes % 8 == 0).then_some(bytes / 8);
        let cfa = words(cfa_offset).filter(|words| (1..1 << 15).contains(words));
        let rbp = words(-rbp_offset.unwrap_or(0)).filter(|&words| words >= i64::from(rbp_offset.is_some()));
        match (cfa, rbp.and_then(|words| u16::try_from(words).ok())) {
            (Some(cfa), Some(rbp)) => {
                Self(if from_rbp { Self::FROM_RBP } else { 0 } | (cfa as u32) << 16 | u32::from(rbp))
            }
            _ => Self::OTHERWISE,
        }
    }

    fn caller(self) -> Option<(bool, u64, u64)> {
        let cfa = self.0 >> 16 & 0x7fff;
        (cfa != 0).then_some((self.0 & Self::FROM_RBP != 0, u64::from(cfa) * 8, u64::from(self.0 & 0xffff) * 8))
    }
}

// glibc's, without a lock (2.35); and of the compiler's runtime, which finds a function's entry by it.
unsafe extern "C" {
    fn _Unwind_Find_FDE(pc: *const c_void, bases: *mut [u64; 3]) -> *const u8;
}
type FindObject = unsafe extern "C" fn(address: *mut c_void, found: *mut [u64; 16]) -> i32;

/// Before the first walk, and outside of allocations.
pub(super) fn set_up() {
    CODE.get_or_init(|| {
        let own = set_up as fn() as usize;
        let modules = [own, libc::getpid as *const () as usize, _Unwind_Backtrace as *const () as usize];
        let (mut code, mut number) = (Code::default(), 1);
        for (range, address) in code.0.iter_mut().zip(modules) {
            let Some((begin, end)) = module_of(address) else { continue };
            // Numbered in 32 bits; a program of 4 GiB is walked by the runtime.
            if number + (end - begin) <= u64::from(u32::MAX) {
                *range = (begin, end, number);
                number += end - begin;
            }
        }
        code
    });
}

/// From where to where the module of `address` is mapped.
fn module_of(address: usize) -> Option<(u64, u64)> {
    // SAFETY: dlsym takes a handle and a C string.
    let find = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"_dl_find_object".as_ptr()) };
    // SAFETY: glibc's function of that name has this type; null is none.
    let find = unsafe { std::mem::transmute::<*mut c_void, Option<FindObject>>(find) }?;
    // `struct dl_find_object`: flags, begin, end, and what is not needed here, with its reserve 12 words.
    let mut found = [0; 16];
    // SAFETY: it fills in `found`, which is larger, and takes any address.
    let failed = unsafe { find(std::ptr::without_provenance_mut(address), &raw mut found) };
    (failed == 0 && found[1] < found[2]).then_some((found[1], found[2]))
}

impl Code {
    /// The number of an address, if its module stays.
    #[inline(always)]
    fn number(&self, pc: u64) -> Option<u64> {
        let module = self.0.iter().find(|(begin, end, _)| (*begin..*end).contains(&pc));
        module.map(|(begin, _, number)| number + (pc - begin))
    }
}

/// What is known of the call site at `pc`, whose number is `number`.
#[inline(always)]
fn rule(pc: u64, number: u64) -> Rule {
    // Fibonacci hashing: the upper bits of the product are spread over the table.
    let place = (number as u32).wrapping_mul(0x9E37_79B9) >> (u32::BITS - SITES.ilog2());
    let kept = &KEPT[place as usize];
    let word = kept.load(Relaxed);
    if word >> 32 == number { Rule(word as u32) } else { learn(kept, pc, number) }
}

#[cold]
#[inline(never)]
fn learn(kept: &AtomicU64, pc: u64, number: u64) -> Rule {
    let rule = entry_of(pc).and_then(|entry| entry.row(pc)).map_or(Rule::OTHERWISE, Rule::of);
    // One word: whoever reads it has it whole, and another site's is not its own.
    kept.store(number << 32 | u64::from(rule.0), Relaxed);
    rule
}

/// The tables' entry of the function at `pc`, in a module that stays.
fn entry_of(pc: u64) -> Option<Entry<'static>> {
    let mut bases = [0; 3];
    // SAFETY: it fills in `bases`: of text and data, and where the function begins.
    let entry = unsafe { _Unwind_Find_FDE(std::ptr::without_provenance(pc as usize), &raw mut bases) };
    if entry.is_null() {
        return None;
    }
    // SAFETY: an entry begins with its length and the distance from there to the common one, which begins with its own
    // length; the section is mapped as long as the module is, and read only. The escape to longer lengths is refused.
    unsafe {
        let number = |at: *const u8| at.cast::<u32>().read_unaligned();
        let content = |at: *const u8| {
            let length = number(at);
            (length < 0xffff_fff0).then(|| std::slice::from_raw_parts(at.add(4), length as usize))
        };
        let distance = number(entry.add(4)) as usize;
        let common = content(entry.add(4).sub(distance))?;
        Some(Entry { common, function: content(entry)?.get(4..)?, begin: bases[2] })
    }
}

/// Whether the stack was walked to its end, or as far as there was room, from this function's caller on; else what `frames`
/// has is of no use.
#[inline(always)]
pub(super) fn walk(frames: &mut Frames) -> bool {
    let Some(code) = CODE.get() else { return false };
    let (mut pc, mut sp, mut bp): (u64, u64, u64);
    // SAFETY: reads three registers.
    unsafe {
        std::arch::asm!(
            "lea {pc}, [rip]",
            "mov {sp}, rsp",
            "mov {bp}, rbp",
            pc = out(reg) pc,
            sp = out(reg) sp,
            bp = out(reg) bp,
            options(nomem, nostack, preserves_flags)
        );
    }
    let mut looked_up = pc;
    loop {
        if !frames.push(pc) {
            return true;
        }
        let Some(number) = code.number(looked_up) else { return false };
        let rule = rule(looked_up, number);
        let Some((from_rbp, cfa_offset, rbp_below)) = rule.caller() else { return rule == Rule::END };
        let cfa = if from_rbp { bp } else { sp }.wrapping_add(cfa_offset);
        // A stack grows down, by frames of less than this; one that is left for another is the runtime's to follow.
        const LARGEST_FRAME: u64 = 64 << 20;
        if cfa % 8 != 0 || !(1..LARGEST_FRAME).contains(&cfa.wrapping_sub(sp)) || rbp_below > cfa - sp {
            return false;
        }
        let read = |address: u64| {
            // SAFETY: the tables say that here, between this frame's stack pointer and its caller's, the call and the
            // function saved a register; they are right at a call, as the runtime takes them to be.
            unsafe { std::ptr::with_exposed_provenance::<u64>(address as usize).read_volatile() }
        };
        pc = read(cfa - 8);
        if rbp_below != 0 {
            bp = read(cfa - rbp_below);
        }
        sp = cfa;
        if pc == 0 {
            return true;
        }
        // A return address may be the next function's first.
        looked_up = pc - 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(cfa_offset: i64, rbp_offset: Option<i64>) -> Row {
        Row::Caller { from_rbp: true, cfa_offset, rbp_offset }
    }

    #[test]
    fn a_rule_is_what_it_was_made_of() {
        assert_eq!(Rule::of(caller(16, Some(-16))).caller(), Some((true, 16, 16)));
        assert_eq!(Rule::of(caller(262_136, None)).caller(), Some((true, 262_136, 0)));
        let by_rsp = Row::Caller { from_rbp: false, cfa_offset: 8, rbp_offset: None };
        assert_eq!(Rule::of(by_rsp).caller(), Some((false, 8, 0)));
        assert_eq!(Rule::of(Row::End), Rule::END);
        for odd in [caller(0, None), caller(12, None), caller(262_144, None), caller(16, Some(0)), caller(16, Some(8))]
        {
            assert_eq!(Rule::of(odd), Rule::OTHERWISE, "{odd:?}");
        }
        assert_eq!((Rule::END.caller(), Rule::OTHERWISE.caller()), (None, None));
    }

    #[inline(never)]
    fn nested(depth: u32, of: &mut impl FnMut()) {
        let mut large = [0_u8; 3000];
        std::hint::black_box(&mut large);
        if depth == 0 {
            of();
        } else {
            nested(std::hint::black_box(depth - 1), of);
        }
        std::hint::black_box(&large);
    }

    #[test]
    fn both_walks_find_the_same() {
        set_up();
        for depth in [0, 1, 20, 100] {
            nested(depth, &mut || {
                for _ in ["what is learnt", "what is kept"] {
                    let (mut own, mut expected) = (Frames::new(), Frames::new());
                    let complete = walk(&mut own);
                    super::super::runtime::walk(&mut expected);
                    assert!(complete);
                    assert_eq!(own.taken()[1..], expected.taken()[1..]);
                    assert!(own.taken().len() > 5);
                }
            });
        }
    }

    #[test]
    fn code_that_does_not_stay_is_not_followed() {
        set_up();
        assert_eq!(CODE.get().unwrap().number(1), None);
        assert_eq!(Code::default().number(0), None, "a module that was not found is empty");
    }
}
