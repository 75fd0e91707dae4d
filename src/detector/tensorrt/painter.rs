//! Draws one stream's overlays on a GPU.

use std::sync::Arc;

use crate::cuda::context::{Context, InContext};
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
    tools: InContext<Tools>,
    kernels: Arc<SharedKernels>,
}

impl Painter {
    pub fn new(context: &Context, kernels: &Arc<SharedKernels>) -> Result<Self, CudaError> {
        let tools = InContext::make(context, || {
            Ok::<_, CudaError>(Tools {
                overlay: DeviceOverlay::new()?,
                finished: Event::new()?,
                produced: Event::new()?,
                stream: Stream::new()?,
            })
        })?;
        Ok(Self {
            tools,
            kernels: Arc::clone(kernels),
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
        let (_current, tools) = self.tools.enter()?;
        let Tools {
            overlay,
            finished,
            produced,
            stream,
        } = tools;
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
