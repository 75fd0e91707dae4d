//! What cuts crops out on a GPU: a stream, the kernel, and the table that it reads.

use std::ffi::c_void;
use std::mem::ManuallyDrop;
use std::sync::Arc;

use cust::memory::{DeviceBuffer, LockedBuffer};
use cust::sys;

use super::{CropError, Cut, Download, Jobs};
use crate::cuda::context::Context;
use crate::cuda::driver::check;
use crate::cuda::stream::{Event, Stream};
use crate::cuda::texture::PointTexture;
use crate::cuda::{CudaError, SharedKernels};
use crate::frame::{DeviceFrame, DeviceStorage, PendingStream};

/// The least bytes of a table, enough for 77 crops.
const LEAST_TABLE: usize = 16 << 10;

/// Cuts crops out of frames of one context. Its memory grows with the most crops of a frame, and stays.
pub struct DeviceCropper {
    /// Everything that lies on the GPU, freed while the context is current.
    parts: ManuallyDrop<Parts>,
    context: Context,
}

#[derive(Debug)]
struct Parts {
    jobs: Jobs,
    /// The table, in pinned memory and on the GPU.
    table: Option<(LockedBuffer<u8>, DeviceBuffer<u8>)>,
    /// By the array that each one shows.
    textures: Vec<(u64, PointTexture)>,
    kernels: Arc<SharedKernels>,
    finished: Event,
    produced: Event,
    stream: Stream,
}

impl DeviceCropper {
    pub fn new(context: Context) -> Result<Self, CudaError> {
        let parts = {
            let _current = context.enter()?;
            Parts {
                jobs: Jobs::default(),
                table: None,
                textures: Vec::new(),
                kernels: SharedKernels::of(&context)?,
                finished: Event::new()?,
                produced: Event::new()?,
                stream: Stream::new()?,
            }
        };
        Ok(Self {
            parts: ManuallyDrop::new(parts),
            context,
        })
    }

    pub fn context(&self) -> &Context {
        &self.context
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
        let _current = self.context.enter()?;
        let parts = &mut *self.parts;
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

impl Drop for DeviceCropper {
    fn drop(&mut self) {
        // Without its context, there is no memory left to free, and the driver only returns errors.
        let _current = self.context.enter();
        let parts = &mut self.parts;
        let _ = parts.stream.finish(&parts.finished);
        // SAFETY: the parts are not used again.
        unsafe { ManuallyDrop::drop(&mut self.parts) };
    }
}

impl std::fmt::Debug for DeviceCropper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeviceCropper")
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}

impl Parts {
    fn describe(&mut self, cuts: &[Cut]) -> Result<(), CropError> {
        self.jobs.clear();
        for cut in cuts {
            let source = self.readable(&cut.source)?;
            self.jobs.push(&Cut { source, ..*cut })?;
        }
        Ok(())
    }

    /// The frame as the kernel can read it: arrays through textures, which live until the wait.
    fn readable(&mut self, frame: &DeviceFrame) -> Result<DeviceFrame, CudaError> {
        let mut frame = *frame;
        if frame.storage == DeviceStorage::BlockLinear {
            for plane in frame.planes.iter_mut().take(frame.format.planes()) {
                let array = plane.pointer;
                let known = self.textures.iter().find(|(shown, _)| *shown == array);
                plane.pointer = match known {
                    Some((_, texture)) => texture.object(),
                    None => {
                        // SAFETY: the array belongs to the frame, which lives until the wait.
                        let texture = unsafe { PointTexture::new(array as _) }?;
                        let object = texture.object();
                        self.textures.push((array, texture));
                        object
                    }
                };
            }
            frame.storage = DeviceStorage::Texture;
        }
        Ok(frame)
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
        let room = match self.table.take() {
            Some(table) if table.0.len() >= size => table,
            _ => new_table(size)?,
        };
        let (host, device) = self.table.insert(room);
        let address = device.as_device_ptr().as_raw();
        self.jobs.write(host);
        // SAFETY: both buffers hold the table, which the stream has passed when it is written again; the caller
        // vouches for the rest.
        unsafe {
            if let Some(pending) = pending {
                self.stream.follow(pending.0, &self.produced)?;
            }
            check(
                "cuMemcpyHtoDAsync",
                sys::cuMemcpyHtoDAsync_v2(
                    address,
                    host.as_ptr().cast::<c_void>(),
                    size,
                    self.stream.raw(),
                ),
            )?;
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

fn new_table(size: usize) -> Result<(LockedBuffer<u8>, DeviceBuffer<u8>), CudaError> {
    let size = size.next_power_of_two().max(LEAST_TABLE);
    let host = LockedBuffer::new(&0, size).map_err(CudaError::during("cuMemAllocHost"))?;
    // SAFETY: a table is copied there before the kernel reads it.
    let device = unsafe { DeviceBuffer::uninitialized(size) };
    Ok((host, device.map_err(CudaError::during("cuMemAlloc"))?))
}
