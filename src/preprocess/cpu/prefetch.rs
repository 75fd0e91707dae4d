//! Fetching memory before it is needed: where rows are skipped, processors do not foresee which come next.

/// Has the processor fetch all of these bytes into its second-level cache. The queue of the first is too short for so
/// many at once.
#[cfg(target_arch = "x86_64")]
pub fn prefetch(bytes: &[u8]) {
    use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
    const CACHE_LINE: usize = 64;
    for line in bytes.iter().step_by(CACHE_LINE) {
        // SAFETY: every x86-64 has the instruction, and it does nothing that could fail.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(std::ptr::from_ref(line).cast()) }
    }
}

/// Other processors are left to themselves.
#[cfg(not(target_arch = "x86_64"))]
pub fn prefetch(_: &[u8]) {}
