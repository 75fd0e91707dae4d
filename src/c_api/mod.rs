//! Plain C functions for other languages, as pipelines/rsdetectnet.h declares and documents them: what was found
//! in a buffer, where its pixels lie, and a way of GPU memory into a buffer. pipelines/rsdetectnet.py calls them.

mod detections;
mod dlpack;
mod mapping;
mod upload;

use std::ffi::c_char;
use std::panic::{AssertUnwindSafe, catch_unwind};

pub use detections::{CDetection, rsdetectnet_detections};
pub use dlpack::{DLManagedTensor, rsdetectnet_dlpack, rsdetectnet_dlpack_capsule};
pub use mapping::{CFrame, CPlane, Mapping, rsdetectnet_map, rsdetectnet_unmap};
pub use upload::rsdetectnet_copy_to_cuda;

/// Where a function that fails leaves its sentence.
struct Complaint {
    text: *mut c_char,
    size: usize,
}

impl Complaint {
    /// # Safety
    /// `text` is null or has room for `size` bytes as long as the value lives.
    unsafe fn new(text: *mut c_char, size: usize) -> Self {
        Self { text, size }
    }

    /// Runs a function and keeps its error, or that it panicked, as a C string.
    fn keep<T>(self, run: impl FnOnce() -> Result<T, String>) -> Option<T> {
        let panicked = |_| Err("rsdetectnet failed; this is a bug of it".to_owned());
        catch_unwind(AssertUnwindSafe(run))
            .unwrap_or_else(panicked)
            .inspect_err(|sentence| self.write(sentence))
            .ok()
    }

    /// As much of the sentence as there is room for, never a part of a character.
    fn write(&self, sentence: &str) {
        if self.text.is_null() || self.size == 0 {
            return;
        }
        let end = sentence.floor_char_boundary(self.size - 1);
        // SAFETY: the constructor's caller vouches for `size` bytes, and `end` is less.
        unsafe {
            self.text
                .copy_from_nonoverlapping(sentence.as_ptr().cast(), end);
            self.text.add(end).write(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::*;

    #[test]
    fn a_sentence_is_cut_between_characters_and_ends_with_zero() {
        for (size, wanted) in [(20, "größer"), (7, "größ"), (4, "gr"), (1, "")] {
            let mut text = [0x55; 20];
            // SAFETY: the array has that many bytes.
            let complaint = unsafe { Complaint::new(text.as_mut_ptr(), size) };
            assert_eq!(complaint.keep(|| Err::<(), _>("größer".into())), None);
            // SAFETY: the sentence ends with zero.
            let said = unsafe { CStr::from_ptr(text.as_ptr()) };
            assert_eq!(said.to_str(), Ok(wanted));
        }
    }
}
