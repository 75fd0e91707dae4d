//! Every family on a machine, against numpy and the CPU.

use gstrsdetectnet::decode::cuda::{
    Batch, ImageRules, OutputElement, OutputTensor, Outputs, Sizes, read_found, read_signs,
    write_rules,
};
use gstrsdetectnet::decode::host::{self, Scratch};
use gstrsdetectnet::decode::plan::Plan;
use gstrsdetectnet::decode::{Family, Filter, Selection, Signs, SizeLimits};
use gstrsdetectnet::detection::Detection;
use gstrsdetectnet::engine::{ElementType, Tensor, TensorSpec};

use crate::decode_cases::{buffers, frame_of, rounded, run};
use crate::machine::Machine;
use crate::numpy_cases::{Case, cases};

/// An output of a case as the machine's memory holds it; integers stay integers.
fn upload_output(
    machine: &impl Machine,
    spec: &TensorSpec,
    values: &[f32],
    element: OutputElement,
) -> OutputTensor {
    let integer = spec.element == ElementType::Int64;
    let (element, bytes): (_, Vec<u8>) = match (integer, element) {
        // Both types that networks return are tried.
        (true, OutputElement::F16) => {
            let bytes = values.iter().flat_map(|v| (*v as i32).to_ne_bytes());
            (OutputElement::I32, bytes.collect())
        }
        (true, _) => {
            let bytes = values.iter().flat_map(|v| (*v as i64).to_ne_bytes());
            (OutputElement::I64, bytes.collect())
        }
        (false, element) => (element, rounded(element, &mut values.to_vec())),
    };
    let address = machine.upload(&bytes);
    OutputTensor { address, element }
}

fn plan_of(case: &Case) -> Plan {
    let plan = case.layout.plan(&case.shapes(), case.input, &case.specs);
    plan.unwrap_or_else(|error| panic!("{}: {error}", case.name))
}

/// The outputs of two images of a case, one after the other, decoded under this selection.
fn decode_case(
    machine: &impl Machine,
    case: &Case,
    element: OutputElement,
    selection: &Selection,
) -> Vec<(Vec<Detection>, Signs)> {
    const IMAGES: usize = 2;
    let twice = |values: &Vec<f32>| [values.as_slice(), values].concat();
    let tensors = case.specs.iter().zip(&case.values);
    let tensors =
        tensors.map(|(spec, values)| upload_output(machine, spec, &twice(values), element));
    let outputs = Outputs::new(plan_of(case), tensors.collect(), case.layout.classes);
    let sizes = Sizes::new(&outputs, 300);
    let mut words = vec![0u32; sizes.rules * IMAGES];
    for words in words.chunks_exact_mut(sizes.rules) {
        let rules = ImageRules {
            placement: case.placement,
            iou_threshold: selection.iou_threshold,
            max_detections: selection.max_detections,
            thresholds: &selection.thresholds,
            filter: selection.filter,
        };
        write_rules(words, &outputs, &rules);
    }
    let rules: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let buffers = buffers(machine, &outputs, sizes, &rules, IMAGES);
    let batch = Batch::new(&outputs, sizes, buffers);
    let words = run(machine, &batch, sizes, &buffers, IMAGES);
    words
        .chunks_exact(sizes.found)
        .map(|words| {
            let found = read_found(words, &outputs, frame_of(&case.placement));
            (
                found.map(|found| found.detection).collect(),
                read_signs(words),
            )
        })
        .collect()
}

/// The second image of a batch shows that strides are right; outputs without a batch have one only.
fn is_batched(case: &Case) -> bool {
    let flat = [
        Family::Torchvision,
        Family::Yolov7EndToEnd,
        Family::YoloNasFlat,
        Family::Paddle,
    ];
    !flat.contains(&case.family)
}

pub fn every_family_as_numpy_has_it(machine: &impl Machine) {
    for case in cases() {
        for element in [OutputElement::F32, OutputElement::F16] {
            let found = decode_case(machine, &case, element, &case.selection);
            for (found, signs) in found.iter().take(if is_batched(&case) { 2 } else { 1 }) {
                case.assert_found(found);
                let range = signs.above_one || signs.below_zero || signs.far;
                let odd = signs.not_a_number || range || signs.unknown_class;
                assert!(signs.something && !odd, "{}: {signs:?}", case.name);
            }
        }
    }
}

/// As the CPU, whatever is filtered, for every family.
pub fn every_family_as_the_cpu_has_it_with_every_filter(machine: &impl Machine) {
    for case in cases() {
        let filters = [
            (true, 0.0, 1e9, 0, 0.0),
            (false, 12.0, 70.0, 0, 0.0),
            (false, 0.0, 1e9, 2, 0.0),
            (false, 0.0, 1e9, 0, 0.5),
            (true, 0.0, 1e9, 3, 0.3),
        ];
        for (class_agnostic, smallest, largest, most_of_class, soft_sigma) in filters {
            let mut selection = case.selection.clone();
            let sizes = SizeLimits { smallest, largest };
            selection.filter = Filter {
                class_agnostic,
                sizes,
                most_of_class,
                soft_sigma,
            };
            selection.thresholds[0] = f32::INFINITY;
            selection.max_detections = 9;
            let found = decode_case(machine, &case, OutputElement::F32, &selection).remove(0);
            let shapes = case.shapes();
            let outputs: Vec<_> = shapes
                .iter()
                .zip(&case.values)
                .map(|(shape, data)| Tensor { shape, data })
                .collect();
            let (mut scratch, mut expected) = (Scratch::default(), Vec::new());
            let plan = plan_of(&case);
            host::decode(
                &plan,
                &outputs,
                &case.placement,
                &selection,
                &mut scratch,
                &mut expected,
            )
            .unwrap();
            assert_eq!(found.0.len(), expected.len(), "{}", case.name);
            for (found, expected) in found.0.iter().zip(&expected) {
                assert_eq!(found.class_id, expected.class_id, "{}", case.name);
                assert!((found.confidence - expected.confidence).abs() < 1e-4);
                let (a, b) = (found.bounding_box, expected.bounding_box);
                let close = (a.x - b.x).abs() < 0.02
                    && (a.y - b.y).abs() < 0.02
                    && (a.right() - b.right()).abs() < 0.02
                    && (a.bottom() - b.bottom()).abs() < 0.02;
                assert!(close, "{}: {a:?} instead of {b:?}", case.name);
            }
        }
    }
}

pub fn implausible_outputs_leave_their_signs(machine: &impl Machine) {
    let case = cases()
        .into_iter()
        .find(|case| case.name == "yolov8")
        .unwrap();
    let signs = |change: &dyn Fn(&mut Vec<f32>)| {
        let mut values = case.values[0].clone();
        change(&mut values);
        let changed = Case {
            values: vec![values],
            specs: case.specs.clone(),
            name: case.name.clone(),
            layout: case.layout.clone(),
            selection: case.selection.clone(),
            expected: Vec::new(),
            ..case
        };
        decode_case(machine, &changed, OutputElement::F32, &case.selection)[1].1
    };
    assert!(signs(&|values| values.fill(f32::NAN)).not_a_number);
    assert!(signs(&|values| values.fill(f32::INFINITY)).not_a_number);
    assert!(!signs(&|values| values.fill(0.0)).something);
    assert!(signs(&|values| values[4 * 64..].fill(7.5)).above_one);
    assert!(signs(&|values| values[..64].fill(4000.0)).far);
    assert!(signs(&|values| values[4 * 64..].fill(-3.0)).below_zero);
    assert!(signs(&|values| values[..64].fill(f32::NAN)).not_a_number);
}
