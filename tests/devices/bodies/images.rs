use hotad_kernels::absolute_difference::mean_absolute_difference;
use hotad_kernels::adam::AdamOptions;
use hotad_kernels::blur::gaussian_blur;
use hotad_kernels::ciede2000::{ciede2000, ciede2000_rgb};
use hotad_kernels::colour::srgb_to_lab;
use hotad_kernels::decompose::{DecomposeOptions, decompose};
use hotad_kernels::despeckle::despeckle;
use hotad_kernels::device::Device;
use hotad_kernels::recolour::{recolour, recolour_difference, split_colour};
use hotad_kernels::soft_threshold::soft_threshold;
use hotad_kernels::ssim::{SsimOptions, ssim_map_with_gradient, ssim_mask};
use hotad_kernels::window::{Border, Window};

use super::{Results, host, integers, noise, put, uninit};

/// Numbers in 0..1.
fn image(n: usize, index: u64) -> Vec<f32> {
    noise(n, index).into_iter().map(|v| 0.5 + 0.5 * v).collect()
}

pub fn similarity(device: &Device) -> Results {
    let mut out = Results::new();
    for (shape, border, size, steps) in [
        ([3, 33, 18, 3], Border::Symmetric, 11, 4),
        ([1, 17, 40, 1], Border::Zero, 11, 4),
        ([2, 16, 31, 2], Border::Valid, 11, 4),
        ([1, 4, 6, 3], Border::Symmetric, 11, 40),
        ([1, 20, 19, 1], Border::Reflect101, 13, 3),
        ([1, 9, 33, 1], Border::Reflect101, 3, 3),
    ] {
        let [n, h, w, c] = shape;
        let window = Window::Gaussian { size, sigma: 1.5 };
        let opts = SsimOptions { window, border, ..SsimOptions::default() };
        let len = shape.iter().product();
        let (x, y) = (put(device, image(len, 1)), put(device, image(len, 2)));
        let [_, oh, ow, _] = opts.map_shape(shape).expect("the window fits");
        let (grad, mut map) = (put(device, noise(n * oh * ow * c, 3)), uninit(device, n * oh * ow * c));
        let (mut dx, mut dy) = (uninit(device, len), uninit(device, len));
        ssim_map_with_gradient(&x, &y, shape, &opts, &grad, &mut map, &mut dx, Some(dy.view_mut())).expect("fits");
        let (mut d, mut mask) = (uninit(device, n * oh * ow), put(device, vec![1.0; n * oh * ow]));
        let mut counts = put(device, vec![u32::MAX; 2 * n]);
        ssim_mask(&x, &y, shape, &opts, 0.9, &mut d, &mut mask, &mut counts).expect("fits");
        out.extend([&map, &dx, &dy, &d].map(|b| (host(b), 1e-4)));
        // A pixel at the threshold may fall on either side.
        let flips = (n * oh * ow) as f32 * 2e-3 + 1.0;
        out.push((vec![host(&mask).iter().sum()], flips / (n * oh * ow) as f32));
        out.push((integers(&counts), flips / (n * oh * ow) as f32));
        let masked = host(&counts).chunks_exact(2).map(|c| c[1] as f32).sum::<f32>();
        assert_eq!(masked, host(&mask).iter().sum::<f32>(), "what is counted is what is masked");
        let adam = AdamOptions { lr: 0.01, ..AdamOptions::default() };
        let opts = DecomposeOptions { lambda: 1e-3, steps, adam, ssim: opts };
        let (mut l, mut losses) = (uninit(device, len), uninit(device, n * (steps as usize + 1)));
        decompose(&x, &y, shape, &opts, &mut l, Some(losses.view_mut())).expect("fits");
        let mut residual = uninit(device, n * h * w);
        mean_absolute_difference(&x, &l, shape, &mut residual).expect("fits");
        let mut sparse = put(device, image(len, 2));
        soft_threshold(&x, &mut sparse, 0.25).expect("fits");
        out.push((host(&sparse), 1e-6));
        let mut despeckled = uninit(device, len);
        despeckle(&x, &y, shape, &mut despeckled).expect("fits");
        out.push((host(&despeckled), 1e-6));
        let mut quiet = uninit(device, len);
        decompose(&x, &y, shape, &opts, &mut quiet, None).expect("fits");
        // Without losses an NVIDIA GPU takes all steps in one kernel, in which its compiler may fuse other products and sums.
        assert!(host(&quiet) == host(&l) || device.name().starts_with("cuda"), "losses change nothing");
        let rows = host(&quiet).chunks_exact(w * c).map(|row| row.iter().sum()).collect();
        out.push((rows, 1e-2));
        // Adam divides by the gradient's size, so an element with almost none may turn either way.
        out.push((host(&losses), 1e-4));
        out.push((vec![host(&l).iter().sum(), host(&residual).iter().sum()], 1e-3));
    }
    out
}

/// The largest window that fits into the memory that the units of a cube share.
pub fn large_window(device: &Device) -> Results {
    let (shape, len) = ([1, 35, 31, 2], 35 * 31 * 2);
    let window = Window::Uniform { size: 29 };
    let opts = SsimOptions { window, border: Border::Symmetric, sample_covariance: true, ..SsimOptions::default() };
    let (x, y, grad) = (put(device, image(len, 1)), put(device, image(len, 2)), put(device, noise(len, 3)));
    let (mut map, mut dx) = (uninit(device, len), uninit(device, len));
    ssim_map_with_gradient(&x, &y, shape, &opts, &grad, &mut map, &mut dx, None).expect("fits");
    [&map, &dx].map(|b| (host(b), 1e-4)).into()
}

pub fn colour(device: &Device) -> Results {
    let pixels = 517;
    let bytes = |index| image(3 * pixels, index).into_iter().map(|v| (v * 255.0) as u8).collect::<Vec<u8>>();
    let (p, q) = (put(device, bytes(1)), put(device, bytes(2)));
    let (mut delta, mut lab, mut other) =
        (uninit(device, pixels), uninit(device, 3 * pixels), uninit(device, 3 * pixels));
    ciede2000_rgb(&p, &q, &mut delta).expect("same lengths");
    srgb_to_lab(&p, &mut lab).expect("same lengths");
    srgb_to_lab(&put(device, image(3 * pixels, 3)), &mut other).expect("same lengths");
    let mut between = uninit(device, pixels);
    ciede2000(&lab, &other, &mut between).expect("same lengths");
    let colour = put(device, image(2 * pixels, 4).into_iter().map(|v| 0.3 + 0.4 * v).collect());
    let (mut lightness, mut own) = (uninit(device, pixels), uninit(device, 2 * pixels));
    let (mut map, mut recoloured) = (uninit(device, pixels), uninit(device, 3 * pixels));
    split_colour(&p, &mut lightness, &mut own).expect("same pixels");
    recolour_difference(&q, &colour, 0.02, &mut map).expect("same pixels");
    recolour(&put(device, image(3 * pixels, 3)), &colour, &mut recoloured).expect("same pixels");
    [&delta, &lab, &other, &between, &lightness, &own, &map, &recoloured].map(|b| (host(b), 2e-5)).into()
}

pub fn blur(device: &Device) -> Results {
    let mut out = Results::new();
    let (shape, len) = ([2, 13, 9, 3], 2 * 13 * 9 * 3);
    for (radius, border) in [(3, Border::Symmetric), (20, Border::Reflect101), (4, Border::Zero)] {
        let mut y = uninit(device, len);
        gaussian_blur(&put(device, noise(len, 3)), shape, 2.5, radius, border, &mut y).expect("fits");
        out.push((host(&y), 1e-5));
    }
    out
}
