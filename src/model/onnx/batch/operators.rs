//! Which operators leave the first axis alone, and what becomes of the number of axes.

use std::collections::HashMap;

use super::super::node;
use super::super::proto::NodeProto;
use super::Axes;

type Inputs<'a> = [Option<&'a Axes>];
type Integers = HashMap<String, Vec<i64>>;

/// The axes of a node's outputs, at least one of its inputs being per picture; else why that cannot be told.
pub fn axes(node: &NodeProto, inputs: &Inputs, integers: &Integers) -> Result<Axes, String> {
    let operator = Operator {
        node,
        inputs,
        integers,
    };
    match node::operator(node) {
        "AveragePool"
        | "BatchNormalization"
        | "Conv"
        | "ConvTranspose"
        | "DepthToSpace"
        | "Dropout"
        | "GlobalAveragePool"
        | "GlobalMaxPool"
        | "InstanceNormalization"
        | "LRN"
        | "LayerNormalization"
        | "SpaceToDepth" => operator.first_alone(),
        "Abs" | "Cast" | "Ceil" | "Celu" | "Clip" | "Cos" | "Elu" | "Erf" | "Exp" | "Floor"
        | "Gelu" | "HardSigmoid" | "HardSwish" | "Identity" | "LeakyRelu" | "Log" | "Mish"
        | "Neg" | "Not" | "Reciprocal" | "Relu" | "Round" | "Selu" | "Sigmoid" | "Sign" | "Sin"
        | "Softplus" | "Softsign" | "Sqrt" | "Tanh" => operator.first_alone(),
        "Add" | "And" | "Div" | "Equal" | "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual"
        | "Max" | "Mean" | "Min" | "Mod" | "Mul" | "Or" | "PRelu" | "Pow" | "Sub" | "Sum"
        | "Where" | "Xor" => operator.broadcast(),
        "ArgMax" | "ArgMin" => operator.along_axis(0, operator.keeps_axes()),
        "Concat" => operator.concat(),
        "Softmax" | "LogSoftmax" | "Split" | "TopK" => operator.along_default_axis(),
        "Flatten" => operator.flatten(),
        "Gather" => operator.gather(),
        "Gemm" => operator.gemm(),
        "MatMul" => operator.matmul(),
        "MaxPool" => operator.max_pool(),
        "Pad" => operator.pad(),
        "ReduceL1" | "ReduceL2" | "ReduceMax" | "ReduceMean" | "ReduceMin" | "ReduceSum" => {
            operator.reduce()
        }
        "Resize" | "Upsample" => operator.resize(),
        "Slice" => operator.slice(),
        "Squeeze" => operator.squeeze(),
        "Transpose" => operator.transpose(),
        "Unsqueeze" => operator.unsqueeze(),
        _ => Err("is not known to treat every picture alike".into()),
    }
}

struct Operator<'a> {
    node: &'a NodeProto,
    inputs: &'a Inputs<'a>,
    integers: &'a Integers,
}

impl Operator<'_> {
    fn first(&self) -> Result<(usize, bool), String> {
        match self.inputs.first() {
            Some(Some(Axes::PerPicture { rank, single })) => Ok((*rank, *single)),
            _ => Err("takes the pictures as another input than its first".into()),
        }
    }

    /// The first input is per picture; all others are constant.
    fn first_alone(&self) -> Result<Axes, String> {
        let (rank, single) = self.first()?;
        let rest = self.inputs.iter().skip(1).flatten();
        for other in rest {
            if matches!(other, Axes::PerPicture { .. }) {
                return Err("takes its parameters from the pictures".into());
            }
        }
        Ok(Axes::PerPicture { rank, single })
    }

    /// A parameter that is an attribute in some operator sets and an input in others.
    fn parameter(&self, name: &str, input: usize) -> Option<&[i64]> {
        node::ints(self.node, name).or_else(|| {
            let input = self.node.input.get(input)?;
            self.integers.get(input).map(Vec::as_slice)
        })
    }

    fn is_first_axis(axis: i64, rank: usize) -> bool {
        axis == 0 || axis == -(rank as i64)
    }

    fn along_axis(&self, default: i64, keeps_axes: bool) -> Result<Axes, String> {
        let (rank, single) = self.first()?;
        self.first_alone()?;
        if Self::is_first_axis(node::int(self.node, "axis").unwrap_or(default), rank) {
            return Err("works along the axis of the pictures".into());
        }
        let rank = if keeps_axes { rank } else { rank - 1 };
        Ok(Axes::PerPicture { rank, single })
    }

    /// Softmax, TopK: the last axis (the second before operator set 13, and -1 is never the first then); Split: 0.
    fn along_default_axis(&self) -> Result<Axes, String> {
        let default = if self.node.op_type() == "Split" {
            0
        } else {
            -1
        };
        self.along_axis(default, true)
    }

    fn keeps_axes(&self) -> bool {
        node::int(self.node, "keepdims").unwrap_or(1) != 0
    }

    fn broadcast(&self) -> Result<Axes, String> {
        let pictures: Vec<_> = self
            .inputs
            .iter()
            .flatten()
            .filter(|axes| matches!(axes, Axes::PerPicture { .. }))
            .collect();
        let Some(Axes::PerPicture { rank, single }) = pictures.first() else {
            return Err("has no input of pictures".into());
        };
        if pictures.iter().any(|other| *other != pictures[0]) {
            return Err("joins values with unlike axes".into());
        }
        self.others_leave_first_axis(*rank)?;
        Ok(Axes::PerPicture {
            rank: *rank,
            single: *single,
        })
    }

    /// Broadcasting aligns shapes at their ends: a constant must not reach the first axis with more than 1.
    fn others_leave_first_axis(&self, rank: usize) -> Result<(), String> {
        for axes in self.inputs.iter().flatten() {
            let fits = match axes {
                Axes::PerPicture { .. } => true,
                Axes::Shared(Some(shape)) => {
                    shape.len() < rank || shape.len() == rank && shape[0] == 1
                }
                Axes::Shared(None) => return Err("has a constant of unknown shape".into()),
            };
            if !fits {
                return Err("has a constant along the axis of the pictures".into());
            }
        }
        Ok(())
    }

    fn concat(&self) -> Result<Axes, String> {
        let (rank, single) = self.first()?;
        if self
            .inputs
            .iter()
            .flatten()
            .any(|other| Some(*other) != self.inputs[0])
        {
            return Err("joins pictures with constants or values with unlike axes".into());
        }
        match node::int(self.node, "axis") {
            Some(axis) if !Self::is_first_axis(axis, rank) => Ok(Axes::PerPicture { rank, single }),
            _ => Err("joins values along the axis of the pictures".into()),
        }
    }

    fn flatten(&self) -> Result<Axes, String> {
        let (_, single) = self.first()?;
        match node::int(self.node, "axis").unwrap_or(1) {
            1 => Ok(Axes::PerPicture { rank: 2, single }),
            _ => Err("folds other axes into that of the pictures".into()),
        }
    }

    fn gather(&self) -> Result<Axes, String> {
        let Some(Some(Axes::Shared(Some(indices)))) = self.inputs.get(1) else {
            return Err("picks by indices that are computed".into());
        };
        let indices = indices.len();
        match self.along_axis(0, true)? {
            Axes::PerPicture { rank, single } => Ok(Axes::PerPicture {
                rank: rank + indices - 1,
                single,
            }),
            shared => Ok(shared),
        }
    }

    fn gemm(&self) -> Result<Axes, String> {
        let axes = self.first_alone()?;
        if node::int(self.node, "transA").unwrap_or(0) != 0 {
            return Err("transposes the pictures".into());
        }
        match self.inputs.get(2).copied().flatten() {
            Some(Axes::Shared(Some(bias))) if bias.len() == 2 && bias[0] != 1 => {
                Err("has a constant along the axis of the pictures".into())
            }
            Some(Axes::Shared(None)) => Err("has a constant of unknown shape".into()),
            _ => Ok(axes),
        }
    }

    fn matmul(&self) -> Result<Axes, String> {
        match self.inputs {
            [
                Some(Axes::PerPicture { rank, .. }),
                Some(Axes::Shared(Some(weights))),
            ] if *rank >= 2 && weights.len() == 2 => self.first_alone(),
            // The last two axes are the matrix, so the pictures' axis must come before them.
            [Some(a), Some(b)]
                if [a, b]
                    .iter()
                    .all(|axes| rank(axes).is_none_or(|rank| rank > 2)) =>
            {
                self.broadcast()
            }
            _ => Err("multiplies along the axis of the pictures".into()),
        }
    }

    /// The second output counts through all pictures.
    fn max_pool(&self) -> Result<Axes, String> {
        match self
            .node
            .output
            .get(1)
            .is_some_and(|indices| !indices.is_empty())
        {
            true => Err("numbers the pixels of all pictures".into()),
            false => self.first_alone(),
        }
    }

    fn pad(&self) -> Result<Axes, String> {
        let axes = self.first_alone()?;
        let (rank, _) = self.first()?;
        let has_axes = self.inputs.len() > 3;
        match self.parameter("pads", 1) {
            Some(pads)
                if !has_axes && pads.len() == 2 * rank && pads[0] == 0 && pads[rank] == 0 =>
            {
                Ok(axes)
            }
            _ => Err("may pad along the axis of the pictures".into()),
        }
    }

    fn reduce(&self) -> Result<Axes, String> {
        let (rank, single) = self.first()?;
        let axes = self.parameter("axes", 1).unwrap_or_default();
        if axes.is_empty() || axes.iter().any(|&axis| Self::is_first_axis(axis, rank)) {
            return Err("reduces the axis of the pictures".into());
        }
        let removed = if self.keeps_axes() { 0 } else { axes.len() };
        let rank = rank
            .checked_sub(removed)
            .ok_or("reduces more axes than there are")?;
        Ok(Axes::PerPicture { rank, single })
    }

    /// By factors the first axis stays as it is. Resize gives an input that is not used the name "" or no elements.
    fn resize(&self) -> Result<Axes, String> {
        let sizes = self.node.input.get(3).filter(|name| !name.is_empty());
        if sizes.is_some() {
            return Err("has a fixed size as its target; export it with scales".into());
        }
        self.first_alone()
    }

    fn slice(&self) -> Result<Axes, String> {
        let axes = self.first_alone()?;
        let (rank, _) = self.first()?;
        match self.parameter("axes", 3) {
            Some(along) if !along.iter().any(|&axis| Self::is_first_axis(axis, rank)) => Ok(axes),
            _ => Err("may cut pictures off".into()),
        }
    }

    fn squeeze(&self) -> Result<Axes, String> {
        let (rank, single) = self.first()?;
        let axes = self.parameter("axes", 1).unwrap_or_default();
        if axes.is_empty() || axes.iter().any(|&axis| Self::is_first_axis(axis, rank)) {
            return Err("removes the axis of the pictures".into());
        }
        let rank = rank
            .checked_sub(axes.len())
            .ok_or("removes more axes than there are")?;
        Ok(Axes::PerPicture { rank, single })
    }

    fn unsqueeze(&self) -> Result<Axes, String> {
        let (rank, single) = self.first()?;
        let axes = self.parameter("axes", 1).unwrap_or_default();
        let rank = rank + axes.len();
        if axes.is_empty() || axes.iter().any(|&axis| Self::is_first_axis(axis, rank)) {
            return Err("moves the axis of the pictures".into());
        }
        Ok(Axes::PerPicture { rank, single })
    }

    fn transpose(&self) -> Result<Axes, String> {
        match node::ints(self.node, "perm") {
            Some([0, ..]) => self.first_alone(),
            _ => Err("moves the axis of the pictures".into()),
        }
    }
}

fn rank(axes: &Axes) -> Option<usize> {
    match axes {
        Axes::PerPicture { rank, .. } => Some(*rank),
        Axes::Shared(_) => None,
    }
}
