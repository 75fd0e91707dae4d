//! Draws one stream's overlays on a GPU.

use std::mem::ManuallyDrop;
use std::sync::Arc;

use crate::cuda::context::Context;
use crate::cuda::stream::{Event, Stream};
use crate::cuda::{CudaError, SharedKernels};
use crate::detector::{DetectError, Drawing};
use crate::frame::{DeviceFrame, PendingStream};
use crate::overlay::cuda::DeviceOverlay;

struct Tools {
    overlay: DeviceOverlay,
    finished: Event,
    produced: Event,
    stream: Stream,
}

pub struct Painter {
    /// Freed while the context is current.
    tools: ManuallyDrop<Tools>,
    kernels: Arc<SharedKernels>,
    context: Context,
}

impl Painter {
    pub fn new(context: &Context, kernels: &Arc<SharedKernels>) -> Result<Self, CudaError> {
        let _current = context.enter()?;
        Ok(Self {
            tools: ManuallyDrop::new(Tools {
                overlay: DeviceOverlay::new()?,
                finished: Event::new()?,
                produced: Event::new()?,
                stream: Stream::new()?,
            }),
            kernels: Arc::clone(kernels),
            context: context.clone(),
        })
    }

    /// Draws into mapped frames, with the host's wait at the end.
    pub fn draw(
        &mut self,
        frames: &[DeviceFrame],
        pending: Option<PendingStream>,
        drawing: Drawing<'_>,
        labels: &[String],
    ) -> Result<(), DetectError> {
        let _current = self.context.enter()?;
        let Tools {
            overlay,
            finished,
            produced,
            stream,
        } = &mut *self.tools;
        if let Some(pending) = pending {
            // SAFETY: the stream is the one on which the frames' own context writes them.
            unsafe { stream.follow(pending.0, produced) }?;
        }
        let mut enqueued = Ok(());
        for (frame, detections) in frames.iter().zip(drawing.detections) {
            let (width, height) = (frame.width, frame.height);
            let picture = drawing.overlay.picture(detections, labels, width, height);
            // SAFETY: the context is current, and the frames are mapped until the wait below.
            enqueued = unsafe { overlay.enqueue(picture, frame, &self.kernels, stream, finished) };
            if enqueued.is_err() {
                break;
            }
        }
        overlay.finish(stream, finished)?;
        Ok(enqueued?)
    }
}

impl Drop for Painter {
    fn drop(&mut self) {
        // Without its context, there is no memory left to free, and the driver only returns errors.
        let _current = self.context.enter();
        // SAFETY: the tools are not used again.
        unsafe { ManuallyDrop::drop(&mut self.tools) };
    }
}
