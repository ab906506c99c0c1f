//! Activations, losses, optimisers.

use hotad_kernels::activation::Activation;
use hotad_kernels::adam::{AdamOptions, adam};
use hotad_kernels::loss::Loss;

use crate::case::{Case, Outputs, outputs, wide};

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
    let (mut dx, mut dy) = (case.room(x.len()), case.room(x.len()));
    let (mut value, mut other) = (case.room(1), case.room(1));
    loss.with_gradient(&x, &y, &mut value, &mut dx).expect("same lengths");
    loss.with_gradient(&y, &x, &mut other, &mut dy).expect("same lengths");
    outputs([("loss", wide(&value)), ("grad_x", wide(&dx)), ("grad_y", wide(&dy))])
}

fn one_sided(case: &Case, loss: Loss, name: &str) -> Outputs {
    let (x, target) = (case.put(case.flat(name)), case.put(case.flat("target")));
    let (mut dx, mut value) = (case.room(x.len()), case.room(1));
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
