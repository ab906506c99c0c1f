//! Blocks of adversarial networks: spectral normalisation, self-attention.

use hotad_engine::Activation;
use hotad_engine::ops::{ConvParams, conv2d, loss, mix, self_attention};
use hotad_engine::tape::backward;
use hotad_engine::tensor::Tensor;
use hotad_kernels::conv::ConvOptions;
use hotad_kernels::loss::Loss;
use hotad_kernels::spectral_norm::{spectral_norm, spectral_norm_backward};

use crate::case::{Case, Outputs, floats, nchw, outputs, permute, wide};

pub fn run(case: &Case) -> Option<Outputs> {
    match case.op.as_str() {
        "spectral_norm" => Some(normalise(case)),
        "self_attention" => Some(attend(case)),
        _ => None,
    }
}

fn normalise(case: &Case) -> Outputs {
    let (w, mut u) = (case.put(case.flat("w")), case.put(case.flat("u")));
    let columns = w.len() / u.len();
    let (mut v, mut sigma, mut normal) = (case.uninit(columns), case.uninit(1), case.uninit(w.len()));
    spectral_norm(&w, case.count("n_iter"), &mut u, &mut v, &mut sigma, &mut normal).expect("shapes fit");
    let (grad, mut dw) = (case.put(case.flat("grad_out")), case.uninit(w.len()));
    spectral_norm_backward(&normal, &u, &v, &sigma, &grad, &mut dw).expect("shapes fit");
    outputs([("w_sn", wide(&normal)), ("u", wide(&u)), ("v", wide(&v)), ("sigma", wide(&sigma)), ("grad_w", wide(&dw))])
}

/// Weights and bias of a 1x1 projection, on the device.
fn projection(case: &Case, name: &str) -> (Tensor, Tensor) {
    let (w, b) = (format!("w_{name}"), format!("b_{name}"));
    let [o, i] = [0, 1].map(|axis| case.shape(&w)[axis]);
    let weight = Tensor::from_buffer(case.put(case.flat(&w)), &[o, 1, 1, i]).expect("lengths fit");
    let bias = Tensor::from_buffer(case.put(case.flat(&b)), &[o]).expect("lengths fit");
    (weight.leaf(), bias.leaf())
}

fn attend(case: &Case) -> Outputs {
    let (x, shape) = case.map("x");
    let x = Tensor::from_buffer(case.put(x), &shape).expect("lengths fit").leaf();
    let projections = ["f", "g", "h"].map(|name| projection(case, name));
    let [keys, queries, values] = [0, 1, 2].map(|i| {
        let (weight, bias) = projections[i].clone();
        let p = ConvParams { weight, bias: Some(bias), activation: Activation::Identity };
        conv2d(&x, &p, ConvOptions::default()).expect("shapes fit")
    });
    let gamma = Tensor::from_buffer(case.put(case.flat("gamma")), &[1]).expect("one number").leaf();
    let o = self_attention(&keys, &queries, &values).expect("shapes fit");
    let y = mix(&o, &gamma, &x).expect("shapes fit");
    // The gradient of sum(y * grad_out), by way of a target whose squared error has that slope.
    let (upstream, _) = case.map("grad_out");
    let values_of_y = y.values().expect("done").into_owned();
    let half = y.len() as f32 / 2.0;
    let target: Vec<f32> = values_of_y.iter().zip(&upstream).map(|(y, g)| y - g * half).collect();
    let target = Tensor::from_buffer(case.put(target), &shape).expect("lengths fit");
    let loss = loss(Loss::Mse, &y, &target).expect("same lengths");
    let mut grads = backward(&loss).expect("on the tape");
    let mut of = |t: &Tensor| wide(&grads.take(t).expect("a gradient"));
    let mut found = outputs([("grad_gamma", of(&gamma)), ("attention", weights(case, &keys, &queries))]);
    for (name, (weight, bias)) in ["f", "g", "h"].into_iter().zip(&projections) {
        found.insert(format!("grad_w_{name}"), of(weight));
        found.insert(format!("grad_b_{name}"), of(bias));
    }
    let dx = case.put(of(&x).iter().map(|v| *v as f32).collect());
    found.insert("grad_x".into(), nchw(&dx, shape));
    found.insert("y".into(), floats(&permute(&values_of_y, shape, [0, 3, 1, 2])));
    found
}

/// The attention `[n, keys, queries]`: what comes out when the values are the rows of a unit matrix.
fn weights(case: &Case, keys: &Tensor, queries: &Tensor) -> Vec<f64> {
    let s = keys.shape();
    let (n, p) = (s[0], s[1] * s[2]);
    let unit: Vec<f32> = (0..n * p * p).map(|at| f32::from(u8::from(at / p % p == at % p))).collect();
    let unit = Tensor::from_buffer(case.put(unit), &[n, s[1], s[2], p]).expect("lengths fit");
    let found = self_attention(keys, queries, &unit).expect("shapes fit");
    let found = found.values().expect("done");
    let at = |n: usize, key: usize, query: usize| f64::from(found[(n * p + query) * p + key]);
    (0..n * p * p).map(|i| at(i / (p * p), i / p % p, i % p)).collect()
}
