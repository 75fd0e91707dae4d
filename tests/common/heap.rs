//! What this process has allocated, for tests and benches.

/// Bytes of this process's one heap that are allocated. How much of the heap lies in memory says less: what was freed
/// between two blocks stays there.
pub fn allocated() -> usize {
    // SAFETY: the call has no preconditions.
    let heap = unsafe { libc::mallinfo2() };
    heap.uordblks + heap.hblkhd
}
