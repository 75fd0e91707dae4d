//! What cuts crops out on a GPU: a stream, the kernel, and the table that it reads.

use std::sync::Arc;

use super::{CropError, Cut, Download, Jobs};
use crate::cuda::context::{Context, InContext};
use crate::cuda::staging::Staging;
use crate::cuda::stream::{Event, Stream};
use crate::cuda::{CudaError, Kernels, SharedKernels};
use crate::frame::PendingStream;
use crate::frame::texture::FrameTextures;

/// The least bytes of a table, enough for 77 crops.
const LEAST_TABLE: usize = 16 << 10;

/// Cuts crops out of frames of one context. Its memory grows with the most crops of a frame, and stays.
pub struct DeviceCropper(InContext<Parts>);

#[derive(Debug)]
struct Parts {
    jobs: Jobs,
    table: Option<Staging>,
    textures: FrameTextures,
    kernels: Arc<SharedKernels>,
    finished: Event,
    produced: Event,
    stream: Stream,
}

impl DeviceCropper {
    pub fn new(context: &Context) -> Result<Self, CudaError> {
        let parts = InContext::make(context, || {
            Ok::<_, CudaError>(Parts {
                jobs: Jobs::default(),
                table: None,
                textures: FrameTextures::default(),
                kernels: Kernels::shared(context)?,
                finished: Event::new()?,
                produced: Event::new()?,
                stream: Stream::new()?,
            })
        })?;
        Ok(Self(parts))
    }

    pub fn context(&self) -> &Context {
        self.0.context()
    }

    /// Cuts everything out in one launch. All targets are written and all sources free when this returns; the copy of
    /// a download, of its first `size` bytes, may still be under way.
    ///
    /// # Safety
    /// The frames lie in this context, have the described sizes, and live until this returns. Nobody else uses the
    /// targets. `pending` is a live stream of the context on which sources are still being written. The download
    /// holds `size` bytes.
    pub unsafe fn cut(
        &mut self,
        cuts: &[Cut],
        pending: Option<PendingStream>,
        download: Option<(&mut Download, usize)>,
    ) -> Result<(), CropError> {
        let (_current, parts) = self.0.enter()?;
        parts.describe(cuts)?;
        // SAFETY: the context is current; the caller vouches for frames, stream and download.
        let enqueued = unsafe { parts.enqueue(pending, download) };
        let waited = match enqueued {
            Ok(()) => parts.finished.wait(),
            // Whatever was enqueued must not find its memory gone.
            Err(_) => parts.stream.finish(&parts.finished),
        };
        parts.textures.clear();
        enqueued?;
        Ok(waited?)
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        // What is under way uses what goes now.
        let _ = self.stream.finish(&self.finished);
    }
}

impl std::fmt::Debug for DeviceCropper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeviceCropper")
            .field("context", self.context())
            .finish_non_exhaustive()
    }
}

impl Parts {
    fn describe(&mut self, cuts: &[Cut]) -> Result<(), CropError> {
        self.jobs.clear();
        for cut in cuts {
            let planes = cut.source.format.planes();
            // SAFETY: the arrays belong to the frame, which lives until the wait.
            let source = unsafe { self.textures.readable(&cut.source, planes) }?;
            self.jobs.push(&Cut { source, ..*cut })?;
        }
        Ok(())
    }

    /// Puts the table, the launch and the download on the stream.
    ///
    /// # Safety
    /// As for [`DeviceCropper::cut`], with the context current.
    unsafe fn enqueue(
        &mut self,
        pending: Option<PendingStream>,
        download: Option<(&mut Download, usize)>,
    ) -> Result<(), CudaError> {
        let size = self.jobs.size();
        let table = match self.table.take() {
            Some(table) if table.size() >= size => table,
            _ => Staging::new(size.next_power_of_two().max(LEAST_TABLE))?,
        };
        let table = self.table.insert(table);
        let address = table.address();
        self.jobs.write(&mut table.host);
        // SAFETY: both sides hold the table, which the stream has passed when it is written again; the caller
        // vouches for the rest.
        unsafe {
            if let Some(pending) = pending {
                self.stream.follow(pending.0, &self.produced)?;
            }
            table.upload(size, self.stream.raw())?;
            self.jobs
                .launch(address)
                .launch(&self.kernels, self.stream.raw())?;
            self.stream.mark(&self.finished)?;
            if let Some((download, size)) = download {
                download.enqueue(size, &self.stream)?;
            }
        }
        Ok(())
    }
}
