//! Batch norm, pooling, resizing, blur.

use hotad_kernels::batch_norm::{Affine, Statistics, batch_norm2d_backward, batch_norm2d_eval, batch_norm2d_train};
use hotad_kernels::blur::gaussian_blur;
use hotad_kernels::pool::{PoolOptions, max_pool2d, max_pool2d_backward};
use hotad_kernels::resize::{Filter, resize, resize_backward, upsample_nearest, upsample_nearest_backward};
use hotad_kernels::window::Border;

use crate::case::{Case, Outputs, nchw, outputs, wide};

pub fn run(case: &Case) -> Option<Outputs> {
    match case.op.as_str() {
        "batch_norm2d_train" => Some(normalise(case, true)),
        "batch_norm2d_eval" => Some(normalise(case, false)),
        "max_pool2d" => Some(pool(case)),
        "upsample_nearest" if case.count("scale") == 2 => Some(upsample(case)),
        "resize_bilinear" => Some(bilinear(case, Filter::Bilinear)),
        "resize_bilinear_aa" => Some(bilinear(case, Filter::BilinearAntialias)),
        "gaussian_blur" => blur(case),
        _ => None,
    }
}

fn normalise(case: &Case, training: bool) -> Outputs {
    let (x, shape) = case.map("x");
    let (grad, _) = case.map("grad_out");
    let (weight, bias) = (case.flat("weight"), case.flat("bias"));
    let (mut mean, mut var) = (case.flat("running_mean"), case.flat("running_var"));
    let affine = Affine { weight: &weight, bias: &bias };
    let eps = case.number("eps") as f32;
    let mut y = vec![f32::NAN; x.len()];
    let statistics = if training {
        let momentum = case.number("momentum") as f32;
        batch_norm2d_train(&x, affine, (&mut mean, &mut var), momentum, eps, &mut y).expect("shapes fit")
    } else {
        let statistics = Statistics::running(&mean, &var, eps);
        batch_norm2d_eval(&x, affine, &statistics, &mut y).expect("shapes fit");
        statistics
    };
    let d = batch_norm2d_backward(&x, &grad, affine, &statistics, training).expect("shapes fit");
    outputs([
        ("y", nchw(&y, shape)),
        ("running_mean", wide(&mean)),
        ("running_var", wide(&var)),
        ("grad_x", nchw(&d.x, shape)),
        ("grad_weight", wide(&d.weight)),
        ("grad_bias", wide(&d.bias)),
    ])
}

fn pool(case: &Case) -> Outputs {
    let opts =
        PoolOptions { kernel: case.count("kernel"), stride: case.count("stride"), padding: case.count("padding") };
    let (x, xs) = case.map("x");
    let (grad, ys) = case.map("grad_out");
    let (mut y, mut dx) = (vec![f32::NAN; grad.len()], vec![f32::NAN; x.len()]);
    max_pool2d(&x, xs, opts, &mut y).expect("shapes fit");
    max_pool2d_backward(&x, xs, &grad, opts, &mut dx).expect("shapes fit");
    outputs([("y", nchw(&y, ys)), ("grad_x", nchw(&dx, xs))])
}

fn upsample(case: &Case) -> Outputs {
    let (x, xs) = case.map("x");
    let (grad, ys) = case.map("grad_out");
    let (mut y, mut dx) = (vec![f32::NAN; grad.len()], vec![f32::NAN; x.len()]);
    upsample_nearest(&x, xs, &mut y).expect("shapes fit");
    upsample_nearest_backward(&grad, xs, &mut dx).expect("shapes fit");
    outputs([("y", nchw(&y, ys)), ("grad_x", nchw(&dx, xs))])
}

fn bilinear(case: &Case, filter: Filter) -> Outputs {
    let (x, xs) = case.map("x");
    let (grad, ys) = case.map("grad_out");
    let (mut y, mut dx) = (vec![f32::NAN; grad.len()], vec![f32::NAN; x.len()]);
    resize(&x, xs, (ys[1], ys[2]), filter, &mut y).expect("shapes fit");
    resize_backward(&grad, xs, (ys[1], ys[2]), filter, &mut dx).expect("shapes fit");
    outputs([("y", nchw(&y, ys)), ("grad_x", nchw(&dx, xs))])
}

fn blur(case: &Case) -> Option<Outputs> {
    let border = match case.text("border") {
        "symmetric" => Border::Symmetric,
        "reflect_101" => Border::Reflect101,
        _ => return None,
    };
    let (x, shape) = case.map("x");
    let mut y = vec![f32::NAN; x.len()];
    gaussian_blur(&x, shape, case.number("sigma") as f32, case.count("radius"), border, &mut y).expect("shapes fit");
    Some(outputs([("y", nchw(&y, shape))]))
}
