//! Frames of system memory on their way to a GPU, each through room of its own until its request is done.

use std::sync::Mutex;

use crate::cuda::CudaError;
use crate::cuda::context::{Context, InContext};
use crate::cuda::stream::{Event, Stream};
use crate::frame::upload::Upload;
use crate::frame::{DeviceFrame, PendingStream, SystemFrame};
use crate::lock;

/// Room for one frame, and the stream that fills it.
struct Tools {
    upload: Upload,
    stream: Stream,
    finished: Event,
}

impl Drop for Tools {
    fn drop(&mut self) {
        // What is under way uses what goes now.
        let _ = self.stream.finish(&self.finished);
    }
}

/// A frame's room until it is given back.
pub struct UploadSlot(InContext<Tools>);

impl UploadSlot {
    pub fn stream(&self) -> PendingStream {
        PendingStream(self.0.stream.raw().cast())
    }
}

/// The room of one stream of video: as much as frames of it were under way at once.
pub struct Uploads {
    unused: Mutex<Vec<UploadSlot>>,
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
    pub fn enqueue(&self, frame: &SystemFrame<'_>) -> Result<(DeviceFrame, UploadSlot), CudaError> {
        let unused = lock(&self.unused).pop();
        let mut slot = match unused {
            Some(slot) => slot,
            None => UploadSlot(InContext::make(&self.context, || {
                Ok::<_, CudaError>(Tools {
                    upload: Upload::default(),
                    stream: Stream::new()?,
                    finished: Event::new()?,
                })
            })?),
        };
        let frame = {
            let (_current, tools) = slot.0.enter()?;
            // SAFETY: the context is current; a slot is given back, or goes, when its frame has been used.
            unsafe { tools.upload.enqueue(frame, tools.stream.raw()) }?
        };
        Ok((frame, slot))
    }

    pub fn give_back(&self, slot: UploadSlot) {
        lock(&self.unused).push(slot);
    }
}
