//! Networks as ONNX files, for programs that run these: trunks of backbones, and the networks of the methods that are
//! [`EXPORTABLE`](crate::Method::EXPORTABLE).
//!
//! Images are NCHW, sRGB or gray values as floats in 0..1, any number of them, of the one size that the model takes;
//! standardisation is in the graph. Maps are NCHW too. A graph is built beside each network's own `run`, by the same
//! descriptions of layers; tests compare both through ONNX Runtime.

mod colour;
mod graph;
mod layers;
mod networks;
mod onnx;
mod terms;

pub use graph::{Graph, GraphValue, Port};
pub use layers::Writer;
pub(crate) use networks::{features, lea_net, patch_autoencoder, recolouring, reconstruction, trunk};

use hotad_engine::Error;

/// A network as a graph.
pub struct Exported {
    /// The graph.
    pub graph: Graph,
    /// What it computes.
    pub holds: String,
    /// What of the model it leaves out; empty for nothing.
    pub left_out: &'static str,
}

impl Exported {
    /// The bytes of an ONNX file.
    pub fn file(&self, name: &str) -> Vec<u8> {
        let separator = if self.left_out.is_empty() { "" } else { "; left out: " };
        self.graph.file(name, &format!("{}{separator}{}", self.holds, self.left_out))
    }
}

/// What is left out of methods that compare an image with its reconstruction.
pub(crate) const COMPARISON: &str = "the comparison of image and reconstruction";

/// Why a baseline on I3AD's generator is no plain network.
pub(crate) const NOT_I3AD: &str =
    "its generator is I3AD's; one trained with generator = \"autoencoder\" can be exported";

/// The error of a method whose scores no plain network gives.
pub(crate) fn not_plain(method: &str, why: &str) -> Error {
    Error::Config(format!("{method} cannot be exported as ONNX: {why}"))
}
