//! Gated convolutions and their masks.

use hotad_kernels::activation::Activation;
use hotad_kernels::conv::{
    ConvOptions, MASKED_CHANNELS, PreparedGated, checkerboard_masks, conv2d, conv2d_backward_bias,
    conv2d_backward_data, conv2d_backward_weight, gate, gate_backward, masked_input, masked_input_backward,
};
use hotad_kernels::device::Buffer;

use crate::case::{Case, Outputs, floats, host, nchw, outputs, permute, wide};

pub fn run(case: &Case) -> Option<Outputs> {
    match case.op.as_str() {
        "gated_conv" => Some(convolve(case, "x", None)),
        "gated_conv_masked" => {
            let mask = case.put(case.flat("mask"));
            Some(convolve(case, "rgb", Some(&mask)))
        }
        "checkerboard_masks" => Some(masks(case)),
        _ => None,
    }
}

/// What features go through.
const ELU: Activation = Activation::Elu(1.0);

/// Weights of features, then of gates, OHWI.
fn joined(case: &Case) -> (Vec<f32>, [usize; 4]) {
    let s = case.shape("w_f");
    let shape = [s[0], s[1], s[2], s[3]];
    let both = ["w_f", "w_g"].map(|name| permute(&case.flat(name), shape, [0, 2, 3, 1]));
    (both.concat(), [2 * s[0], s[2], s[3], s[1]])
}

/// One half of joined weights, as the files have them.
fn half(w: &[f32], s: [usize; 4], which: usize) -> Vec<f64> {
    let shape = [s[0] / 2, s[1], s[2], s[3]];
    let len = w.len() / 2;
    floats(&permute(&w[which * len..(which + 1) * len], shape, [0, 3, 1, 2]))
}

fn convolve(case: &Case, input: &str, mask: Option<&Buffer>) -> Outputs {
    let opts = ConvOptions {
        stride: case.count("stride"),
        padding: case.count("padding").into(),
        dilation: case.count("dilation"),
        groups: 1,
    };
    let ((x, xs), (grad, ys)) = (case.map(input), case.map("grad_out"));
    let (w, ws) = joined(case);
    let channels = ys[3];
    let (x, w, bias) = (case.put(x), case.put(w), case.put([case.flat("b_f"), case.flat("b_g")].concat()));
    let grad = case.put(grad);
    // Inference: one fused pass.
    let mut y = case.uninit(grad.len());
    let copy = |b: &Buffer| b.duplicate().expect("a buffer");
    let prepared = PreparedGated::new(copy(&w), ws, copy(&bias), opts, ELU).expect("shapes fit");
    prepared.run(&x, xs, mask.map(Buffer::view), &mut y).expect("shapes fit");
    // Training: both halves are kept for the gradients.
    let seen = mask.map(|m| masked_input(&x, m).expect("shapes fit"));
    let (seen, seen_shape) = seen.as_ref().map_or((&x, xs), |seen| (seen, [xs[0], xs[1], xs[2], MASKED_CHANNELS]));
    let (mut halves, mut again) = (case.uninit(2 * grad.len()), case.uninit(grad.len()));
    conv2d(seen, seen_shape, &w, ws, Some(bias.view()), opts, Activation::Identity, &mut halves).expect("shapes fit");
    gate(&halves, channels, ELU, &mut again).expect("shapes fit");
    for (a, b) in host(&y).iter().zip(host(&again)) {
        assert!((a - b).abs() <= 1e-5 * (1.0 + b.abs()), "{}: fused {a}, in steps {b}", case.name);
    }
    let (mut dh, mut dx) = (case.uninit(halves.len()), case.uninit(seen.len()));
    let (mut dw, mut db) = (case.zeros(w.len()), case.zeros(2 * channels));
    gate_backward(&halves, channels, ELU, &grad, &mut dh).expect("shapes fit");
    conv2d_backward_data(&dh, seen_shape, &w, ws, opts, &mut dx).expect("shapes fit");
    conv2d_backward_weight(seen, seen_shape, &dh, ws, opts, &mut dw).expect("shapes fit");
    conv2d_backward_bias(&dh, [ys[0], ys[1], ys[2], 2 * channels], &mut db).expect("shapes fit");
    if let Some(mask) = mask {
        let mut rgb = case.uninit(x.len());
        masked_input_backward(&dx, mask, &mut rgb).expect("shapes fit");
        dx = rgb;
    }
    let (dw, db) = (host(&dw), wide(&db));
    outputs([
        ("y", nchw(&y, ys)),
        ("grad_x", nchw(&dx, xs)),
        ("grad_rgb", nchw(&dx, xs)),
        ("grad_w_f", half(&dw, ws, 0)),
        ("grad_w_g", half(&dw, ws, 1)),
        ("grad_b_f", db[..channels].to_vec()),
        ("grad_b_g", db[channels..].to_vec()),
    ])
}

fn masks(case: &Case) -> Outputs {
    let (h, w) = (case.count("height"), case.count("width"));
    let mut masks = case.uninit(4 * h * w);
    checkerboard_masks(h, w, case.count("cell"), 0, &mut masks).expect("a size");
    outputs([("masks", wide(&masks))])
}
