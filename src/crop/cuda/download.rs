//! Crops on their way to system memory: they are written into one piece of GPU memory, and copied from there into
//! pinned memory at once.

use std::sync::{Arc, Mutex, Weak};

use crate::cuda::CudaError;
use crate::cuda::context::{Context, InContext};
use crate::cuda::staging::Staging;
use crate::cuda::stream::{Event, Stream};
use crate::lock;

/// Pieces grow by powers of two from here, so that they soon serve every frame.
const LEAST: usize = 256 << 10;
/// More unused memory than this is given back to the system.
const MOST_UNUSED: usize = 64 << 20;

/// Memory on both sides, and the mark that tells when the copy is done.
#[derive(Debug)]
struct Parts {
    staging: Staging,
    copied: Event,
}

impl Drop for Parts {
    fn drop(&mut self) {
        let _ = self.copied.wait();
    }
}

type Piece = InContext<Parts>;

/// Pieces that wait for their next use; those of one stream, which orders their uses.
#[derive(Clone, Debug, Default)]
pub struct Downloads(Arc<Mutex<Vec<Piece>>>);

/// The bytes that a stream brings to the host. Its memory is used again when it is dropped, on whatever thread that is.
#[derive(Debug)]
pub struct Download {
    /// Empty only while it is dropped.
    piece: Option<Piece>,
    downloads: Weak<Mutex<Vec<Piece>>>,
}

impl Downloads {
    /// Room for so many bytes with anything in it.
    pub fn take(&self, context: &Context, size: usize) -> Result<Download, CudaError> {
        let unused = {
            let mut unused = lock(&self.0);
            let large_enough = unused.iter().enumerate();
            let best = large_enough
                .filter(|(_, piece)| piece.staging.size() >= size)
                .min_by_key(|(_, piece)| piece.staging.size())
                .map(|(index, _)| index);
            best.map(|index| unused.swap_remove(index))
        };
        let piece = match unused {
            Some(piece) => piece,
            None => Piece::make(context, || {
                Ok::<_, CudaError>(Parts {
                    staging: Staging::new(size.next_power_of_two().max(LEAST))?,
                    copied: Event::new()?,
                })
            })?,
        };
        Ok(Download {
            piece: Some(piece),
            downloads: Arc::downgrade(&self.0),
        })
    }
}

impl Download {
    /// Where the bytes lie on the GPU.
    pub fn address(&self) -> u64 {
        let piece = self.piece.as_ref();
        piece.map_or(0, |piece| piece.staging.address())
    }

    /// Enqueues the copy of the first `size` bytes.
    ///
    /// # Safety
    /// The stream is one of the context, which is current, and the one of all uses of this memory. There is room for
    /// `size` bytes.
    pub(super) unsafe fn enqueue(&mut self, size: usize, stream: &Stream) -> Result<(), CudaError> {
        let Some(piece) = &mut self.piece else {
            return Ok(());
        };
        let (_current, parts) = piece.enter()?;
        // SAFETY: there are `size` bytes until the copy is done, which every use and the end wait for.
        unsafe { parts.staging.download(size, stream.raw()) }?;
        stream.mark(&parts.copied)
    }

    /// The bytes, once they are there.
    pub fn wait(&self) -> Result<&[u8], CudaError> {
        match &self.piece {
            Some(piece) => {
                let _current = piece.context().enter()?;
                piece.copied.wait()?;
                Ok(&piece.staging.host)
            }
            None => Ok(&[]),
        }
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        if let (Some(piece), Some(downloads)) = (self.piece.take(), self.downloads.upgrade()) {
            let mut unused = lock(&downloads);
            let bytes: usize = unused.iter().map(|piece| piece.staging.size()).sum();
            if bytes + piece.staging.size() <= MOST_UNUSED {
                unused.push(piece);
            }
        }
    }
}
