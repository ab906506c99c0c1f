//! Colour, SSIM, decomposition.

use hotad_kernels::adam::AdamOptions;
use hotad_kernels::ciede2000::{ciede2000, ciede2000_rgb};
use hotad_kernels::colour::{lab_to_srgb, srgb_to_lab};
use hotad_kernels::decompose::{DecomposeOptions, decompose};
use hotad_kernels::device::Buffer;
use hotad_kernels::ssim::{SsimOptions, ssim_map, ssim_map_backward, ssim_mask, ssim_mean, ssim_mean_with_gradient};
use hotad_kernels::window::{Border, Window};

use crate::case::{Case, Outputs, host, nchw, outputs, wide};

pub fn run(case: &Case) -> Option<Outputs> {
    match case.op.as_str() {
        "srgb_to_lab" => Some(to_lab(case)),
        "lab_to_srgb" => Some(to_srgb(case)),
        "ciede2000" => Some(delta_lab(case)),
        "ciede2000_rgb" => Some(delta_rgb(case)),
        "ssim_map" => Some(map(case, &ssim_options(case)?)),
        "ssim_mean" => Some(mean(case, &ssim_options(case)?)),
        "ssim_mask" if case.text("channels") == "mean" => Some(mask(case, &ssim_options(case)?)),
        "paedid_decompose" => Some(background(case, &ssim_options(case)?)),
        _ => None,
    }
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().map(|v| *v as u8).collect()
}

fn to_lab(case: &Case) -> Outputs {
    let (rgb, shape) = case.map("rgb");
    let mut lab = case.uninit(rgb.len());
    match case.text("input") {
        "u8" => srgb_to_lab(&case.put(bytes(&rgb)), &mut lab),
        _ => srgb_to_lab(&case.put(rgb), &mut lab),
    }
    .expect("same lengths");
    outputs([("lab", nchw(&lab, shape))])
}

fn to_srgb(case: &Case) -> Outputs {
    let (lab, shape) = case.map("lab");
    let mut rgb = case.uninit(lab.len());
    lab_to_srgb(&case.put(lab), &mut rgb).expect("same lengths");
    let rgb = nchw(&rgb, shape);
    let rounded = rgb.iter().map(|v| f64::from((255.0 * *v as f32 + 0.5).floor())).collect();
    outputs([("rgb", rgb), ("rgb_u8", rounded)])
}

fn delta_lab(case: &Case) -> Outputs {
    let (p, q) = (case.put(case.flat("lab1")), case.put(case.flat("lab2")));
    let mut out = case.uninit(p.len() / 3);
    ciede2000(&p, &q, &mut out).expect("same lengths");
    outputs([("delta_e", wide(&out))])
}

fn delta_rgb(case: &Case) -> Outputs {
    let ((p, shape), (q, _)) = (case.map("rgb1"), case.map("rgb2"));
    let mut out = case.uninit(p.len() / 3);
    match case.text("input") {
        "u8" => ciede2000_rgb(&case.put(bytes(&p)), &case.put(bytes(&q)), &mut out),
        _ => ciede2000_rgb(&case.put(p), &case.put(q), &mut out),
    }
    .expect("same lengths");
    outputs([("delta_e", nchw(&out, [shape[0], shape[1], shape[2], 1]))])
}

fn ssim_options(case: &Case) -> Option<SsimOptions> {
    let size = case.count("window_size");
    let window = match case.text("window") {
        "gaussian" => Window::Gaussian { size, sigma: case.number("sigma") as f32 },
        "uniform" => Window::Uniform { size },
        _ => return None,
    };
    let border = match case.text("border") {
        "valid" => Border::Valid,
        "symmetric" => Border::Symmetric,
        "zero" => Border::Zero,
        _ => return None,
    };
    Some(SsimOptions {
        window,
        border,
        sample_covariance: case.flag("sample_covariance"),
        k1: case.number("k1") as f32,
        k2: case.number("k2") as f32,
        data_range: case.number("data_range") as f32,
    })
}

/// Two images on the device and their shape.
fn pair(case: &Case, names: [&str; 2]) -> (Buffer, Buffer, [usize; 4]) {
    let ((x, shape), (y, _)) = (case.map(names[0]), case.map(names[1]));
    (case.put(x), case.put(y), shape)
}

fn map(case: &Case, opts: &SsimOptions) -> Outputs {
    let (x, y, shape) = pair(case, ["x", "y"]);
    let map_shape = opts.map_shape(shape).expect("window fits");
    let mut s = case.uninit(map_shape.iter().product());
    ssim_map(&x, &y, shape, opts, &mut s).expect("shapes fit");
    if !case.has("in.grad_out") {
        return outputs([("s", nchw(&s, map_shape))]);
    }
    let grad = case.put(case.map("grad_out").0);
    let (mut dx, mut dy) = (case.uninit(x.len()), case.uninit(x.len()));
    ssim_map_backward(&x, &y, shape, opts, &grad, &mut dx, Some(dy.view_mut())).expect("shapes fit");
    outputs([("s", nchw(&s, map_shape)), ("grad_x", nchw(&dx, shape)), ("grad_y", nchw(&dy, shape))])
}

fn mean(case: &Case, opts: &SsimOptions) -> Outputs {
    let (x, y, shape) = pair(case, ["x", "y"]);
    let (mut dx, mut mean, mut again) = (case.uninit(x.len()), case.uninit(shape[0]), case.uninit(shape[0]));
    let upstream = if case.has("in.grad_out") { case.flat("grad_out") } else { vec![1.0; shape[0]] };
    let upstream = case.put(upstream);
    ssim_mean_with_gradient(&x, &y, shape, opts, &upstream, &mut again, &mut dx).expect("shapes fit");
    ssim_mean(&x, &y, shape, opts, &mut mean).expect("shapes fit");
    for (a, b) in host(&mean).iter().zip(host(&again)) {
        assert!((a - b).abs() <= 1e-6, "both ways to the mean agree: {a}, {b}");
    }
    outputs([("mean", wide(&mean)), ("grad_x", nchw(&dx, shape))])
}

fn mask(case: &Case, opts: &SsimOptions) -> Outputs {
    let (x, y, shape) = pair(case, ["x", "y"]);
    let [n, h, w, _] = opts.map_shape(shape).expect("window fits");
    let (mut d, mut m, mut counts) = (case.uninit(n * h * w), case.zeros(n * h * w), case.room_u32(2 * n));
    let threshold = case.number("threshold") as f32;
    ssim_mask(&x, &y, shape, opts, threshold, &mut d, &mut m, &mut counts).expect("shapes fit");
    let set = |m: &[f32]| [m.iter().filter(|v| **v == 1.0).count() as u32; 2];
    let set: Vec<u32> = host(&m).chunks_exact(h * w).flat_map(set).collect();
    assert_eq!(host(&counts), set, "from an empty mask, what changed is what is set");
    outputs([("dissimilarity", wide(&d)), ("mask", wide(&m))])
}

fn background(case: &Case, ssim: &SsimOptions) -> Outputs {
    let (x, prior, shape) = pair(case, ["x", "xhat"]);
    let adam = AdamOptions {
        lr: case.number("lr") as f32,
        beta1: case.number("beta1") as f32,
        beta2: case.number("beta2") as f32,
        eps: case.number("eps") as f32,
        ..AdamOptions::default()
    };
    let steps = case.count("steps");
    let opts = DecomposeOptions { lambda: case.number("lambda") as f32, steps: steps as u32, adam, ssim: *ssim };
    let (mut l, mut losses) = (case.uninit(x.len()), case.uninit(shape[0] * (steps + 1)));
    decompose(&x, &prior, shape, &opts, &mut l, Some(losses.view_mut())).expect("shapes fit");
    // Without losses CUDA takes all steps in one kernel.
    let mut alone = case.uninit(x.len());
    decompose(&x, &prior, shape, &opts, &mut alone, None).expect("shapes fit");
    outputs([("l", nchw(&alone, shape)), ("loss", wide(&losses))])
}
