//! Frames of system memory on their way to a GPU: through pinned memory, without a wait.

use cust::sys::CUstream;

use crate::cuda::driver::CudaError;
use crate::cuda::staging::Staging;
use crate::frame::{DeviceFrame, DevicePlane, DeviceStorage, SystemFrame};

/// Rows start at multiples of this, which every kernel's reads are aligned to.
const ROW_ALIGNMENT: usize = 256;

/// Room for one frame on the host and on the GPU, which grows with the frames.
#[derive(Debug, Default)]
pub struct Upload {
    room: Option<Staging>,
}

impl Upload {
    /// Copies a frame to pinned memory and enqueues its way to the GPU; the frame is free when this returns.
    ///
    /// # Safety
    /// The current context is the stream's and always the same. The stream has passed the last upload, and this
    /// value lives until it has passed this one.
    pub unsafe fn enqueue(
        &mut self,
        frame: &SystemFrame<'_>,
        stream: CUstream,
    ) -> Result<DeviceFrame, CudaError> {
        let mut layout = [(0, 0); 3];
        let mut size = 0;
        for (plane, layout) in layout.iter_mut().enumerate().take(frame.format.planes()) {
            let (row, rows) = frame.format.plane_size(plane, frame.width, frame.height);
            let pitch = row.next_multiple_of(ROW_ALIGNMENT);
            *layout = (size, pitch);
            size += pitch * rows;
        }
        let room = self.room(size)?;
        let mut planes = [DevicePlane::default(); 3];
        for (plane, (offset, pitch)) in layout.into_iter().enumerate().take(frame.format.planes()) {
            let (row, rows) = frame.format.plane_size(plane, frame.width, frame.height);
            let source = frame.planes[plane];
            for y in 0..rows {
                room.host[offset + y * pitch..][..row]
                    .copy_from_slice(&source.data[y * source.stride..][..row]);
            }
            planes[plane] = DevicePlane {
                pointer: room.address() + offset as u64,
                pitch,
            };
        }
        // SAFETY: there are `size` bytes; the caller vouches for the stream and for the life of this.
        unsafe { room.upload(size, stream) }?;
        Ok(DeviceFrame {
            format: frame.format,
            colorimetry: frame.colorimetry,
            width: frame.width,
            height: frame.height,
            storage: DeviceStorage::Pitch,
            planes,
        })
    }

    fn room(&mut self, size: usize) -> Result<&mut Staging, CudaError> {
        let room = match self.room.take() {
            Some(room) if room.size() >= size => room,
            _ => Staging::new(size)?,
        };
        Ok(self.room.insert(room))
    }
}
