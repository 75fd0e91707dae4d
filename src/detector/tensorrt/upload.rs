//! Frames of system memory on their way to a GPU, each through room of its own until its request is done.

use std::mem::ManuallyDrop;
use std::sync::Mutex;

use crate::cuda::CudaError;
use crate::cuda::context::Context;
use crate::cuda::stream::{Event, Stream};
use crate::cuda::upload::Upload;
use crate::frame::{DeviceFrame, PendingStream, SystemFrame};
use crate::lock;

/// Room for one frame, and the stream that fills it.
pub struct UploadSlot {
    upload: Upload,
    stream: Stream,
    finished: Event,
}

impl UploadSlot {
    pub fn stream(&self) -> PendingStream {
        PendingStream(self.stream.raw().cast())
    }
}

/// The room of one stream of video: as much as frames of it were under way at once.
pub struct Uploads {
    unused: Mutex<ManuallyDrop<Vec<UploadSlot>>>,
    context: Context,
}

impl Uploads {
    pub fn new(context: Context) -> Self {
        Self {
            unused: Mutex::default(),
            context,
        }
    }

    /// Copies a frame and enqueues its way to the GPU. The slot must be given back when the frame has been used.
    pub fn enqueue(
        &self,
        frame: &SystemFrame<'_>,
        gpu_id: u32,
    ) -> Result<(DeviceFrame, UploadSlot), CudaError> {
        let _current = self.context.enter()?;
        let unused = lock(&self.unused).pop();
        let mut slot = match unused {
            Some(slot) => slot,
            None => UploadSlot {
                upload: Upload::default(),
                stream: Stream::new()?,
                finished: Event::new()?,
            },
        };
        // SAFETY: the context is current; a slot is given back, or goes, when its frame has been used.
        let frame = unsafe { slot.upload.enqueue(frame, gpu_id, slot.stream.raw()) }?;
        Ok((frame, slot))
    }

    pub fn give_back(&self, slot: UploadSlot) {
        lock(&self.unused).push(slot);
    }
}

impl Drop for Uploads {
    fn drop(&mut self) {
        // Without its context, there is no memory left to free, and the driver only returns errors.
        let _current = self.context.enter();
        let unused = self
            .unused
            .get_mut()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        // SAFETY: the slots are not used again.
        for slot in unsafe { ManuallyDrop::take(unused) } {
            let _ = slot.stream.finish(&slot.finished);
        }
    }
}
