//! Which nodes come after the last costly one: they decode the network's answer.

use std::collections::{HashMap, HashSet};

use super::super::node;
use super::super::proto::GraphProto;
use super::operators::{Rule, reads_only_shape, rule};

/// For every node of a graph in topological order, whether all that is made of its outputs reaches the graph's
/// outputs without passing a costly operator.
pub fn tail(graph: &GraphProto) -> Vec<bool> {
    let outputs: HashSet<&str> = graph.output.iter().map(|output| output.name()).collect();
    let mut readers: HashMap<&str, Vec<usize>> = HashMap::new();
    for (index, node) in graph.node.iter().enumerate() {
        if !reads_only_shape(node) {
            for name in node::reads(node) {
                readers.entry(name).or_default().push(index);
            }
        }
    }
    let mut tail = vec![false; graph.node.len()];
    for (index, node) in graph.node.iter().enumerate().rev() {
        let mut of_outputs = node
            .output
            .iter()
            .flat_map(|name| readers.get(name.as_str()).into_iter().flatten());
        let reaches = node
            .output
            .iter()
            .any(|name| outputs.contains(name.as_str()) || readers.contains_key(name.as_str()));
        tail[index] = reaches && rule(node) != Rule::Half && of_outputs.all(|&reader| tail[reader]);
    }
    tail
}
