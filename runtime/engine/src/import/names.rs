//! The graph as a graph: each name is made once, each use has a maker, nothing goes in a circle.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use tract_onnx::pb;

use super::{EXPORT_AGAIN, invalid};
use crate::Error;

/// A node's name, or its first output's when it has none.
pub(crate) fn label(node: &pb::NodeProto) -> &str {
    if node.name.is_empty() {
        node.output.first().map_or("", |o| o)
    } else {
        &node.name
    }
}

/// Checks all graphs of the model, and puts nodes into topological order where they aren't.
pub(super) fn check(path: &Path, model: &mut pb::ModelProto) -> Result<(), Error> {
    match &mut model.graph {
        Some(graph) => check_graph(path, graph, &mut Vec::new()),
        None => Ok(()),
    }
}

/// Names that an inner graph may use: one set for each graph around it.
type Scopes = Vec<HashSet<String>>;

fn check_graph(path: &Path, graph: &mut pb::GraphProto, outer: &mut Scopes) -> Result<(), Error> {
    let refuse = |place: String, reason: String| invalid(path, place, reason, EXPORT_AGAIN);
    let mut known: HashSet<String> = HashSet::new();
    for input in &graph.input {
        if input.name.is_empty() || !known.insert(input.name.clone()) {
            return Err(refuse(
                format!("graph input {:?}", input.name),
                "it is not the only one of that name".into(),
            ));
        }
    }
    let mut initialisers = HashSet::new();
    for tensor in &graph.initializer {
        if !initialisers.insert(tensor.name.as_str()) {
            return Err(refuse(
                format!("tensor {:?}", tensor.name),
                "it is there twice".into(),
            ));
        }
        known.insert(tensor.name.clone());
    }
    // Who makes what.
    let mut maker: HashMap<&str, usize> = HashMap::new();
    for (index, node) in graph.node.iter().enumerate() {
        let place = || format!("node {:?} ({})", label(node), node.op_type);
        if node.op_type.is_empty() {
            return Err(refuse(place(), "it has no operator".into()));
        }
        for output in node.output.iter().filter(|o| !o.is_empty()) {
            if known.contains(output) || maker.insert(output, index).is_some() {
                return Err(refuse(
                    place(),
                    format!("its output {output:?} is made twice"),
                ));
            }
        }
    }
    let mut needs: Vec<Vec<usize>> = Vec::with_capacity(graph.node.len());
    for (index, node) in graph.node.iter().enumerate() {
        let mut names = HashSet::new();
        uses(node, &mut names);
        let mut mine = Vec::new();
        for name in names {
            if known.contains(name) {
                continue;
            }
            match maker.get(name) {
                Some(&from) if from == index => {
                    let place = format!("node {:?} ({})", label(node), node.op_type);
                    return Err(refuse(place, format!("it needs its own output {name:?}")));
                }
                Some(&from) => mine.push(from),
                None if outer.iter().any(|scope| scope.contains(name)) => {}
                None if node.input.iter().any(|i| i == name) => {
                    let place = format!("node {:?} ({})", label(node), node.op_type);
                    return Err(refuse(place, format!("nothing makes its input {name:?}")));
                }
                // A name that only an inner graph uses: the inner graph's own check decides.
                None => {}
            }
        }
        needs.push(mine);
    }
    for output in &graph.output {
        let name = &output.name;
        let is_outer = outer.iter().any(|scope| scope.contains(name));
        if !known.contains(name) && !maker.contains_key(name.as_str()) && !is_outer {
            return Err(refuse(
                format!("graph output {name:?}"),
                "nothing makes it".into(),
            ));
        }
    }
    if graph.output.is_empty() {
        return Err(refuse(
            format!("graph {:?}", graph.name),
            "it has no outputs".into(),
        ));
    }
    let order = topological_order(&needs).map_err(|index| {
        let node = &graph.node[index];
        refuse(
            format!("node {:?} ({})", label(node), node.op_type),
            "it depends on itself".into(),
        )
    })?;
    known.extend(maker.into_keys().map(String::from));
    if order.windows(2).any(|pair| pair[0] > pair[1]) {
        let mut nodes: Vec<Option<pb::NodeProto>> = std::mem::take(&mut graph.node)
            .into_iter()
            .map(Some)
            .collect();
        graph.node = order
            .iter()
            .filter_map(|&i| nodes.get_mut(i)?.take())
            .collect();
    }
    outer.push(known);
    for node in &mut graph.node {
        for attribute in &mut node.attribute {
            for inner in attribute.g.iter_mut().chain(&mut attribute.graphs) {
                check_graph(path, inner, outer)?;
            }
        }
    }
    outer.pop();
    Ok(())
}

/// All names that a node needs, those of its inner graphs included (some of which may be made
/// inside them).
fn uses<'a>(node: &'a pb::NodeProto, names: &mut HashSet<&'a str>) {
    names.extend(
        node.input
            .iter()
            .filter(|i| !i.is_empty())
            .map(String::as_str),
    );
    for attribute in &node.attribute {
        for graph in attribute.g.iter().chain(&attribute.graphs) {
            let mut inner = HashSet::new();
            for node in &graph.node {
                uses(node, &mut inner);
            }
            inner.extend(graph.output.iter().map(|o| o.name.as_str()));
            for node in &graph.node {
                for output in &node.output {
                    inner.remove(output.as_str());
                }
            }
            for name in graph
                .input
                .iter()
                .map(|i| &i.name)
                .chain(graph.initializer.iter().map(|t| &t.name))
            {
                inner.remove(name.as_str());
            }
            names.extend(inner);
        }
    }
}

/// An order in which each node comes after those it needs, as close to the given one as a
/// depth-first walk gives. `Err` is a node on a circle.
fn topological_order(needs: &[Vec<usize>]) -> Result<Vec<usize>, usize> {
    #[derive(Clone, Copy, PartialEq)]
    enum State {
        New,
        Open,
        Done,
    }
    let mut state = vec![State::New; needs.len()];
    let mut order = Vec::with_capacity(needs.len());
    for start in 0..needs.len() {
        let mut stack = vec![(start, 0)];
        while let Some((node, next)) = stack.pop() {
            if state[node] == State::Done {
                continue;
            }
            state[node] = State::Open;
            match needs[node].get(next) {
                Some(&need) => {
                    stack.push((node, next + 1));
                    match state[need] {
                        State::Open => return Err(need),
                        State::New => stack.push((need, 0)),
                        State::Done => {}
                    }
                }
                None => {
                    state[node] = State::Done;
                    order.push(node);
                }
            }
        }
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(inputs: &[&str], output: &str) -> pb::NodeProto {
        pb::NodeProto {
            op_type: "Add".into(),
            input: inputs.iter().map(|s| s.to_string()).collect(),
            output: vec![output.into()],
            ..Default::default()
        }
    }

    fn graph(nodes: Vec<pb::NodeProto>, output: &str) -> pb::ModelProto {
        let value = |name: &str| pb::ValueInfoProto {
            name: name.into(),
            ..Default::default()
        };
        let graph = pb::GraphProto {
            node: nodes,
            input: vec![value("x")],
            output: vec![value(output)],
            ..Default::default()
        };
        pb::ModelProto {
            graph: Some(graph),
            ..Default::default()
        }
    }

    #[test]
    fn unsorted_nodes_are_sorted_and_circles_refused() {
        let path = Path::new("m");
        let mut unsorted = graph(vec![node(&["b", "x"], "c"), node(&["x", "x"], "b")], "c");
        check(path, &mut unsorted).unwrap();
        assert_eq!(unsorted.graph.unwrap().node[0].output[0], "b");

        let mut circle = graph(vec![node(&["c", "x"], "b"), node(&["b", "x"], "c")], "c");
        assert!(check(path, &mut circle).is_err());
        assert!(check(path, &mut graph(vec![node(&["x", "nowhere"], "b")], "b")).is_err());
        assert!(check(path, &mut graph(vec![node(&["x", "x"], "x")], "x")).is_err());
        assert!(check(path, &mut graph(vec![node(&["x", "x"], "b")], "c")).is_err());
    }
}
