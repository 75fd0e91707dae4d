//! Walks a graph once, in its order, and gives every float32 value the precision it is needed in.

use std::collections::{HashMap, HashSet};

use super::super::proto::{GraphProto, NodeProto, TensorProto};
use super::super::{
    ElementType, OnnxError, constants, drop_inputs_with_values, element_type, node,
    set_element_type, tensor,
};
use super::operators::{self, Rule};
use super::{Float16Options, tail};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Precision {
    Float32,
    Float16,
}

/// The precision that a value has by its own nature; what follows it computes in that.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Home {
    Is(Precision),
    /// The same for every picture: takes the precision of what it meets.
    Constant,
}

/// A value of the original graph, and under which names it exists in the new one.
struct Value {
    /// In the original graph; none where that is not known.
    element: Option<ElementType>,
    home: Home,
    float32: Option<String>,
    float16: Option<String>,
}

impl Value {
    fn new(element: Option<ElementType>) -> Self {
        Self {
            element,
            home: Home::Is(Precision::Float32),
            float32: None,
            float16: None,
        }
    }

    fn named(precision: Precision, home: Home, name: String) -> Self {
        let mut value = Self::new(Some(ElementType::Float));
        value.home = home;
        *value.name_mut(precision) = Some(name);
        value
    }

    fn name_mut(&mut self, precision: Precision) -> &mut Option<String> {
        match precision {
            Precision::Float32 => &mut self.float32,
            Precision::Float16 => &mut self.float16,
        }
    }
}

/// The graph with every operator in its precision, and how many are in float16.
pub fn rewrite(
    mut graph: GraphProto,
    options: &Float16Options,
) -> Result<(GraphProto, usize), OnnxError> {
    drop_inputs_with_values(&mut graph);
    check_single_values(&graph)?;
    constants::gather(&mut graph)?;
    let tail = tail::tail(&graph);
    let nodes = std::mem::take(&mut graph.node);
    let mut rewriter = Rewriter::new(&mut graph, &nodes, options);
    for (node, in_tail) in nodes.into_iter().zip(tail) {
        rewriter.node(node, in_tail)?;
    }
    rewriter.finish(graph)
}

/// ONNX gives every name one value. Without that, the walks over a graph would not end in time that is linear.
fn check_single_values(graph: &GraphProto) -> Result<(), OnnxError> {
    let inputs = graph.input.iter().map(|input| input.name());
    let constants = graph.initializer.iter().map(|tensor| tensor.name());
    let outputs = graph.node.iter().flat_map(|node| &node.output);
    let outputs = outputs.map(String::as_str).filter(|name| !name.is_empty());
    let mut names = HashSet::new();
    for name in inputs.chain(constants).chain(outputs) {
        if !names.insert(name) {
            let reason = format!("'{name}' is given a value twice");
            return Err(OnnxError::Inconsistent(reason));
        }
    }
    Ok(())
}

struct Rewriter<'a> {
    options: &'a Float16Options,
    values: HashMap<String, Value>,
    /// The original float32 initialisers.
    constants: HashMap<String, TensorProto>,
    /// Element types that the graph itself states.
    stated: HashMap<String, ElementType>,
    outputs: HashSet<String>,
    names: HashSet<String>,
    nodes: Vec<NodeProto>,
    initializers: Vec<TensorProto>,
    converted: usize,
}

impl<'a> Rewriter<'a> {
    fn new(graph: &mut GraphProto, nodes: &[NodeProto], options: &'a Float16Options) -> Self {
        let mut names = node::all_names(graph);
        for node in nodes {
            names.extend(node.output.iter().cloned());
            names.extend(node::bodies(node).flat_map(node::all_names));
        }
        let infos = graph.value_info.iter().chain(&graph.output);
        let mut rewriter = Self {
            options,
            values: HashMap::new(),
            constants: HashMap::new(),
            stated: infos
                .map(|info| (info.name().to_owned(), element_type(info)))
                .filter(|(_, element)| *element != ElementType::Undefined)
                .collect(),
            outputs: graph
                .output
                .iter()
                .map(|info| info.name().to_owned())
                .collect(),
            names,
            nodes: Vec::with_capacity(nodes.len()),
            initializers: Vec::new(),
            converted: 0,
        };
        rewriter.take_inputs(graph);
        rewriter.take_initializers(graph);
        rewriter
    }

    fn take_inputs(&mut self, graph: &mut GraphProto) {
        for input in &mut graph.input {
            let element = element_type(input);
            let name = input.name().to_owned();
            let value = if element == ElementType::Float {
                let precision = self.precision_of_borders();
                if precision == Precision::Float16 {
                    set_element_type(input, ElementType::Float16);
                }
                Value::named(precision, Home::Is(precision), name.clone())
            } else {
                Value::new((element != ElementType::Undefined).then_some(element))
            };
            self.values.insert(name, value);
        }
    }

    fn take_initializers(&mut self, graph: &mut GraphProto) {
        for tensor in std::mem::take(&mut graph.initializer) {
            let name = tensor.name().to_owned();
            let mut value = Value::new(Some(tensor::element(&tensor)));
            value.home = Home::Constant;
            self.values.insert(name.clone(), value);
            if tensor::element(&tensor) == ElementType::Float {
                self.constants.insert(name, tensor);
            } else {
                self.initializers.push(tensor);
            }
        }
        let sparse = graph.sparse_initializer.iter();
        for tensor in sparse.filter_map(|tensor| tensor.values.as_deref()) {
            let name = tensor.name().to_owned();
            let value = match tensor::element(tensor) {
                ElementType::Float => {
                    Value::named(Precision::Float32, Home::Constant, name.clone())
                }
                other => Value::new(Some(other)),
            };
            self.values.insert(name, value);
        }
    }

    fn precision_of_borders(&self) -> Precision {
        match self.options.float16_inputs_and_outputs {
            true => Precision::Float16,
            false => Precision::Float32,
        }
    }

    fn value(&self, name: &str) -> Result<&Value, OnnxError> {
        self.values.get(name).ok_or_else(|| {
            OnnxError::Inconsistent(format!("'{name}' is read before anything gives it a value"))
        })
    }

    /// Under which name an originally float32 value exists in a precision; casts or converts it where it does not yet.
    fn in_precision(&mut self, name: &str, precision: Precision) -> Result<String, OnnxError> {
        let value = self.value(name)?;
        let (wanted, other) = match precision {
            Precision::Float32 => (&value.float32, &value.float16),
            Precision::Float16 => (&value.float16, &value.float32),
        };
        if let Some(wanted) = wanted {
            return Ok(wanted.clone());
        }
        let constant = self.constants.get(name);
        let new = match (other.clone(), constant, precision) {
            (_, Some(constant), Precision::Float32) => {
                self.initializers.push(constant.clone());
                name.to_owned()
            }
            (_, Some(constant), Precision::Float16) => {
                let new = node::unique(&mut self.names, format!("{name}_float16"));
                self.initializers
                    .push(tensor::to_float16(constant, new.clone())?);
                new
            }
            (Some(other), None, _) => {
                let new = self.name_for(name, precision);
                self.cast(other, new.clone(), precision);
                new
            }
            (None, None, _) => {
                let reason = format!("'{name}' is not the float32 value that it is read as");
                return Err(OnnxError::Inconsistent(reason));
            }
        };
        if let Some(value) = self.values.get_mut(name) {
            *value.name_mut(precision) = Some(new.clone());
        }
        Ok(new)
    }

    fn name_for(&mut self, name: &str, precision: Precision) -> String {
        let stem = match precision {
            Precision::Float32 => format!("{name}_float32"),
            Precision::Float16 => format!("{name}_float16"),
        };
        node::unique(&mut self.names, stem)
    }

    fn cast(&mut self, from: String, to: String, precision: Precision) {
        let element = match precision {
            Precision::Float32 => ElementType::Float,
            Precision::Float16 => ElementType::Float16,
        };
        self.nodes.push(node::cast(from, to, element));
    }

    fn node(&mut self, mut node: NodeProto, in_tail: bool) -> Result<(), OnnxError> {
        if node::operator(&node) == "Cast" {
            return self.original_cast(node);
        }
        let types: Vec<_> = node
            .input
            .iter()
            .map(|name| match name.as_str() {
                "" => Ok(None),
                name => self.value(name).map(|value| value.element),
            })
            .collect::<Result<_, _>>()?;
        let home = self.home(&node, &types, in_tail)?;
        let precision = match home {
            Home::Is(precision) => precision,
            Home::Constant => Precision::Float32,
        };
        self.read_captured(&mut node)?;
        for (index, element) in types.iter().enumerate() {
            if *element == Some(ElementType::Float) {
                let own = operators::has_own_type(&node, index);
                let precision = if own { Precision::Float32 } else { precision };
                node.input[index] = self.in_precision(&node.input[index], precision)?;
            }
        }
        self.converted += usize::from(precision == Precision::Float16);
        self.give_outputs(node, &types, home)
    }

    /// What a node computes in: `Constant` is float32 that nothing has to follow.
    fn home(
        &self,
        node: &NodeProto,
        types: &[Option<ElementType>],
        in_tail: bool,
    ) -> Result<Home, OnnxError> {
        const FLOAT32: Home = Home::Is(Precision::Float32);
        let kept = in_tail || self.options.keep_float32.contains(node.op_type());
        let rule = if kept {
            Rule::Keep
        } else {
            operators::rule(node)
        };
        if rule == Rule::Keep {
            let filler = node::operator(node) == "ConstantOfShape";
            return Ok(if filler { Home::Constant } else { FLOAT32 });
        }
        let mut homes = Vec::new();
        for (index, (name, element)) in node.input.iter().zip(types).enumerate() {
            if name.is_empty() || operators::has_own_type(node, index) {
                continue;
            }
            match element {
                Some(ElementType::Float) => homes.push(self.value(name)?.home),
                // Mixed or unknown types were chosen by someone: they stay.
                None | Some(ElementType::Float16 | ElementType::Bfloat16 | ElementType::Double) => {
                    return Ok(FLOAT32);
                }
                Some(_) => {}
            }
        }
        Ok(match rule {
            _ if homes.is_empty() => FLOAT32,
            Rule::Half => Home::Is(Precision::Float16),
            _ if homes.contains(&FLOAT32) => FLOAT32,
            _ if homes.iter().all(|home| *home == Home::Constant) => Home::Constant,
            _ => Home::Is(Precision::Float16),
        })
    }

    /// The bodies of a node stay in float32, so they read float32.
    fn read_captured(&mut self, node: &mut NodeProto) -> Result<(), OnnxError> {
        let captured: HashSet<String> = node::captured(node).map(Into::into).collect();
        let mut renamed = HashMap::new();
        for name in captured {
            if self.value(&name)?.element == Some(ElementType::Float) {
                let new = self.in_precision(&name, Precision::Float32)?;
                if new != name {
                    renamed.insert(name, new);
                }
            }
        }
        node::rename_captured(node, &mut renamed);
        Ok(())
    }

    /// Takes a node over, with its outputs in the precision that it computes in. The graph's outputs keep their names
    /// and get their precision from a Cast where it is another.
    fn give_outputs(
        &mut self,
        mut node: NodeProto,
        types: &[Option<ElementType>],
        home: Home,
    ) -> Result<(), OnnxError> {
        let mut casts = Vec::new();
        for index in 0..node.output.len() {
            let name = node.output[index].clone();
            if name.is_empty() {
                continue;
            }
            let stated = self.stated.get(&name).copied();
            let element = operators::output_type(&node, index, types).or(stated);
            let value = if element == Some(ElementType::Float) {
                let precision = match home {
                    Home::Is(precision) if !operators::is_statistic(&node, index) => precision,
                    _ => Precision::Float32,
                };
                let wanted = self.precision_of_borders();
                let mut value = Value::named(precision, home, name.clone());
                if self.outputs.contains(&name) && wanted != precision {
                    let inner = self.name_for(&name, precision);
                    node.output[index] = inner.clone();
                    *value.name_mut(precision) = Some(inner.clone());
                    *value.name_mut(wanted) = Some(name.clone());
                    casts.push((inner, name.clone(), wanted));
                }
                value
            } else {
                Value::new(element)
            };
            self.values.insert(name, value);
        }
        self.nodes.push(node);
        for (from, to, precision) in casts {
            self.cast(from, to, precision);
        }
        Ok(())
    }

    /// A Cast of the original graph reads what there is. One to float32 of a float16 value does not have the rest
    /// compute in float32: the value exists in float16 too.
    fn original_cast(&mut self, mut node: NodeProto) -> Result<(), OnnxError> {
        let ([input], [output]) = (node.input.as_slice(), node.output.as_slice()) else {
            let reason = format!("{} has not one input and one output", node::describe(&node));
            return Err(OnnxError::Inconsistent(reason));
        };
        let (input, output) = (input.clone(), output.clone());
        let Value { element, home, .. } = *self.value(&input)?;
        let precision = match home {
            Home::Is(precision) => precision,
            Home::Constant => Precision::Float32,
        };
        let from_float32 = element == Some(ElementType::Float);
        if from_float32 {
            node.input[0] = self.in_precision(&input, precision)?;
        }
        let is_output = self.outputs.contains(&output);
        if node::element_type(&node, "to") != Some(ElementType::Float) {
            let to = node::element_type(&node, "to");
            self.nodes.push(node);
            self.values.insert(output, Value::new(to));
            return Ok(());
        }
        if is_output {
            return self.give_outputs(node, &[element], Home::Is(Precision::Float32));
        }
        let home = if from_float32 {
            home
        } else {
            Home::Is(Precision::Float32)
        };
        let mut value = Value::named(Precision::Float32, home, output.clone());
        if element == Some(ElementType::Float16) {
            value.float16 = Some(input);
        } else if from_float32 {
            value.float16 = self.value(&input)?.float16.clone();
        }
        self.nodes.push(node);
        self.values.insert(output, value);
        Ok(())
    }

    fn finish(mut self, mut graph: GraphProto) -> Result<(GraphProto, usize), OnnxError> {
        for output in &graph.output {
            let is_float32 = self.value(output.name())?.element == Some(ElementType::Float);
            if is_float32 && self.constants.contains_key(output.name()) {
                self.in_precision(output.name(), Precision::Float32)?;
            }
        }
        for info in graph.output.iter_mut().chain(&mut graph.value_info) {
            let value = self.values.get(info.name());
            if value.is_some_and(|value| value.float16.as_deref() == Some(info.name())) {
                set_element_type(info, ElementType::Float16);
            }
        }
        let mut read: HashSet<&str> = self.nodes.iter().flat_map(node::reads).collect();
        read.extend(graph.output.iter().map(|output| output.name()));
        self.initializers
            .retain(|tensor| read.contains(tensor.name()));
        graph.initializer = self.initializers;
        graph.node = self.nodes;
        Ok((graph, self.converted))
    }
}
