//! CPU time of another process, all its threads, the ended ones too, to the nanosecond.

/// CPU time that process `pid` has used, ns; `None` if it is gone.
#[must_use]
pub fn of_process(pid: u32) -> Option<u64> {
    let mut clock = 0;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `clock` is valid for the call to fill in.
    if unsafe { libc::clock_getcpuclockid(i32::try_from(pid).ok()?, &raw mut clock) } != 0 {
        return None;
    }
    // SAFETY: `time` is valid for the call to fill in.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return None;
    }
    Some(time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_process_that_works_uses_time_and_one_that_is_not_there_has_none() {
        let me = std::process::id();
        let before = super::of_process(me).unwrap();
        let mut x = 0u64;
        for i in 0..1_000_000 {
            x = std::hint::black_box(x.wrapping_add(i));
        }
        assert!(super::of_process(me).unwrap() > before);
        assert_eq!(super::of_process(u32::MAX), None);
    }
}
