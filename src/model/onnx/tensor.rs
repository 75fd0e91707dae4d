//! Reading, checking and building constant tensors.

use half::f16;
use half::slice::HalfFloatSliceExt;
use prost::bytes::Bytes;

use super::proto::TensorProto;
use super::proto::tensor_proto::DataLocation;
use super::{ElementType, OnnxError};

/// The type of the elements; `Undefined` for types newer than this crate.
pub fn element(tensor: &TensorProto) -> ElementType {
    ElementType::try_from(tensor.data_type()).unwrap_or(ElementType::Undefined)
}

pub fn is_external(tensor: &TensorProto) -> bool {
    tensor.data_location() == DataLocation::External
}

/// The product of the axes.
pub fn element_count(tensor: &TensorProto) -> Result<usize, OnnxError> {
    tensor
        .dims
        .iter()
        .try_fold(1_usize, |count, &axis| {
            count.checked_mul(usize::try_from(axis).ok()?)
        })
        .filter(|&count| isize::try_from(count).is_ok())
        .ok_or_else(|| inconsistent(tensor, format!("its shape {:?} is impossible", tensor.dims)))
}

/// Bytes of the tensor's elements as `raw_data` holds them; none for strings and for types not known here.
pub fn byte_count(tensor: &TensorProto) -> Result<Option<usize>, OnnxError> {
    let Some(bits) = bits(element(tensor)) else {
        return Ok(None);
    };
    let bytes = element_count(tensor)?
        .checked_mul(bits)
        .map(|bits| bits.div_ceil(8));
    match bytes {
        Some(bytes) => Ok(Some(bytes)),
        None => Err(inconsistent(tensor, "it is too large".into())),
    }
}

/// The size of an element. Types under a byte are packed, the last byte filled up.
fn bits(element: ElementType) -> Option<usize> {
    use ElementType::*;
    Some(match element {
        Uint2 | Int2 => 2,
        Uint4 | Int4 | Float4e2m1 => 4,
        Uint8 | Int8 | Bool | Float8e4m3fn | Float8e4m3fnuz | Float8e5m2 | Float8e5m2fnuz
        | Float8e8m0 => 8,
        Uint16 | Int16 | Float16 | Bfloat16 => 16,
        Int32 | Uint32 | Float => 32,
        Int64 | Uint64 | Double | Complex64 => 64,
        Complex128 => 128,
        Undefined | String | Float6e2m3 | Float6e3m2 => return None,
    })
}

/// Refuses a tensor whose data is not as long as its shape says: an engine would read past its end.
pub fn check(tensor: &TensorProto) -> Result<(), OnnxError> {
    let count = element_count(tensor)?;
    if is_external(tensor) {
        return Ok(());
    }
    let found = match &tensor.raw_data {
        Some(raw) => match byte_count(tensor)? {
            Some(bytes) if bytes != raw.len() => Some(format!("{} bytes", raw.len())),
            _ => None,
        },
        None => typed_count(tensor)
            .filter(|&found| found != count)
            .map(|found| format!("{found} values")),
    };
    match found {
        Some(found) => Err(inconsistent(
            tensor,
            format!("its shape is {:?} but it holds {found}", tensor.dims),
        )),
        None => Ok(()),
    }
}

/// The values in the typed fields; none where several share an entry.
fn typed_count(tensor: &TensorProto) -> Option<usize> {
    use ElementType::*;
    Some(match element(tensor) {
        Float => tensor.float_data.len(),
        Complex64 => tensor.float_data.len() / 2,
        Double => tensor.double_data.len(),
        Complex128 => tensor.double_data.len() / 2,
        Int64 => tensor.int64_data.len(),
        Uint32 | Uint64 => tensor.uint64_data.len(),
        String => tensor.string_data.len(),
        Int32 | Int16 | Int8 | Uint16 | Uint8 | Bool | Float16 | Bfloat16 => {
            tensor.int32_data.len()
        }
        _ => return None,
    })
}

/// The values of a float32 or float16 tensor.
pub fn floats(tensor: &TensorProto) -> Result<Vec<f32>, OnnxError> {
    check(tensor)?;
    if is_external(tensor) {
        return Err(inconsistent(
            tensor,
            "its data is in another file, which has not been read".into(),
        ));
    }
    let half = |bits: u16| f16::from_bits(bits).to_f32();
    Ok(match (element(tensor), &tensor.raw_data) {
        (ElementType::Float, Some(raw)) => words(raw).map(f32::from_le_bytes).collect(),
        (ElementType::Float, None) => tensor.float_data.clone(),
        (ElementType::Float16, Some(raw)) => words(raw).map(u16::from_le_bytes).map(half).collect(),
        // A float16 is stored as the 16 bits of an int32.
        (ElementType::Float16, None) => tensor.int32_data.iter().map(|&v| half(v as u16)).collect(),
        (other, _) => return Err(inconsistent(tensor, format!("it is {other:?}, not float"))),
    })
}

/// The values of an int64 or int32 tensor; none for other types and for data in another file.
pub fn integers(tensor: &TensorProto) -> Option<Vec<i64>> {
    if is_external(tensor) {
        return None;
    }
    match (element(tensor), &tensor.raw_data) {
        (ElementType::Int64, Some(raw)) => Some(words(raw).map(i64::from_le_bytes).collect()),
        (ElementType::Int64, None) => Some(tensor.int64_data.clone()),
        (ElementType::Int32, Some(raw)) => {
            Some(words(raw).map(i32::from_le_bytes).map(Into::into).collect())
        }
        (ElementType::Int32, None) => Some(tensor.int32_data.iter().map(|&v| v.into()).collect()),
        _ => None,
    }
}

/// The values of an int8, uint8 or int32 tensor; none for other types and for data in another file.
pub fn small_integers(tensor: &TensorProto) -> Option<Vec<i32>> {
    if is_external(tensor) {
        return None;
    }
    match (element(tensor), &tensor.raw_data) {
        (ElementType::Int8, Some(raw)) => Some(raw.iter().map(|&v| (v as i8).into()).collect()),
        (ElementType::Uint8, Some(raw)) => Some(raw.iter().map(|&v| v.into()).collect()),
        (ElementType::Int32, Some(raw)) => Some(words(raw).map(i32::from_le_bytes).collect()),
        (ElementType::Int8 | ElementType::Uint8 | ElementType::Int32, None) => {
            Some(tensor.int32_data.clone())
        }
        _ => None,
    }
}

fn words<const N: usize>(raw: &Bytes) -> impl Iterator<Item = [u8; N]> {
    raw.as_chunks().0.iter().copied()
}

pub fn from_floats(name: String, dims: Vec<i64>, values: &[f32]) -> TensorProto {
    let raw: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    with_raw(name, dims, ElementType::Float, raw)
}

pub fn from_integers(name: String, dims: Vec<i64>, values: &[i64]) -> TensorProto {
    let raw: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    with_raw(name, dims, ElementType::Int64, raw)
}

/// Finite values stay finite and values other than 0 stay so: what is beyond float16's range becomes its largest
/// (65504), what is too small its smallest subnormal (2^-24), so that an epsilon still keeps a quotient finite.
pub fn to_float16(tensor: &TensorProto, name: String) -> Result<TensorProto, OnnxError> {
    let mut values = floats(tensor)?;
    let smallest = f16::MIN_POSITIVE_SUBNORMAL.to_f32();
    let largest = f16::MAX.to_f32();
    for value in values.iter_mut().filter(|v| v.is_finite() && **v != 0.0) {
        *value = value.abs().clamp(smallest, largest).copysign(*value);
    }
    let mut halves = vec![f16::ZERO; values.len()];
    halves.convert_from_f32_slice(&values);
    let raw: Vec<u8> = halves
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    Ok(with_raw(
        name,
        tensor.dims.clone(),
        ElementType::Float16,
        raw,
    ))
}

fn with_raw(name: String, dims: Vec<i64>, element: ElementType, raw: Vec<u8>) -> TensorProto {
    TensorProto {
        name: Some(name),
        dims,
        data_type: Some(element.into()),
        raw_data: Some(raw.into()),
        ..Default::default()
    }
}

pub fn inconsistent(tensor: &TensorProto, reason: String) -> OnnxError {
    OnnxError::Inconsistent(format!("tensor '{}': {reason}", tensor.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn halves(values: &[f32]) -> Vec<f32> {
        let tensor = from_floats("t".into(), vec![values.len() as i64], values);
        floats(&to_float16(&tensor, "h".into()).unwrap()).unwrap()
    }

    #[test]
    fn float16_keeps_what_it_can_and_turns_nothing_into_zero_or_infinity() {
        let smallest = 2_f32.powi(-24);
        assert_eq!(
            halves(&[0.5, -3.0, 0.0, 1e-12, -1e-30, 1e6, -f32::MAX]),
            [0.5, -3.0, 0.0, smallest, -smallest, 65504.0, -65504.0]
        );
    }

    #[test]
    fn float16_keeps_infinity_and_nan() {
        let values = halves(&[f32::INFINITY, f32::NEG_INFINITY, f32::NAN]);
        assert_eq!(values[..2], [f32::INFINITY, f32::NEG_INFINITY]);
        assert!(values[2].is_nan());
    }

    #[test]
    fn every_float16_survives_the_way_through_float32() {
        for bits in (0..=u16::MAX).filter(|&bits| !f16::from_bits(bits).is_nan()) {
            let value = f16::from_bits(bits).to_f32();
            assert_eq!(halves(&[value])[0].to_bits(), value.to_bits());
        }
    }

    #[test]
    fn a_shape_whose_product_overflows_is_refused() {
        let mut tensor = from_floats("t".into(), vec![i64::MAX, i64::MAX], &[]);
        assert!(check(&tensor).is_err());
        tensor.dims = vec![-1];
        assert!(check(&tensor).is_err());
        tensor.dims = vec![1 << 62];
        assert!(check(&tensor).is_err());
    }

    #[test]
    fn data_shorter_or_longer_than_the_shape_is_refused() {
        for dims in [vec![3], vec![1], vec![2, 2]] {
            assert!(check(&from_floats("t".into(), dims, &[1.0, 2.0])).is_err());
        }
        check(&from_floats("t".into(), vec![2, 1], &[1.0, 2.0])).unwrap();
    }
}
