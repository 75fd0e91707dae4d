//! From an ONNX model to an engine file.

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_void};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::error::TensorRtError;
use super::library::Library;
use super::log;
use super::memory;
use super::shim::{
    CANCELLED, MAX_RANK, PHASE_STARTED, STEP_DONE, ShimBatches, ShimBuildRequest, ShimMessage,
    ShimShape, reason,
};

/// On a GPU that has less, TensorRT measures no kernel, and nothing runs what was built.
const ROOM_TO_BUILD: usize = 32 << 20;

/// The arithmetic an engine may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// Float16 where the library chooses types and the GPU is faster with it. Where it does not
    /// ([`Library::is_strongly_typed`]), this and `Fp16` are what the model says, which the caller has made float16.
    #[default]
    Auto,
    /// Float32 alone, without TF32.
    Fp32,
    Fp16,
    /// What a quantised model (QuantizeLinear, DequantizeLinear) says; refused for others.
    Int8,
}

/// Which batches an engine takes. Counts where the first axis of the model's inputs is dynamic.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Batches {
    /// Every one from 1 to this, by kernels that are made for all of them and are fastest at the largest.
    UpTo(u32),
    /// These alone, each by kernels of its own.
    Each(Vec<u32>),
}

/// The next larger batch that is worth having: powers of two, and from 8 on what is halfway between, as a network takes
/// the time of a full batch.
pub fn size_after(size: u32) -> u32 {
    let power = (size + 1).next_power_of_two();
    let halfway = power / 4 * 3;
    match size >= 8 && halfway > size {
        true => halfway,
        false => power,
    }
}

impl Batches {
    /// The sizes that are worth a CUDA graph of their own: those that [`size_after`] gives and the largest, or those
    /// that were named. Ascending.
    pub fn sizes(&self) -> Vec<u32> {
        let mut sizes = match self {
            Self::UpTo(largest) => {
                let all = std::iter::successors(Some(1), |size| Some(size_after(*size)));
                let smaller = all.take_while(|size| size < largest);
                smaller.chain([*largest]).collect()
            }
            Self::Each(sizes) => sizes.clone(),
        };
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    }

    /// Smallest and largest batch of each optimisation profile. A DLA has fixed shapes, so it gets the largest alone.
    fn profiles(&self, on_dla: bool) -> Vec<ShimBatches> {
        let range = |minimum: u32, maximum: u32| ShimBatches {
            minimum: i32::try_from(minimum).unwrap_or(i32::MAX),
            maximum: i32::try_from(maximum).unwrap_or(i32::MAX),
        };
        let sizes = self.sizes();
        let largest = sizes.iter().copied().max().unwrap_or(1);
        match self {
            _ if on_dla => vec![range(largest, largest)],
            Self::UpTo(largest) => vec![range(1, *largest)],
            Self::Each(_) => sizes.into_iter().map(|size| range(size, size)).collect(),
        }
    }
}

/// The GPU an engine is built for; engines do not run on others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DeviceIdentity {
    pub name: String,
    /// Major and minor.
    pub compute_capability: (u32, u32),
    /// The driver's version, as any text that changes with it.
    pub driver_version: String,
}

/// A model as the file has it.
#[derive(Clone, Copy, Debug)]
pub struct OnnxModel<'a> {
    pub bytes: &'a [u8],
    /// Where the model comes from: external weights are looked for beside it.
    pub path: Option<&'a Path>,
    /// The files of external weights, so that the cache notices when they change.
    pub external_files: &'a [PathBuf],
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildOptions {
    pub precision: Precision,
    /// At least 1 each; on a DLA, which has fixed shapes, the largest alone.
    pub batches: Batches,
    /// The deep learning accelerator to use (Jetson); what it cannot run, runs on the GPU.
    pub dla_core: Option<u32>,
    /// Most scratch memory on the GPU that a kernel may need.
    pub workspace_bytes: Option<u64>,
    /// Shapes of inputs that have dynamic axes other than the first; only the values of those are used.
    pub input_shapes: Vec<(String, Vec<i64>)>,
    pub device: DeviceIdentity,
}

/// How far one phase of a build is. Phases overlap: some contain others, some run at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// TensorRT's own words.
    pub phase: &'a str,
    pub done: u32,
    /// Steps of the phase.
    pub of: u32,
}

/// Builds an engine file for the current GPU. Takes seconds to minutes; `progress` is told of every step, from any
/// thread, and stops the build by [`ControlFlow::Break`].
///
/// # Errors
/// [`TensorRtError::Build`] with TensorRT's reason; [`TensorRtError::NoParser`]; [`TensorRtError::Cancelled`].
pub fn build(
    library: &Library,
    model: &OnnxModel<'_>,
    options: &BuildOptions,
    progress: &mut (dyn FnMut(Progress<'_>) -> ControlFlow<()> + Send),
) -> Result<Vec<u8>, TensorRtError> {
    check(options)?;
    library.can_build()?;
    memory::need(ROOM_TO_BUILD).map_err(TensorRtError::Build)?;
    let unusable = |what: &str| TensorRtError::Build(format!("{what} holds a null byte"));
    let path = model
        .path
        .map(|path| CString::new(path.as_os_str().as_bytes()))
        .transpose()
        .map_err(|_| unusable("the path of the model"))?;
    let names = options
        .input_shapes
        .iter()
        .map(|(name, _)| CString::new(name.as_str()))
        .collect::<Result<Vec<CString>, _>>()
        .map_err(|_| unusable("the name of an input"))?;
    let shapes = names
        .iter()
        .zip(&options.input_shapes)
        .map(|(name, (_, sizes))| shape(name, sizes))
        .collect::<Result<Vec<ShimShape>, _>>()?;
    let listener = Mutex::new(Listener {
        progress,
        steps: HashMap::new(),
    });
    let batches = options.batches.profiles(options.dla_core.is_some());
    let chooses_types = !library.is_strongly_typed();
    let request = ShimBuildRequest {
        model: model.bytes.as_ptr().cast(),
        model_size: model.bytes.len(),
        model_path: path.as_ref().map_or(std::ptr::null(), |path| path.as_ptr()),
        shapes: shapes.as_ptr(),
        shape_count: shapes.len(),
        batches: batches.as_ptr(),
        batches_count: batches.len(),
        float32_only: (options.precision == Precision::Fp32).into(),
        float16: (chooses_types && options.precision != Precision::Fp32).into(),
        int8_expected: (options.precision == Precision::Int8).into(),
        dla_core: dla_core(options.dla_core),
        workspace: options.workspace_bytes.unwrap_or(0),
        progress: tell,
        user: (&raw const listener).cast_mut().cast(),
    };
    let mut message = ShimMessage::empty();
    log::take_first_error();
    let shim = library.shim();
    // SAFETY: the handle belongs to this shim, and all that the request points to outlives the call.
    let plan =
        shim.bytes(|plan| unsafe { (shim.build)(library.handle(), &request, plan, &mut message) });
    plan.map_err(|status| match status {
        CANCELLED => TensorRtError::Cancelled,
        _ => TensorRtError::Build(reason(&message, log::take_first_error()) + &memory::remark()),
    })
}

/// The number of a DLA core as TensorRT counts: -1 is none.
pub(super) fn dla_core(core: Option<u32>) -> i32 {
    core.map_or(-1, |core| i32::try_from(core).unwrap_or(i32::MAX))
}

fn check(options: &BuildOptions) -> Result<(), TensorRtError> {
    let wrong = |why: &str| Err(TensorRtError::Build(why.to_owned()));
    let sizes = options.batches.sizes();
    if sizes.is_empty() || sizes.contains(&0) {
        return wrong("a batch holds at least one frame");
    }
    if options.dla_core.is_some() && options.precision == Precision::Fp32 {
        return wrong("a DLA has no float32; use precision fp16 or int8, or no DLA");
    }
    Ok(())
}

fn shape(name: &CStr, sizes: &[i64]) -> Result<ShimShape, TensorRtError> {
    if sizes.len() > MAX_RANK {
        return Err(TensorRtError::Build(format!(
            "input {} is to have {} axes, and TensorRT has at most {MAX_RANK}",
            name.to_string_lossy(),
            sizes.len()
        )));
    }
    let mut dimensions = [-1; MAX_RANK];
    dimensions[..sizes.len()].copy_from_slice(sizes);
    Ok(ShimShape {
        name: name.as_ptr(),
        rank: sizes.len() as i32,
        dimensions,
    })
}

/// What the shim's progress function needs: the caller's closure, and the number of steps of each running phase.
struct Listener<'a> {
    progress: &'a mut (dyn FnMut(Progress<'_>) -> ControlFlow<()> + Send),
    steps: HashMap<String, u32>,
}

impl Listener<'_> {
    fn hear(&mut self, kind: i32, phase: &str, count: u32) -> ControlFlow<()> {
        match kind {
            PHASE_STARTED => {
                self.steps.insert(phase.to_owned(), count);
                (self.progress)(Progress {
                    phase,
                    done: 0,
                    of: count,
                })
            }
            STEP_DONE => (self.progress)(Progress {
                phase,
                done: count + 1,
                of: self.steps.get(phase).copied().unwrap_or(count + 1),
            }),
            _ => {
                self.steps.remove(phase);
                ControlFlow::Continue(())
            }
        }
    }
}

extern "C" fn tell(user: *mut c_void, kind: i32, phase: *const c_char, count: i32) -> i32 {
    // SAFETY: `user` is the listener of the `build` that is running, which outlives its calls.
    let listener = unsafe { &*user.cast::<Mutex<Listener<'_>>>() };
    // SAFETY: TensorRT passes a null-terminated name that lives for this call.
    let phase = unsafe { CStr::from_ptr(phase) }.to_string_lossy();
    let mut listener = listener.lock().unwrap_or_else(PoisonError::into_inner);
    let flow = listener.hear(kind, &phase, count.unsigned_abs());
    flow.is_continue().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> BuildOptions {
        BuildOptions {
            precision: Precision::Auto,
            batches: Batches::UpTo(8),
            dla_core: None,
            workspace_bytes: None,
            input_shapes: Vec::new(),
            device: DeviceIdentity {
                name: "NVIDIA H100".into(),
                compute_capability: (9, 0),
                driver_version: "13.0".into(),
            },
        }
    }

    #[test]
    fn options_that_cannot_be_met_are_refused_before_anything_is_built() {
        let with = |batches| BuildOptions {
            batches,
            ..options()
        };
        let float32_on_dla = BuildOptions {
            dla_core: Some(0),
            precision: Precision::Fp32,
            ..options()
        };
        assert!(check(&options()).is_ok());
        for (options, reason) in [
            (with(Batches::UpTo(0)), "at least one frame"),
            (with(Batches::Each(vec![])), "at least one frame"),
            (with(Batches::Each(vec![4, 0])), "at least one frame"),
            (float32_on_dla, "DLA"),
        ] {
            let sentence = check(&options).unwrap_err().to_string();
            assert!(sentence.contains(reason), "{sentence}");
        }
    }

    #[test]
    fn batches_are_one_range_or_a_profile_for_each_size_and_one_size_on_a_dla() {
        let profiles = |batches: &Batches, on_dla| {
            let profiles = batches.profiles(on_dla).into_iter();
            profiles
                .map(|profile| (profile.minimum, profile.maximum))
                .collect::<Vec<_>>()
        };
        let up_to = Batches::UpTo(6);
        assert_eq!(up_to.sizes(), [1, 2, 4, 6]);
        assert_eq!(profiles(&up_to, false), [(1, 6)]);
        assert_eq!(profiles(&up_to, true), [(6, 6)]);
        let each = Batches::Each(vec![8, 1, 8, 2]);
        assert_eq!(each.sizes(), [1, 2, 8]);
        assert_eq!(profiles(&each, false), [(1, 1), (2, 2), (8, 8)]);
        assert_eq!(profiles(&each, true), [(8, 8)]);
        assert_eq!(Batches::UpTo(1).sizes(), [1]);
        assert_eq!(Batches::UpTo(32).sizes(), [1, 2, 4, 8, 12, 16, 24, 32]);
    }

    #[test]
    fn progress_counts_finished_steps_of_each_phase_until_it_is_stopped() {
        let mut seen = Vec::new();
        let mut record = |progress: Progress<'_>| {
            seen.push((progress.phase.to_owned(), progress.done, progress.of));
            if progress.done == 2 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let listener = Mutex::new(Listener {
            progress: &mut record,
            steps: HashMap::new(),
        });
        let user = (&raw const listener).cast_mut().cast();
        let mut said = Vec::new();
        for (kind, phase, count) in [
            (PHASE_STARTED, c"Tactics", 3),
            (PHASE_STARTED, c"Timing", 9),
            (STEP_DONE, c"Tactics", 0),
            (2, c"Timing", 0),
            (STEP_DONE, c"Tactics", 1),
        ] {
            said.push(tell(user, kind, phase.as_ptr(), count));
        }
        assert_eq!(said, [1, 1, 1, 1, 0]);
        let of = |phase: &str, done, of| (phase.to_owned(), done, of);
        assert_eq!(
            seen,
            [
                of("Tactics", 0, 3),
                of("Timing", 0, 9),
                of("Tactics", 1, 3),
                of("Tactics", 2, 3)
            ]
        );
    }
}
