//! Weights that lie in files beside the model (<https://onnx.ai/onnx/repo-docs/ExternalData.html>).

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};

use super::proto::tensor_proto::DataLocation;
use super::proto::{GraphProto, TensorProto};
use super::{Model, OnnxError, each_tensor, limits, node, tensor};

/// Where the bytes of one tensor lie.
struct Segment {
    path: PathBuf,
    offset: u64,
    length: usize,
}

impl Model {
    /// The files, within `folder`, that hold weights of this model. Fails where a file is missing, is shorter than
    /// the weights in it, or lies outside of `folder`, be it by an absolute path, by `..` or by a link.
    pub fn external_data_paths(&self, folder: &Path) -> Result<Vec<PathBuf>, OnnxError> {
        let mut paths = BTreeSet::new();
        let Some(graph) = &self.proto.graph else {
            return Ok(Vec::new());
        };
        each_tensor(graph, &mut |tensor| {
            if tensor::is_external(tensor) {
                paths.insert(segment(tensor, folder)?.path);
            }
            Ok(())
        })?;
        Ok(paths.into_iter().collect())
    }

    /// Takes the weights of the files that `external_data_paths` gives into the model, at most 2 GiB in all.
    pub fn embed_external_data(&mut self, folder: &Path) -> Result<(), OnnxError> {
        let mut budget = limits::MAX_BYTES;
        match &mut self.proto.graph {
            Some(graph) => each_tensor_mut(graph, &mut |t| embed(t, folder, &mut budget)),
            None => Ok(()),
        }
    }
}

fn each_tensor_mut(
    graph: &mut GraphProto,
    visit: &mut impl FnMut(&mut TensorProto) -> Result<(), OnnxError>,
) -> Result<(), OnnxError> {
    graph.initializer.iter_mut().try_for_each(&mut *visit)?;
    for tensor in &mut graph.sparse_initializer {
        let parts = tensor.values.iter_mut().chain(&mut tensor.indices);
        parts.into_iter().try_for_each(|part| visit(part))?;
    }
    for node in &mut graph.node {
        for attribute in &mut node.attribute {
            let tensors = attribute.t.as_deref_mut().into_iter();
            tensors
                .chain(&mut attribute.tensors)
                .try_for_each(&mut *visit)?;
        }
        node::bodies_mut(node).try_for_each(|body| each_tensor_mut(body, visit))?;
    }
    Ok(())
}

fn embed(tensor: &mut TensorProto, folder: &Path, budget: &mut usize) -> Result<(), OnnxError> {
    if !tensor::is_external(tensor) {
        return Ok(());
    }
    let Segment {
        path,
        offset,
        length,
    } = segment(tensor, folder)?;
    *budget = budget
        .checked_sub(length)
        .ok_or(OnnxError::TooLarge("2 GiB"))?;
    let mut data = vec![0; length];
    File::open(&path)
        .and_then(|file| file.read_exact_at(&mut data, offset))
        .map_err(|e| unusable(tensor, format!("{}: {e}", path.display())))?;
    tensor.raw_data = Some(data.into());
    tensor.data_location = Some(DataLocation::Default.into());
    tensor.external_data.clear();
    Ok(())
}

fn entry<'a>(tensor: &'a TensorProto, key: &str) -> Option<&'a str> {
    let entry = tensor.external_data.iter().find(|entry| entry.key() == key);
    entry.map(|entry| entry.value())
}

fn unusable(tensor: &TensorProto, reason: impl Into<String>) -> OnnxError {
    OnnxError::ExternalData {
        location: entry(tensor, "location").unwrap_or_default().into(),
        reason: reason.into(),
    }
}

fn segment(tensor: &TensorProto, folder: &Path) -> Result<Segment, OnnxError> {
    let path = path_within(tensor, folder)?;
    let size = path
        .metadata()
        .map_err(|e| unusable(tensor, e.to_string()))
        .and_then(|file| match file.is_file() {
            true => Ok(file.len()),
            false => Err(unusable(tensor, "it is not a file")),
        })?;
    let number = |key: &str| match entry(tensor, key).map(str::parse::<u64>) {
        None => Ok(None),
        Some(Ok(number)) => Ok(Some(number)),
        Some(Err(_)) => Err(unusable(tensor, format!("its {key} is not a number"))),
    };
    let offset = number("offset")?.unwrap_or(0);
    let Some(length) = tensor::byte_count(tensor)? else {
        return Err(unusable(
            tensor,
            "its elements are of a type without a fixed size",
        ));
    };
    if number("length")?.is_some_and(|stated| stated != length as u64) {
        let reason = format!(
            "tensor '{}' needs {length} bytes of it, not as stated",
            tensor.name()
        );
        return Err(unusable(tensor, reason));
    }
    match offset.checked_add(length as u64) {
        Some(end) if end <= size => Ok(Segment {
            path,
            offset,
            length,
        }),
        _ => Err(unusable(
            tensor,
            format!(
                "it has {size} bytes, and tensor '{}' lies beyond them",
                tensor.name()
            ),
        )),
    }
}

fn path_within(tensor: &TensorProto, folder: &Path) -> Result<PathBuf, OnnxError> {
    let location = Path::new(entry(tensor, "location").unwrap_or_default());
    let inside = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    if location.as_os_str().is_empty() || !location.components().all(inside) {
        return Err(unusable(
            tensor,
            "it is not a path within the model's folder",
        ));
    }
    let resolve = |path: &Path| {
        path.canonicalize()
            .map_err(|e| unusable(tensor, e.to_string()))
    };
    // The folder of a file that is named without one.
    let folder = match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => folder,
    };
    let path = resolve(&folder.join(location))?;
    match path.starts_with(resolve(folder)?) {
        true => Ok(path),
        false => Err(unusable(tensor, "it is a link out of the model's folder")),
    }
}
