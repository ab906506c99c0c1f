//! Weights of networks that a formula gives, as tests/vectors/export.py has it, so that they need not be kept.

use hotad_engine::params::State;
use hotad_engine::tensor::Tensor;
use hotad_models::networks::layer::Layer;

/// `n` numbers in -1..1: lowbias32 of the index under the FNV-1a hash of the name.
pub fn hashed(n: usize, name: &str) -> Vec<f64> {
    let seed = name.bytes().fold(2_166_136_261u32, |h, b| (h ^ u32::from(b)).wrapping_mul(16_777_619));
    let number = |i: usize| {
        let x = i as u32 ^ seed;
        let x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
        let x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
        f64::from(x ^ (x >> 16)) / 4_294_967_296.0 * 2.0 - 1.0
    };
    (0..n).map(number).collect()
}

/// A tensor of torchvision's state dict.
fn value(name: &str, shape: &[usize]) -> Tensor {
    let values = hashed(shape.iter().product(), name);
    let fan_in: usize = shape[1..].iter().product();
    let scaled = values.into_iter().map(|v| {
        let v = if shape.len() > 1 {
            v * (6.0 / fan_in as f64).sqrt()
        } else if name.ends_with("running_var") || name.ends_with("weight") {
            1.0 + 0.3 * v
        } else {
            0.1 * v
        };
        v as f32
    });
    Tensor::new(scaled.collect(), shape).expect("as many values as the shape says")
}

/// torchvision's state dict of a network, in its layout.
pub fn state_dict(layers: &[&Layer]) -> State {
    let mut state = State::new();
    for l in layers {
        let (from, k) = (l.from / l.opts.groups, l.kernel);
        let flat = l.name.starts_with("classifier") || l.name == "fc";
        let shape = if flat { vec![l.to, from] } else { vec![l.to, from, k, k] };
        let mut put = |name: String, shape: &[usize]| state.insert(name.clone(), value(&name, shape));
        put(format!("{}.weight", l.name), &shape);
        match &l.norm {
            None => {
                put(format!("{}.bias", l.name), &[l.to]);
            }
            Some(norm) => {
                for kind in ["weight", "bias", "running_mean", "running_var"] {
                    put(format!("{}.{kind}", norm.name), &[l.to]);
                }
            }
        }
    }
    state
}
