//! The messages of ONNX that a file needs, with the field numbers of onnx.proto (IR version 8).

use prost::Message;

/// `TensorProto.DataType`: 32-bit floats.
pub const FLOAT: i32 = 1;
/// `TensorProto.DataType`: 64-bit integers.
pub const INT64: i32 = 7;

/// Kinds of an attribute (`AttributeProto.AttributeType`).
const KIND_FLOAT: i32 = 1;
const KIND_INT: i32 = 2;
const KIND_STRING: i32 = 3;
const KIND_INTS: i32 = 7;

#[derive(Clone, PartialEq, Message)]
pub struct ModelProto {
    #[prost(int64, tag = "1")]
    pub ir_version: i64,
    #[prost(string, tag = "2")]
    pub producer_name: String,
    #[prost(string, tag = "3")]
    pub producer_version: String,
    #[prost(string, tag = "6")]
    pub doc_string: String,
    #[prost(message, optional, tag = "7")]
    pub graph: Option<GraphProto>,
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSet>,
}

#[derive(Clone, PartialEq, Message)]
pub struct OperatorSet {
    #[prost(string, tag = "1")]
    pub domain: String,
    #[prost(int64, tag = "2")]
    pub version: i64,
}

#[derive(Clone, PartialEq, Message)]
pub struct GraphProto {
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<NodeProto>,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<TensorProto>,
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfo>,
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfo>,
}

#[derive(Clone, PartialEq, Message)]
pub struct NodeProto {
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    #[prost(string, tag = "3")]
    pub name: String,
    #[prost(string, tag = "4")]
    pub op_type: String,
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<Attribute>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Attribute {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(float, optional, tag = "2")]
    pub f: Option<f32>,
    #[prost(int64, optional, tag = "3")]
    pub i: Option<i64>,
    #[prost(bytes = "vec", optional, tag = "4")]
    pub s: Option<Vec<u8>>,
    #[prost(int64, repeated, packed = "false", tag = "8")]
    pub ints: Vec<i64>,
    #[prost(int32, tag = "20")]
    pub kind: i32,
}

#[derive(Clone, PartialEq, Message)]
pub struct TensorProto {
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    pub data_type: i32,
    #[prost(string, tag = "8")]
    pub name: String,
    #[prost(bytes = "vec", tag = "9")]
    pub raw_data: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ValueInfo {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub kind: Option<ValueKind>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ValueKind {
    #[prost(message, optional, tag = "1")]
    pub tensor: Option<TensorKind>,
}

#[derive(Clone, PartialEq, Message)]
pub struct TensorKind {
    #[prost(int32, tag = "1")]
    pub element: i32,
    #[prost(message, optional, tag = "2")]
    pub shape: Option<Shape>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Shape {
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<Dimension>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Dimension {
    #[prost(int64, optional, tag = "1")]
    pub value: Option<i64>,
    #[prost(string, optional, tag = "2")]
    pub name: Option<String>,
}

impl Attribute {
    pub fn float(name: &str, value: f32) -> Self {
        Self { name: name.into(), f: Some(value), kind: KIND_FLOAT, ..Self::default() }
    }

    pub fn int(name: &str, value: usize) -> Self {
        Self { name: name.into(), i: Some(value as i64), kind: KIND_INT, ..Self::default() }
    }

    pub fn text(name: &str, value: &str) -> Self {
        Self { name: name.into(), s: Some(value.into()), kind: KIND_STRING, ..Self::default() }
    }

    pub fn ints(name: &str, values: &[usize]) -> Self {
        let ints = values.iter().map(|v| *v as i64).collect();
        Self { name: name.into(), ints, kind: KIND_INTS, ..Self::default() }
    }
}

impl TensorProto {
    pub fn floats(name: String, dims: &[usize], values: &[f32]) -> Self {
        let raw_data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self { dims: dims.iter().map(|d| *d as i64).collect(), data_type: FLOAT, name, raw_data }
    }

    pub fn ints(name: String, values: &[i64]) -> Self {
        let raw_data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self { dims: vec![values.len() as i64], data_type: INT64, name, raw_data }
    }
}

impl ValueInfo {
    /// Of floats, any number of images along the first axis.
    pub fn batch(name: &str, extents: &[usize]) -> Self {
        let images = Dimension { name: Some("n".into()), value: None };
        let rest = extents.iter().map(|e| Dimension { value: Some(*e as i64), name: None });
        let shape = Shape { dim: std::iter::once(images).chain(rest).collect() };
        let tensor = TensorKind { element: FLOAT, shape: Some(shape) };
        Self { name: name.into(), kind: Some(ValueKind { tensor: Some(tensor) }) }
    }
}
