//! Convolutions.

use hotad_kernels::activation::Activation;
use hotad_kernels::conv::{
    ConvOptions, conv_transpose2d, conv_transpose2d_backward_data, conv_transpose2d_backward_weight, conv2d,
    conv2d_backward_bias, conv2d_backward_data, conv2d_backward_weight,
};
use hotad_kernels::device::Buffer;

use crate::case::{Case, Outputs, floats, host, nchw, outputs, permute, wide};

pub fn run(case: &Case) -> Option<Outputs> {
    match case.op.as_str() {
        "conv2d" => Some(convolve(case)),
        "conv_transpose2d" => Some(transpose(case)),
        _ => None,
    }
}

/// The file's [a, b, kh, kw] weights as [a, kh, kw, b].
fn weights(case: &Case) -> (Buffer, [usize; 4]) {
    let s = case.shape("w");
    let shape = [s[0], s[1], s[2], s[3]];
    (case.put(permute(&case.flat("w"), shape, [0, 2, 3, 1])), [s[0], s[2], s[3], s[1]])
}

fn weights_back(w: &Buffer, s: [usize; 4]) -> Vec<f64> {
    floats(&permute(&host(w), s, [0, 3, 1, 2]))
}

fn convolve(case: &Case) -> Outputs {
    let opts = ConvOptions {
        stride: case.count("stride"),
        padding: case.count("padding").into(),
        dilation: case.count("dilation"),
        groups: case.count("groups"),
    };
    let (x, xs) = case.map("x");
    let (w, ws) = weights(case);
    let (grad, ys) = case.map("grad_out");
    let bias = case.has("in.b").then(|| case.put(case.flat("b")));
    let (x, grad) = (case.put(x), case.put(grad));
    let mut y = case.uninit(grad.len());
    let bias = bias.as_ref().map(Buffer::view);
    conv2d(&x, xs, &w, ws, bias, opts, Activation::Identity, &mut y).expect("shapes fit");
    let (mut dx, mut dw, mut db) = (case.uninit(x.len()), case.zeros(w.len()), case.zeros(ys[3]));
    conv2d_backward_data(&grad, xs, &w, ws, opts, &mut dx).expect("shapes fit");
    conv2d_backward_weight(&x, xs, &grad, ws, opts, &mut dw).expect("shapes fit");
    conv2d_backward_bias(&grad, ys, &mut db).expect("shapes fit");
    outputs([("y", nchw(&y, ys)), ("grad_x", nchw(&dx, xs)), ("grad_w", weights_back(&dw, ws)), ("grad_b", wide(&db))])
}

fn transpose(case: &Case) -> Outputs {
    let opts =
        ConvOptions { stride: case.count("stride"), padding: case.count("padding").into(), ..ConvOptions::default() };
    let (x, xs) = case.map("x");
    let (w, ws) = weights(case);
    let (grad, ys) = case.map("grad_out");
    let bias = case.put(case.flat("b"));
    let (x, grad) = (case.put(x), case.put(grad));
    let mut y = case.uninit(grad.len());
    conv_transpose2d(&x, xs, &w, ws, Some(bias.view()), opts, Activation::Identity, &mut y).expect("shapes fit");
    let (mut dx, mut dw, mut db) = (case.uninit(x.len()), case.zeros(w.len()), case.zeros(ys[3]));
    conv_transpose2d_backward_data(&grad, xs, &w, ws, opts, &mut dx).expect("shapes fit");
    conv_transpose2d_backward_weight(&x, xs, &grad, ws, opts, &mut dw).expect("shapes fit");
    conv2d_backward_bias(&grad, ys, &mut db).expect("shapes fit");
    outputs([("y", nchw(&y, ys)), ("grad_x", nchw(&dx, xs)), ("grad_w", weights_back(&dw, ws)), ("grad_b", wide(&db))])
}
