//! Batch norm, pooling, resizing, blur.

use hotad_kernels::attention::{attend, attend_backward, attention_map, attention_map_backward};
use hotad_kernels::batch_norm::{
    Affine, After, Statistics, batch_norm2d_backward, batch_norm2d_eval, batch_norm2d_train,
};
use hotad_kernels::blur::gaussian_blur;
use hotad_kernels::device::Buffer;
use hotad_kernels::pool::{
    PoolOptions, avg_pool2d, avg_pool2d_backward, global_avg_pool2d, global_avg_pool2d_backward, max_pool2d,
    max_pool2d_backward,
};
use hotad_kernels::resize::{Filter, resize, resize_backward, upsample_nearest, upsample_nearest_backward};
use hotad_kernels::window::Border;

use crate::case::{Case, Outputs, nchw, outputs, wide};

pub fn run(case: &Case) -> Option<Outputs> {
    match case.op.as_str() {
        "batch_norm2d_train" => Some(normalise(case, true)),
        "batch_norm2d_eval" => Some(normalise(case, false)),
        "max_pool2d" => Some(pool(case)),
        "avg_pool2d" => Some(average(case)),
        "adaptive_avg_pool2d" if case.params["output_size"] == serde_json::json!([1, 1]) => Some(whole_average(case)),
        "lea_attention" => Some(attention(case)),
        "upsample_nearest" if case.count("scale") == 2 => Some(upsample(case)),
        "resize_bilinear" => Some(bilinear(case, Filter::Bilinear)),
        "resize_bilinear_aa" => Some(bilinear(case, Filter::BilinearAntialias)),
        "gaussian_blur" => blur(case),
        _ => None,
    }
}

fn normalise(case: &Case, training: bool) -> Outputs {
    let (x, shape) = case.map("x");
    let (x, grad) = (case.put(x), case.put(case.map("grad_out").0));
    let (weight, bias) = (case.put(case.flat("weight")), case.put(case.flat("bias")));
    let (mut mean, mut var) = (case.put(case.flat("running_mean")), case.put(case.flat("running_var")));
    let affine = Affine { weight: weight.view(), bias: bias.view() };
    let eps = case.number("eps") as f32;
    let mut y = case.uninit(x.len());
    let statistics = if training {
        let momentum = case.number("momentum") as f32;
        let running = (mean.view_mut(), var.view_mut());
        batch_norm2d_train(&x, affine, running, momentum, eps, After::default(), &mut y).expect("shapes fit")
    } else {
        let statistics = Statistics::running(&mean, &var, eps).expect("shapes fit");
        batch_norm2d_eval(&x, affine, &statistics, After::default(), &mut y).expect("shapes fit");
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

/// An input map and the gradient of the output on the device, with their shapes, and room for both results.
struct Pass {
    x: Buffer,
    xs: [usize; 4],
    grad: Buffer,
    ys: [usize; 4],
    y: Buffer,
    dx: Buffer,
}

impl Pass {
    fn new(case: &Case) -> Self {
        let ((x, xs), (grad, ys)) = (case.map("x"), case.map("grad_out"));
        let (y, dx) = (case.uninit(grad.len()), case.uninit(x.len()));
        Self { x: case.put(x), xs, grad: case.put(grad), ys, y, dx }
    }

    fn outputs(&self) -> Outputs {
        outputs([("y", nchw(&self.y, self.ys)), ("grad_x", nchw(&self.dx, self.xs))])
    }
}

fn pool(case: &Case) -> Outputs {
    let opts =
        PoolOptions { kernel: case.count("kernel"), stride: case.count("stride"), padding: case.count("padding") };
    let mut p = Pass::new(case);
    max_pool2d(&p.x, p.xs, opts, &mut p.y).expect("shapes fit");
    max_pool2d_backward(&p.x, p.xs, &p.grad, opts, &mut p.dx).expect("shapes fit");
    p.outputs()
}

fn average(case: &Case) -> Outputs {
    let opts =
        PoolOptions { kernel: case.count("kernel"), stride: case.count("stride"), padding: case.count("padding") };
    let count_padding = case.flag("count_include_pad");
    let mut p = Pass::new(case);
    avg_pool2d(&p.x, p.xs, opts, count_padding, &mut p.y).expect("shapes fit");
    avg_pool2d_backward(&p.grad, p.xs, opts, count_padding, &mut p.dx).expect("shapes fit");
    p.outputs()
}

fn whole_average(case: &Case) -> Outputs {
    let mut p = Pass::new(case);
    global_avg_pool2d(&p.x, p.xs, &mut p.y).expect("shapes fit");
    global_avg_pool2d_backward(&p.grad, p.xs, &mut p.dx).expect("shapes fit");
    p.outputs()
}

fn attention(case: &Case) -> Outputs {
    let ((f, fs), (g, gs)) = (case.map("f"), case.map("g"));
    let (f, g, grad) = (case.put(f), case.put(g), case.put(case.map("grad_out").0));
    let pixels = fs[0] * fs[1] * fs[2];
    let (mut map, mut y) = (case.uninit(pixels), case.uninit(f.len()));
    attention_map(&g, &mut map).expect("shapes fit");
    attend(&f, &map, &mut y).expect("shapes fit");
    let (mut df, mut dm, mut dg) = (case.uninit(f.len()), case.uninit(pixels), case.uninit(g.len()));
    attend_backward(&f, &map, &grad, &mut df, &mut dm).expect("shapes fit");
    attention_map_backward(&map, &dm, &mut dg).expect("shapes fit");
    outputs([("y", nchw(&y, fs)), ("attention", wide(&map)), ("grad_f", nchw(&df, fs)), ("grad_g", nchw(&dg, gs))])
}

fn upsample(case: &Case) -> Outputs {
    let mut p = Pass::new(case);
    upsample_nearest(&p.x, p.xs, &mut p.y).expect("shapes fit");
    upsample_nearest_backward(&p.grad, p.xs, &mut p.dx).expect("shapes fit");
    p.outputs()
}

fn bilinear(case: &Case, filter: Filter) -> Outputs {
    let mut p = Pass::new(case);
    let size = (p.ys[1], p.ys[2]);
    resize(&p.x, p.xs, size, filter, &mut p.y).expect("shapes fit");
    resize_backward(&p.grad, p.xs, size, filter, &mut p.dx).expect("shapes fit");
    p.outputs()
}

fn blur(case: &Case) -> Option<Outputs> {
    let border = match case.text("border") {
        "symmetric" => Border::Symmetric,
        "reflect_101" => Border::Reflect101,
        _ => return None,
    };
    let (x, shape) = case.map("x");
    let x = case.put(x);
    let mut y = case.uninit(x.len());
    gaussian_blur(&x, shape, case.number("sigma") as f32, case.count("radius"), border, &mut y).expect("shapes fit");
    Some(outputs([("y", nchw(&y, shape))]))
}
