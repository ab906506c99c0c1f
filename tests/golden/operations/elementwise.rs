//! Activations, losses, optimisers.

use hotad_engine::ops::mean;
use hotad_engine::tape::backward;
use hotad_engine::tensor::Tensor;
use hotad_kernels::activation::Activation;
use hotad_kernels::adam::{AdamOptions, adam};
use hotad_kernels::discounted_l1::{discount_weights, weighted_l1};
use hotad_kernels::hinge::hinge_loss;
use hotad_kernels::loss::Loss;
use hotad_kernels::softmax::{log_sum_exp, log_sum_exp_backward, softmax, softmax_backward};

use crate::case::{Case, Outputs, floats, nchw, outputs, wide};

pub fn run(case: &Case) -> Option<Outputs> {
    let activation = match case.op.as_str() {
        "relu" => Some(Activation::Relu),
        "leaky_relu" => Some(Activation::LeakyRelu(case.number("slope") as f32)),
        "elu" => Some(Activation::Elu(case.number("alpha") as f32)),
        "sigmoid" => Some(Activation::Sigmoid),
        "tanh" => Some(Activation::Tanh),
        "hardsigmoid" => Some(Activation::HardSigmoid),
        "hardswish" => Some(Activation::HardSwish),
        _ => None,
    };
    if let Some(activation) = activation {
        return Some(activate(case, activation));
    }
    match case.op.as_str() {
        "mse" => Some(two_sided(case, Loss::Mse)),
        "l1" => Some(two_sided(case, Loss::L1)),
        "bce" => Some(one_sided(case, Loss::Bce, "p")),
        "bce_with_logits" => Some(one_sided(case, Loss::BceWithLogits, "x")),
        "hinge_generator" => Some(generator(case)),
        "hinge_discriminator" => Some(hinges(case, ["d_real", "d_fake"], 1.0, case.number("scale") as f32)),
        "truncated_l1" => Some(hinges(case, ["d_pos", "d_neg"], case.number("th") as f32, 1.0)),
        "discounted_l1" => Some(discounted(case)),
        "softmax" => Some(soft(case)),
        "log_sum_exp" => Some(log_sums(case)),
        "adam" => Some(optimise(case, false)),
        "adamw" => Some(optimise(case, true)),
        _ => None,
    }
}

fn activate(case: &Case, activation: Activation) -> Outputs {
    let (mut y, mut grad) = (case.put(case.flat("x")), case.put(case.flat("grad_out")));
    activation.apply(&mut y);
    let x = case.put(case.flat("x"));
    let known = if activation.slope_needs_input() { &x } else { &y };
    activation.backward(known, &mut grad).expect("same lengths");
    outputs([("y", wide(&y)), ("grad_x", wide(&grad))])
}

fn two_sided(case: &Case, loss: Loss) -> Outputs {
    let (x, y) = (case.put(case.flat("x")), case.put(case.flat("y")));
    let (mut dx, mut dy) = (case.uninit(x.len()), case.uninit(x.len()));
    let (mut value, mut other) = (case.uninit(1), case.uninit(1));
    loss.with_gradient(&x, &y, &mut value, &mut dx).expect("same lengths");
    loss.with_gradient(&y, &x, &mut other, &mut dy).expect("same lengths");
    outputs([("loss", wide(&value)), ("grad_x", wide(&dx)), ("grad_y", wide(&dy))])
}

fn one_sided(case: &Case, loss: Loss, name: &str) -> Outputs {
    let (x, target) = (case.put(case.flat(name)), case.put(case.flat("target")));
    let (mut dx, mut value) = (case.uninit(x.len()), case.uninit(1));
    loss.with_gradient(&x, &target, &mut value, &mut dx).expect("same lengths");
    outputs([("loss", wide(&value)), ("grad_p", wide(&dx)), ("grad_x", wide(&dx))])
}

fn optimise(case: &Case, decoupled: bool) -> Outputs {
    let opts = AdamOptions {
        lr: case.number("lr") as f32,
        beta1: case.number("beta1") as f32,
        beta2: case.number("beta2") as f32,
        eps: case.number("eps") as f32,
        weight_decay: case.number("weight_decay") as f32,
        decoupled,
    };
    let (mut p, g) = (case.put(case.flat("p")), case.flat("g"));
    let (mut m, mut v) = (case.zeros(p.len()), case.zeros(p.len()));
    let mut path = Vec::new();
    for (t, g) in g.chunks_exact(p.len()).enumerate() {
        adam(&mut p, &case.put(g.to_vec()), &mut m, &mut v, &opts, t as u32 + 1).expect("same lengths");
        path.extend(wide(&p));
    }
    outputs([("p", path), ("m", wide(&m)), ("v", wide(&v))])
}

fn generator(case: &Case) -> Outputs {
    let d = case.put(case.flat("d_fake"));
    let d = Tensor::from_buffer(d, case.shape("d_fake")).expect("a shape").leaf();
    let loss = mean(&d, -1.0).expect("memory for one number");
    let grad = backward(&loss).expect("on the tape").take(&d).expect("a gradient");
    outputs([("loss", floats(&loss.values().expect("done"))), ("grad_d_fake", wide(&grad))])
}

fn hinges(case: &Case, names: [&str; 2], margin: f32, scale: f32) -> Outputs {
    let mut found = Outputs::new();
    let mut total = 0.0;
    for (name, sign) in names.into_iter().zip([1.0, -1.0]) {
        let d = case.put(case.flat(name));
        let (mut value, mut dd) = (case.uninit(1), case.uninit(d.len()));
        hinge_loss(&d, margin, sign, scale, &mut value, &mut dd).expect("same lengths");
        total += wide(&value)[0];
        found.insert(format!("grad_{name}"), wide(&dd));
    }
    found.insert("loss".into(), vec![total]);
    found
}

fn discounted(case: &Case) -> Outputs {
    let ((x, shape), (y, _), mask) = (case.map("x"), case.map("y"), case.flat("mask"));
    let (gamma, known) = (case.number("gamma") as f32, case.number("known_weight") as f32);
    let weight = discount_weights(&mask, (shape[1], shape[2]), gamma, known).expect("a known pixel in every image");
    let (x, y, weights) = (case.put(x), case.put(y), case.put(weight.clone()));
    let (mut value, mut dx) = (case.uninit(1), case.uninit(x.len()));
    weighted_l1(&x, &y, &weights, &mut value, &mut dx).expect("same lengths");
    outputs([("loss", wide(&value)), ("weight", floats(&weight)), ("grad_x", nchw(&dx, shape))])
}

/// The axis of a case: what is outside, the axis, what is inside.
fn axis(case: &Case) -> [usize; 3] {
    let (shape, dim) = (case.shape("x"), case.count("dim"));
    [shape[..dim].iter().product(), shape[dim], shape[dim + 1..].iter().product()]
}

fn soft(case: &Case) -> Outputs {
    let (x, grad) = (case.put(case.flat("x")), case.put(case.flat("grad_out")));
    let (mut y, mut dx) = (case.uninit(x.len()), case.uninit(x.len()));
    softmax(&x, axis(case), &mut y).expect("same lengths");
    softmax_backward(&y, axis(case), &grad, &mut dx).expect("same lengths");
    outputs([("y", wide(&y)), ("grad_x", wide(&dx))])
}

fn log_sums(case: &Case) -> Outputs {
    let (x, grad) = (case.put(case.flat("x")), case.put(case.flat("grad_out")));
    let (mut y, mut dx) = (case.uninit(grad.len()), case.uninit(x.len()));
    log_sum_exp(&x, axis(case), &mut y).expect("same lengths");
    log_sum_exp_backward(&x, &y, axis(case), &grad, &mut dx).expect("same lengths");
    outputs([("y", wide(&y)), ("grad_x", wide(&dx))])
}
