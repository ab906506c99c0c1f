//! Colour, SSIM, decomposition.

use hotad_kernels::adam::AdamOptions;
use hotad_kernels::ciede2000::{ciede2000, ciede2000_rgb};
use hotad_kernels::colour::{lab_to_srgb, srgb_to_lab};
use hotad_kernels::decompose::{DecomposeOptions, decompose};
use hotad_kernels::ssim::{SsimOptions, ssim_map, ssim_map_backward, ssim_mask, ssim_mean, ssim_mean_with_gradient};
use hotad_kernels::window::{Border, Window};

use crate::case::{Case, Outputs, nchw, outputs, wide};

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
    let mut lab = vec![f32::NAN; rgb.len()];
    match case.text("input") {
        "u8" => srgb_to_lab(&bytes(&rgb), &mut lab),
        _ => srgb_to_lab(&rgb, &mut lab),
    }
    .expect("same lengths");
    outputs([("lab", nchw(&lab, shape))])
}

fn to_srgb(case: &Case) -> Outputs {
    let (lab, shape) = case.map("lab");
    let mut rgb = vec![f32::NAN; lab.len()];
    lab_to_srgb(&lab, &mut rgb).expect("same lengths");
    let rounded: Vec<f32> = rgb.iter().map(|v| (255.0 * v + 0.5).floor()).collect();
    outputs([("rgb", nchw(&rgb, shape)), ("rgb_u8", nchw(&rounded, shape))])
}

fn delta_lab(case: &Case) -> Outputs {
    let (p, q) = (case.flat("lab1"), case.flat("lab2"));
    let mut out = vec![f32::NAN; p.len() / 3];
    ciede2000(&p, &q, &mut out).expect("same lengths");
    outputs([("delta_e", wide(&out))])
}

fn delta_rgb(case: &Case) -> Outputs {
    let ((p, shape), (q, _)) = (case.map("rgb1"), case.map("rgb2"));
    let mut out = vec![f32::NAN; p.len() / 3];
    match case.text("input") {
        "u8" => ciede2000_rgb(&bytes(&p), &bytes(&q), &mut out),
        _ => ciede2000_rgb(&p, &q, &mut out),
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

fn map(case: &Case, opts: &SsimOptions) -> Outputs {
    let ((x, shape), (y, _)) = (case.map("x"), case.map("y"));
    let map_shape = opts.map_shape(shape).expect("window fits");
    let mut s = vec![f32::NAN; map_shape.iter().product()];
    ssim_map(&x, &y, shape, opts, &mut s).expect("shapes fit");
    if !case.has("in.grad_out") {
        return outputs([("s", nchw(&s, map_shape))]);
    }
    let (grad, _) = case.map("grad_out");
    let (mut dx, mut dy) = (vec![f32::NAN; x.len()], vec![f32::NAN; x.len()]);
    ssim_map_backward(&x, &y, shape, opts, &grad, &mut dx, Some(&mut dy)).expect("shapes fit");
    outputs([("s", nchw(&s, map_shape)), ("grad_x", nchw(&dx, shape)), ("grad_y", nchw(&dy, shape))])
}

fn mean(case: &Case, opts: &SsimOptions) -> Outputs {
    let ((x, shape), (y, _)) = (case.map("x"), case.map("y"));
    let mut dx = vec![f32::NAN; x.len()];
    let upstream = if case.has("in.grad_out") { case.flat("grad_out") } else { vec![1.0; shape[0]] };
    ssim_mean_with_gradient(&x, &y, shape, opts, &upstream, &mut dx).expect("shapes fit");
    let mean = ssim_mean(&x, &y, shape, opts).expect("shapes fit");
    outputs([("mean", wide(&mean)), ("grad_x", nchw(&dx, shape))])
}

fn mask(case: &Case, opts: &SsimOptions) -> Outputs {
    let ((x, shape), (y, _)) = (case.map("x"), case.map("y"));
    let [n, h, w, _] = opts.map_shape(shape).expect("window fits");
    let (mut d, mut m) = (vec![f32::NAN; n * h * w], vec![0.0; n * h * w]);
    let changed = ssim_mask(&x, &y, shape, opts, case.number("threshold") as f32, &mut d, &mut m).expect("shapes fit");
    let set = m.iter().filter(|v| **v == 1.0).count();
    assert_eq!(changed.iter().sum::<usize>(), set, "from an empty mask, what changed is what is set");
    outputs([("dissimilarity", wide(&d)), ("mask", wide(&m))])
}

fn background(case: &Case, ssim: &SsimOptions) -> Outputs {
    let ((x, shape), (prior, _)) = (case.map("x"), case.map("xhat"));
    let adam = AdamOptions {
        lr: case.number("lr") as f32,
        beta1: case.number("beta1") as f32,
        beta2: case.number("beta2") as f32,
        eps: case.number("eps") as f32,
        ..AdamOptions::default()
    };
    let opts =
        DecomposeOptions { lambda: case.number("lambda") as f32, steps: case.count("steps") as u32, adam, ssim: *ssim };
    let mut l = vec![f32::NAN; x.len()];
    let losses = decompose(&x, &prior, shape, &opts, &mut l).expect("shapes fit");
    outputs([("l", nchw(&l, shape)), ("loss", wide(&losses.concat()))])
}
