//! How much memory a call takes: a counting allocator around the system's.
//!
//! Owns the one `unsafe` of this crate. Counts by thread, so that tests beside each other do not
//! see each other.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static USED: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Notes a change of what this thread holds; memory freed by another thread than took it makes a
/// number negative, which is why it has a sign.
fn note(bytes: isize) {
    // At a thread's end its counters are gone; what it frees then is nobody's question.
    let _ = USED.try_with(|used| {
        used.set(used.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(used.get())));
    });
}

fn signed(bytes: usize) -> isize {
    isize::try_from(bytes).unwrap_or(isize::MAX)
}

// SAFETY: every call goes to the system's allocator as it came; counting neither allocates (the
// cells are initialised at compile time) nor panics.
#[expect(unsafe_code, reason = "an allocator can only be written so")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(signed(layout.size()));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note(-signed(layout.size()));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// A bound on memory: so much whatever the input, and so much more for each byte of it.
#[derive(Clone, Copy)]
pub(crate) struct Bound {
    pub(crate) bytes: usize,
    pub(crate) per_byte: usize,
}

/// Runs a call and holds it to a bound on the memory it takes at once, its result included.
pub(crate) fn bounded<T>(input_bytes: usize, bound: Bound, call: impl FnOnce() -> T) -> T {
    let before = USED.get();
    PEAK.set(before);
    let result = call();
    let taken = usize::try_from(PEAK.get() - before).unwrap_or(0);
    let allowed = bound.bytes + bound.per_byte * input_bytes;
    assert!(
        taken <= allowed,
        "{taken} bytes of memory for {input_bytes} bytes of input; {allowed} are allowed"
    );
    result
}

#[cfg(test)]
mod tests {
    use super::{Bound, bounded};

    const BOUND: Bound = Bound {
        bytes: 100,
        per_byte: 2,
    };

    #[test]
    fn memory_at_the_bound_passes() {
        assert_eq!(120, bounded(10, BOUND, || vec![7_u8; 120]).len());
    }

    #[test]
    #[should_panic(expected = "121 bytes of memory for 10 bytes of input")]
    fn memory_past_the_bound_is_noticed() {
        bounded(10, BOUND, || vec![7_u8; 121]);
    }

    #[test]
    #[should_panic(expected = "bytes of memory")]
    fn memory_that_was_given_back_counts_too() {
        bounded(10, BOUND, || drop(vec![7_u8; 500]));
    }
}
