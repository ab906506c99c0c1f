//! A graph that grows node by node. Maps are NCHW; any number of images, channels, rows and columns fixed.

use std::cell::RefCell;
use std::rc::Rc;

use prost::Message;

use super::onnx::{Attribute, GraphProto, ModelProto, NodeProto, OperatorSet, TensorProto, ValueInfo};

/// The operators are those of this version: the first whose Resize knows antialiasing.
const OPSET: i64 = 18;

/// The version of the file format that came with it.
const IR_VERSION: i64 = 8;

/// A tensor of a file: its name, and its extents after the number of images.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    /// Name.
    pub name: String,
    /// Channels, rows and columns; nothing for one number for each image.
    pub extents: Vec<usize>,
}

#[derive(Default)]
struct Parts {
    graph: GraphProto,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    /// Values and constants that have been named.
    named: usize,
}

/// A network as a graph of ONNX operators.
#[derive(Clone, Default)]
pub struct Graph(Rc<RefCell<Parts>>);

/// A map of a graph.
#[derive(Clone)]
pub struct GraphValue {
    graph: Graph,
    name: String,
    /// Channels, rows and columns.
    pub(super) shape: [usize; 3],
}

impl Graph {
    /// Declares an input of channels, rows and columns.
    pub fn input(&self, name: &str, shape: [usize; 3]) -> GraphValue {
        let mut parts = self.0.borrow_mut();
        parts.graph.input.push(ValueInfo::batch(name, &shape));
        parts.inputs.push(Port { name: name.into(), extents: shape.to_vec() });
        GraphValue { graph: self.clone(), name: name.into(), shape }
    }

    /// Makes a map an output of the graph.
    pub fn output(&self, name: &str, value: &GraphValue) {
        self.deliver("Identity", name, &[&value.name], &value.shape);
    }

    /// Makes a map of one value an output: one number for each image.
    pub fn output_numbers(&self, name: &str, value: &GraphValue) {
        let all = self.integers(&[-1]);
        self.deliver("Reshape", name, &[&value.name, &all], &[]);
    }

    fn deliver(&self, op: &str, name: &str, inputs: &[&str], extents: &[usize]) {
        self.push(op, inputs, vec![], name.into());
        let mut parts = self.0.borrow_mut();
        parts.graph.output.push(ValueInfo::batch(name, extents));
        parts.outputs.push(Port { name: name.into(), extents: extents.to_vec() });
    }

    fn push(&self, op: &str, inputs: &[&str], attribute: Vec<Attribute>, output: String) {
        let input = inputs.iter().map(|i| i.to_string()).collect();
        let name = format!("{op}:{output}");
        let node = NodeProto { input, output: vec![output], name, op_type: op.into(), attribute };
        self.0.borrow_mut().graph.node.push(node);
    }

    /// A name that nothing in the graph has.
    fn fresh(&self, kind: &str) -> String {
        let mut parts = self.0.borrow_mut();
        parts.named += 1;
        format!("{kind}{}", parts.named)
    }

    fn store(&self, tensor: TensorProto) -> String {
        let name = tensor.name.clone();
        self.0.borrow_mut().graph.initializer.push(tensor);
        name
    }

    /// Stores floats; a single number has no extents.
    pub(super) fn floats(&self, dims: &[usize], values: &[f32]) -> String {
        self.store(TensorProto::floats(self.fresh("c"), dims, values))
    }

    fn integers(&self, values: &[i64]) -> String {
        self.store(TensorProto::ints(self.fresh("c"), values))
    }

    /// Adds a node of one output; the names of inputs may be empty for those that are left out.
    pub(super) fn node(&self, op: &str, inputs: &[&str], attributes: Vec<Attribute>, shape: [usize; 3]) -> GraphValue {
        let name = self.fresh("v");
        self.push(op, inputs, attributes, name.clone());
        GraphValue { graph: self.clone(), name, shape }
    }

    /// The inputs.
    pub fn inputs(&self) -> Vec<Port> {
        self.0.borrow().inputs.clone()
    }

    /// The outputs.
    pub fn outputs(&self) -> Vec<Port> {
        self.0.borrow().outputs.clone()
    }

    /// The bytes of an ONNX file, with what it holds in words.
    pub fn file(&self, name: &str, holds: &str) -> Vec<u8> {
        let mut parts = self.0.borrow_mut();
        parts.graph.name = name.into();
        // Moved there and back, as weights are many.
        let model = ModelProto {
            ir_version: IR_VERSION,
            producer_name: "hotad".into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            doc_string: holds.into(),
            graph: Some(std::mem::take(&mut parts.graph)),
            opset_import: vec![OperatorSet { domain: String::new(), version: OPSET }],
        };
        let bytes = model.encode_to_vec();
        parts.graph = model.graph.unwrap_or_default();
        bytes
    }
}

impl GraphValue {
    /// The graph that it is of.
    pub(super) fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Channels, rows and columns.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// An operator of one input that keeps the shape.
    pub(super) fn each(&self, op: &str, attributes: Vec<Attribute>) -> GraphValue {
        self.graph.node(op, &[&self.name], attributes, self.shape)
    }

    /// An operator of two inputs, of which either may be stretched along axes of one.
    pub(super) fn with(&self, op: &str, other: &GraphValue) -> GraphValue {
        let shape = std::array::from_fn(|i| self.shape[i].max(other.shape[i]));
        self.graph.node(op, &[&self.name, &other.name], vec![], shape)
    }

    /// A number as a map.
    pub(super) fn number(&self, value: f32) -> GraphValue {
        let name = self.graph.floats(&[], &[value]);
        GraphValue { graph: self.graph.clone(), name, shape: [1; 3] }
    }

    /// A number for each channel as a map.
    pub(super) fn of_channels(&self, values: &[f32]) -> GraphValue {
        let shape = [values.len(), 1, 1];
        GraphValue { graph: self.graph.clone(), name: self.graph.floats(&shape, values), shape }
    }

    /// Some channels, from one up to another.
    pub(super) fn channels(&self, from: usize, end: usize) -> GraphValue {
        let bound = |at: usize| self.graph.integers(&[at as i64]);
        let (starts, ends, axes) = (bound(from), bound(end), bound(1));
        let shape = [end - from, self.shape[1], self.shape[2]];
        self.graph.node("Slice", &[&self.name, &starts, &ends, &axes], vec![], shape)
    }

    /// An operator over some axes, which are kept with an extent of 1.
    pub(super) fn reduced(&self, op: &str, axes: &[usize]) -> GraphValue {
        let mut shape = self.shape;
        axes.iter().for_each(|axis| shape[axis - 1] = 1);
        let axes = self.graph.integers(&axes.iter().map(|a| *a as i64).collect::<Vec<_>>());
        self.graph.node(op, &[&self.name, &axes], vec![], shape)
    }

    /// Channels joined.
    pub(crate) fn concat(&self, other: &GraphValue) -> GraphValue {
        let shape = [self.shape[0] + other.shape[0], self.shape[1], self.shape[2]];
        self.graph.node("Concat", &[&self.name, &other.name], vec![Attribute::int("axis", 1)], shape)
    }

    /// Brought to other rows and columns.
    pub(super) fn resized(&self, rows: usize, columns: usize, attributes: Vec<Attribute>) -> GraphValue {
        let shape = [self.shape[0], rows, columns];
        let factor = |i: usize| shape[i] as f32 / self.shape[i] as f32;
        let scales = self.graph.floats(&[4], &[1.0, 1.0, factor(1), factor(2)]);
        self.graph.node("Resize", &[&self.name, "", &scales], attributes, shape)
    }
}
