//! A model that runs batches of several sizes, each by a context of its own.
//!
//! A CUDA graph is good as long as the context that it was captured from stays as it was: TensorRT's developer guide
//! wants one context for each captured graph, with scratch memory that they share. So nothing here ever changes the
//! batch of a context. The contexts of a network run one at a time, on one stream.

use std::ops::ControlFlow;

use cust::memory::DeviceBuffer;

use super::builder::{Batches, BuildOptions, OnnxModel, Progress, Specialization};
use super::cache::{CacheError, EngineCache, KeptEngine};
use super::engine::{Context, Engine};
use super::error::TensorRtError;
use super::library::Library;
use super::tensor::TensorSpec;
use crate::cuda::CudaError;

/// How several batch sizes come to their kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchStrategy {
    /// One engine whose profile is the range from 1 to the largest.
    Range(Specialization),
    /// One engine with a profile for each size.
    Profiles,
    /// An engine for each size, each with its own copy of the weights.
    Engines,
}

impl BatchStrategy {
    /// The one place that decides. TensorRT proper chooses kernels for each profile when it builds. TensorRT-RTX compiles
    /// them when it runs: those of a range again at every start, seconds for each size, those of an engine with fixed
    /// shapes only once.
    pub fn of(library: &Library) -> Self {
        if library.is_rtx() {
            Self::Engines
        } else {
            Self::Profiles
        }
    }

    /// The batches of each engine that has to be there for these sizes, the largest first.
    fn engines(self, sizes: &[u32]) -> Vec<Batches> {
        match self {
            Self::Range(_) => sizes
                .last()
                .map(|size| Batches::UpTo(*size))
                .into_iter()
                .collect(),
            Self::Profiles => vec![Batches::Each(sizes.to_vec())],
            Self::Engines => sizes
                .iter()
                .rev()
                .map(|size| Batches::Each(vec![*size]))
                .collect(),
        }
    }

    fn specialization(self) -> Specialization {
        match self {
            Self::Range(specialization) => specialization,
            Self::Profiles | Self::Engines => Specialization::Eager,
        }
    }
}

/// One batch size, ready to run.
#[derive(Debug)]
struct Run {
    batch: u32,
    context: Context,
}

/// Contexts for batches of several sizes, that share their tensors' addresses and their scratch memory. Their GPU's
/// context must be current whenever a network is made, used or dropped.
#[derive(Debug)]
pub struct Network {
    /// By batch, the smallest first; at least one.
    runs: Vec<Run>,
    /// Used by the contexts, so it goes after them.
    _scratch: Option<DeviceBuffer<u8>>,
    /// Of the largest batch.
    engine: Engine,
    kept: Option<(EngineCache, Vec<KeptEngine>)>,
}

impl Network {
    /// Loads what is kept of a model, and builds the rest. `options.batches` says which sizes are to run
    /// ([`Batches::sizes`]), and `strategy` how. A model whose own batch is fixed runs that one alone.
    ///
    /// # Errors
    /// Those of [`EngineCache::load_or_build`], and where the GPU's memory is full.
    pub fn load_or_build(
        cache: &EngineCache,
        library: &Library,
        model: &OnnxModel<'_>,
        options: &BuildOptions,
        strategy: BatchStrategy,
        progress: &mut (dyn FnMut(Progress<'_>) -> ControlFlow<()> + Send),
    ) -> Result<Self, TensorRtError> {
        let sizes = options.batches.sizes();
        let sizes = match (options.dla_core, sizes.as_slice()) {
            // It has fixed shapes.
            (Some(_), [.., largest]) => vec![*largest],
            _ => sizes,
        };
        let mut kept = Vec::new();
        for batches in strategy.engines(&sizes) {
            let options = BuildOptions {
                batches,
                specialization: strategy.specialization(),
                ..options.clone()
            };
            let engine = cache.load_or_build(library, model, &options, &mut *progress)?;
            let wanted = options.batches.sizes();
            let is_fixed = !wanted.iter().any(|size| engine.engine.takes(*size));
            if kept.is_empty() || !is_fixed {
                kept.push(engine);
            }
            if is_fixed {
                break;
            }
        }
        let engines: Vec<Engine> = kept.iter().map(|kept| kept.engine.clone()).collect();
        let mut network = Self::new(&engines, &sizes)?;
        network.kept = Some((cache.clone(), kept));
        Ok(network)
    }

    /// The batches of an engine file: of each profile those that are worth a CUDA graph of their own.
    ///
    /// # Errors
    /// [`TensorRtError::Load`], mostly because the GPU's memory is full.
    pub fn of_engine(engine: &Engine) -> Result<Self, TensorRtError> {
        let sizes = Batches::UpTo(engine.max_batch()).sizes();
        let ends = engine.batches().map(|batches| *batches.end());
        let sizes = Batches::Each(sizes.into_iter().chain(ends).collect()).sizes();
        Self::new(std::slice::from_ref(engine), &sizes)
    }

    /// Each size by the first engine that takes it; where none takes any, the batch that the first was made for.
    fn new(engines: &[Engine], sizes: &[u32]) -> Result<Self, TensorRtError> {
        let by_engine = |&batch: &u32| {
            let mut engines = engines.iter();
            Some((batch, engines.find(|engine| engine.takes(batch))?))
        };
        let mut taken: Vec<(u32, &Engine)> = sizes.iter().filter_map(by_engine).collect();
        if taken.is_empty() {
            taken.extend(engines.first().map(|engine| (engine.max_batch(), engine)));
        }
        let Some((_, largest)) = taken.last() else {
            return Err(TensorRtError::Load("there is no batch to run".into()));
        };
        let needed = taken.iter().map(|(_, engine)| engine.device_memory_size());
        let scratch = allocate(needed.max().unwrap_or(0))?;
        let address = scratch.as_ref().map_or(0, |s| s.as_device_ptr().as_raw());
        let mut runs = Vec::with_capacity(taken.len());
        for &(batch, engine) in &taken {
            let mut context = engine.new_context_for(batch)?;
            // SAFETY: the memory is large enough for every context and lives as long as they do. They run one after
            // the other, as all their work is on one stream.
            unsafe { context.set_scratch(address) };
            runs.push(Run { batch, context });
        }
        Ok(Self {
            runs,
            _scratch: scratch,
            engine: (*largest).clone(),
            kept: None,
        })
    }

    /// Inputs and outputs; [`Network::shape`] and [`Network::set_address`] count in this order.
    pub fn tensors(&self) -> &[TensorSpec] {
        self.engine.tensors()
    }

    /// The sizes that run, the smallest first.
    pub fn batches(&self) -> impl Iterator<Item = u32> {
        self.runs.iter().map(|run| run.batch)
    }

    pub fn max_batch(&self) -> u32 {
        self.batches().max().unwrap_or(1)
    }

    /// The smallest batch that holds so many images; none where they are too many for one.
    pub fn batch_for(&self, images: u32) -> Option<u32> {
        self.batches().find(|batch| *batch >= images)
    }

    /// The shape of a tensor in the largest batch; -1 where it depends on the values in the input.
    pub fn shape(&self, index: usize) -> Vec<i64> {
        self.runs
            .last()
            .map_or_else(Vec::new, |run| run.context.shape(index))
    }

    /// Where a tensor lies, in every batch, from the next [`Network::enqueue`] on. CUDA graphs keep the address that they
    /// were captured with.
    ///
    /// # Safety
    /// As for [`Context::set_address`].
    ///
    /// # Errors
    /// [`TensorRtError::Run`] with TensorRT's reason.
    pub unsafe fn set_address(&mut self, index: usize, address: u64) -> Result<(), TensorRtError> {
        for run in &mut self.runs {
            // SAFETY: the caller's promise.
            unsafe { run.context.set_address(index, address) }?;
        }
        Ok(())
    }

    /// Puts one run of a batch size on a stream and returns at once. The stream may be capturing a CUDA graph, once this
    /// size has run without; the graph stays good whatever else the network runs.
    ///
    /// # Safety
    /// `stream` is a `CUstream` of the current GPU, and always the same: the sizes share scratch memory. The memory of
    /// every tensor lives until its work is done.
    ///
    /// # Errors
    /// [`TensorRtError::Run`] where there is no such size, or with TensorRT's reason.
    pub unsafe fn enqueue(
        &mut self,
        batch: u32,
        stream: *mut std::ffi::c_void,
    ) -> Result<(), TensorRtError> {
        let run = self.runs.iter_mut().find(|run| run.batch == batch);
        let run = run.ok_or_else(|| TensorRtError::Run(format!("it has no batch of {batch}")))?;
        // SAFETY: the caller's promise.
        unsafe { run.context.enqueue(stream) }
    }

    /// Keeps what TensorRT-RTX compiled, for the next start; to be called once every size has run.
    ///
    /// # Errors
    /// [`CacheError::Io`].
    pub fn keep_kernels(&self) -> Result<(), CacheError> {
        let Some((cache, kept)) = &self.kept else {
            return Ok(());
        };
        kept.iter().try_for_each(|kept| cache.keep_kernels(kept))
    }

    /// Whether an engine had to be built.
    pub fn was_built(&self) -> bool {
        let kept = self.kept.iter().flat_map(|(_, kept)| kept);
        kept.into_iter().any(|kept| kept.was_built)
    }
}

/// Memory of the current GPU; none where none is needed.
fn allocate(bytes: u64) -> Result<Option<DeviceBuffer<u8>>, TensorRtError> {
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    if bytes == 0 {
        return Ok(None);
    }
    // SAFETY: TensorRT writes its scratch memory before it reads it.
    let memory = unsafe { DeviceBuffer::uninitialized(bytes) };
    let memory = memory.map_err(CudaError::during("cuMemAlloc"));
    memory
        .map(Some)
        .map_err(|error| TensorRtError::Load(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_strategy_has_an_engine_for_each_size() {
        let sizes = [1, 2, 8];
        let engines = |strategy: BatchStrategy| strategy.engines(&sizes);
        assert_eq!(
            engines(BatchStrategy::Range(Specialization::Lazy)),
            [Batches::UpTo(8)]
        );
        assert_eq!(
            engines(BatchStrategy::Profiles),
            [Batches::Each(vec![1, 2, 8])]
        );
        let each = [8, 2, 1].map(|size| Batches::Each(vec![size]));
        assert_eq!(engines(BatchStrategy::Engines), each);
    }
}
