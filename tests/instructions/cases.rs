//! What is counted: a small call of every kernel that decides speed.

use half::f16;
use hotad_kernels::activation::Activation;
use hotad_kernels::adam::{AdamOptions, adam};
use hotad_kernels::batch_norm::{Affine, After, batch_norm2d_train};
use hotad_kernels::ciede2000::ciede2000_rgb;
use hotad_kernels::conv::{
    ConvOptions, ConvWeights, Extra, Padding, PreparedConv, PreparedInvertedResidual, conv2d, conv2d_backward_data,
    conv2d_backward_weight,
};
use hotad_kernels::coreset::greedy_coreset;
use hotad_kernels::cosine_nn::{BankData, LocationBank};
use hotad_kernels::decompose::{DecomposeOptions, decompose};
use hotad_kernels::despeckle::despeckle;
use hotad_kernels::device::{Device, InputRange, Rounding};
use hotad_kernels::flat_bank::FlatBank;
use hotad_kernels::pool::{PoolOptions, avg_pool2d, max_pool2d};
use hotad_kernels::resize::{Filter, resize};
use hotad_kernels::softmax::softmax;
use hotad_kernels::ssim::{SsimOptions, ssim_map, ssim_map_with_gradient};

use crate::callgrind::counted;
use crate::stepping::{be_stepped_through, stop};

/// Values in 0..1 from a fixed sequence.
fn noise(n: usize) -> Vec<f32> {
    let mut state = 12_345u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32
    };
    (0..n).map(|_| next()).collect()
}

/// A call that can be repeated.
type Call = Box<dyn FnMut()>;

/// A name, and what makes the call.
type Case = (&'static str, fn() -> Call);

const CASES: &[Case] = &[
    ("convolution 3x3", || dense(3, Padding::Same)),
    ("convolution 1x1", || dense(1, Padding::Each(0))),
    ("convolution 3x3 by Winograd", || winograd(3, ConvOptions::same(3))),
    ("convolution 4x4 of stride 2 by Winograd", || {
        winograd(4, ConvOptions { stride: 2, padding: 1.into(), ..ConvOptions::default() })
    }),
    ("convolution in int8", int8),
    ("inverted residual", || inverted_residual(Rounding::None)),
    ("inverted residual in int8", || inverted_residual(Rounding::Int8(InputRange::new(0.0, 1.0).expect("finite")))),
    ("data gradient", data_gradient),
    ("weight gradient", weight_gradient),
    ("depthwise convolution", depthwise),
    ("cosine nearest neighbour", cosine),
    ("flat nearest neighbour", flat),
    ("flat nearest neighbour in few directions", flat_in_few_directions),
    ("bank of integers", integers),
    ("coreset", coreset),
    ("SSIM map", || ssim(false)),
    ("SSIM gradient", || ssim(true)),
    ("decomposition", decomposition),
    ("despeckling", despeckling),
    ("CIEDE2000", colours),
    ("Adam", optimiser),
    ("softmax", probabilities),
    ("sigmoid", activation),
    ("batch normalisation", normalisation),
    ("maximum pooling", || pooling(true)),
    ("average pooling", || pooling(false)),
    ("bilinear resize", resizing),
];

/// Those that contain a part.
pub fn names(part: &str) -> impl Iterator<Item = &'static str> {
    CASES.iter().map(|(name, _)| *name).filter(move |name| name.contains(part))
}

/// Runs the cases with a part of a name on this thread alone, each inside [`counted`].
pub fn run_counted(part: &str) {
    on_this_thread();
    for (_, make) in CASES.iter().filter(|(name, _)| name.contains(part)) {
        let mut call = make();
        call(); // what happens once is not counted
        counted(&mut call);
    }
}

/// Runs a case of its name on this thread alone, with a stop before and after it.
pub fn run_stopped(name: &str) {
    let (_, make) = CASES.iter().find(|(known, _)| *known == name).expect("a case of this name");
    on_this_thread();
    let mut call = make();
    call(); // what happens once is not counted
    be_stepped_through();
    stop();
    call();
    stop();
}

fn on_this_thread() {
    rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global().expect("the first pool");
}

const SHAPE: [usize; 4] = [1, 4, 8, 32];

fn dense(kernel: usize, padding: Padding) -> Call {
    let opts = ConvOptions { padding, ..ConvOptions::default() };
    let (x, w, mut y) = (noise(4 * 8 * 32), noise(32 * kernel * kernel * 32), vec![0.0; 4 * 8 * 32]);
    Box::new(move || {
        conv2d(&x, SHAPE, &w, [32, kernel, kernel, 32], None, opts, Activation::Relu, &mut y).expect("shapes fit");
    })
}

fn int8() -> Call {
    let (shape, opts) = ([1, 4, 8, 32], ConvOptions::same(3));
    let upload = |n| Device::CPU.upload(noise(n)).expect("memory");
    let conv =
        PreparedConv::new(upload(32 * 9 * 32), [32, 3, 3, 32], upload(32), opts, Activation::Relu).expect("fits");
    let range = InputRange::new(0.0, 1.0).expect("finite");
    let conv = conv.rounded(Rounding::Int8(range)).expect("few terms");
    let (x, mut y) = (noise(4 * 8 * 32), vec![0.0; 4 * 8 * 32]);
    Box::new(move || {
        conv.run(&x, shape, Extra::default(), &mut y).expect("shapes fit");
    })
}

fn winograd(kernel: usize, opts: ConvOptions) -> Call {
    // 16 tiles, the fewest.
    let size = if opts.stride == 1 { 16 } else { 24 };
    let shape = [1, size, size, 32];
    let upload = |n| Device::CPU.upload(noise(n)).expect("memory");
    let weight = upload(32 * kernel * kernel * 32);
    let conv = PreparedConv::new(weight, [32, kernel, kernel, 32], upload(32), opts, Activation::Relu).expect("fits");
    let y = conv.output(shape).expect("fits");
    let (x, mut y) = (noise(shape.iter().product()), vec![0.0; y.iter().product()]);
    Box::new(move || {
        conv.run(&x, shape, Extra::default(), &mut y).expect("shapes fit");
    })
}

fn inverted_residual(rounding: Rounding) -> Call {
    let (shapes, opts) = ([[96, 1, 1, 32], [96, 3, 3, 1], [32, 1, 1, 96]], ConvOptions::same(3));
    let upload = |n| Device::CPU.upload(noise(n)).expect("memory");
    let [expand, depthwise, project] = shapes.map(|shape: [usize; 4]| ConvWeights {
        weight: upload(shape.iter().product()),
        shape,
        bias: upload(shape[0]),
        rounding,
    });
    let block = PreparedInvertedResidual::new(Some(expand), depthwise, project, opts, Activation::Relu6).expect("fits");
    let (x, mut y) = (noise(4 * 8 * 32), vec![0.0; 4 * 8 * 32]);
    Box::new(move || {
        block.run(&x, SHAPE, true, &mut y).expect("shapes fit");
    })
}

fn data_gradient() -> Call {
    let opts = ConvOptions { padding: Padding::Same, ..ConvOptions::default() };
    let (grad, w, mut dx) = (noise(4 * 8 * 32), noise(32 * 9 * 32), vec![0.0; 4 * 8 * 32]);
    Box::new(move || conv2d_backward_data(&grad, SHAPE, &w, [32, 3, 3, 32], opts, &mut dx).expect("shapes fit"))
}

fn weight_gradient() -> Call {
    let opts = ConvOptions { padding: Padding::Same, ..ConvOptions::default() };
    let (x, grad, mut dw) = (noise(4 * 8 * 32), noise(4 * 8 * 32), vec![0.0; 32 * 9 * 32]);
    Box::new(move || conv2d_backward_weight(&x, SHAPE, &grad, [32, 3, 3, 32], opts, &mut dw).expect("shapes fit"))
}

fn depthwise() -> Call {
    let opts = ConvOptions { padding: Padding::Same, groups: 32, ..ConvOptions::default() };
    let (x, w, mut y) = (noise(4 * 8 * 32), noise(32 * 9), vec![0.0; 4 * 8 * 32]);
    Box::new(move || {
        conv2d(&x, SHAPE, &w, [32, 3, 3, 1], None, opts, Activation::Relu6, &mut y).expect("shapes fit");
    })
}

fn cosine() -> Call {
    let data = noise(2 * 40 * 128).into_iter().map(f16::from_f32).collect();
    let bank = LocationBank::new(2, 40, 128, BankData::F16(data)).expect("shapes fit");
    let (query, mut index, mut cosine) = (noise(2 * 128), vec![0; 2], vec![0.0; 2]);
    Box::new(move || bank.nearest(&query, &mut index, &mut cosine).expect("shapes fit"))
}

fn flat() -> Call {
    let bank = FlatBank::new(BankData::F32(noise(64 * 128)), 128, &Device::CPU).expect("shapes fit");
    let (query, mut index, mut distance) = (noise(12 * 128), vec![0; 12], vec![0.0; 12]);
    Box::new(move || bank.nearest(&query, 1, &mut index, &mut distance).expect("shapes fit"))
}

/// Each element varies less than the one before it, so that few hold most of the variance.
fn flat_in_few_directions() -> Call {
    let uneven = |n: usize| -> Vec<f32> { noise(n).iter().enumerate().map(|(i, v)| v / (1 + i % 64) as f32).collect() };
    let bank = FlatBank::new(BankData::F32(uneven(2048 * 64)), 64, &Device::CPU).expect("shapes fit");
    let (query, mut index, mut distance) = (uneven(12 * 64), vec![0; 12], vec![0.0; 12]);
    Box::new(move || bank.nearest(&query, 1, &mut index, &mut distance).expect("shapes fit"))
}

fn integers() -> Call {
    let vectors = noise(64 * 128);
    Box::new(move || {
        FlatBank::new(BankData::F32(vectors.clone()), 128, &Device::CPU).expect("shapes fit");
    })
}

fn coreset() -> Call {
    let (x, mut index, mut distance) = (noise(200 * 16), vec![0; 12], vec![0.0; 12]);
    Box::new(move || {
        let watch = &mut |_| std::ops::ControlFlow::Continue(());
        greedy_coreset(&x, 16, 0, &mut index, &mut distance, watch).expect("points enough");
    })
}

fn ssim(gradient: bool) -> Call {
    let (shape, n) = ([1, 12, 64, 3], 12 * 64 * 3);
    let (x, y, grad) = (noise(n), noise(n + 1)[1..].to_vec(), noise(n));
    let (mut map, mut dx, opts) = (vec![0.0; n], vec![0.0; n], SsimOptions::default());
    Box::new(move || {
        if gradient {
            ssim_map_with_gradient(&x, &y, shape, &opts, &grad, &mut map, &mut dx, None).expect("shapes fit");
        } else {
            ssim_map(&x, &y, shape, &opts, &mut map).expect("shapes fit");
        }
    })
}

fn decomposition() -> Call {
    let (shape, n) = ([1, 12, 64, 3], 12 * 64 * 3);
    let adam = AdamOptions { lr: 0.01, ..AdamOptions::default() };
    let opts = DecomposeOptions { lambda: 1e-4, steps: 1, adam, ssim: SsimOptions::default() };
    let (x, prior, mut l) = (noise(n), noise(n + 1)[1..].to_vec(), vec![0.0; n]);
    Box::new(move || decompose(&x, &prior, shape, &opts, &mut l, None).expect("shapes fit"))
}

fn despeckling() -> Call {
    let shape = [1, 12, 64, 3];
    let n = shape.iter().product();
    let (x, l, mut y) = (noise(n), noise(n).into_iter().rev().collect::<Vec<f32>>(), vec![0.0; n]);
    Box::new(move || despeckle(&x, &l, shape, &mut y).expect("shapes fit"))
}

fn colours() -> Call {
    let bytes = |skip: usize| noise(3 * 1024 + skip)[skip..].iter().map(|v| (v * 255.0) as u8).collect::<Vec<u8>>();
    let (p, q, mut out) = (bytes(0), bytes(1), vec![0.0; 1024]);
    Box::new(move || ciede2000_rgb(&p[..], &q[..], &mut out).expect("lengths fit"))
}

fn optimiser() -> Call {
    let (mut p, g, mut m, mut v) = (noise(8192), noise(8192), vec![0.0; 8192], vec![0.0; 8192]);
    Box::new(move || adam(&mut p, &g, &mut m, &mut v, &AdamOptions::default(), 1).expect("lengths fit"))
}

fn probabilities() -> Call {
    let (x, mut y) = (noise(4096), vec![0.0; 4096]);
    Box::new(move || softmax(&x, [16, 256, 1], &mut y).expect("lengths fit"))
}

fn activation() -> Call {
    let mut x = noise(4096);
    Box::new(move || Activation::Sigmoid.apply(&mut x))
}

fn normalisation() -> Call {
    let (x, ones, zeros, mut y) = (noise(64 * 32), vec![1.0; 32], vec![0.0; 32], vec![0.0; 64 * 32]);
    let (mut mean, mut var) = (zeros.clone(), ones.clone());
    Box::new(move || {
        let affine = Affine { weight: (&ones).into(), bias: (&zeros).into() };
        let running = ((&mut mean).into(), (&mut var).into());
        batch_norm2d_train(&x, affine, running, 0.1, 1e-5, After::default(), &mut y).expect("shapes fit");
    })
}

fn pooling(largest: bool) -> Call {
    let (x, mut y, opts) = (noise(8 * 8 * 32), vec![0.0; 4 * 4 * 32], PoolOptions { kernel: 2, stride: 2, padding: 0 });
    Box::new(move || {
        if largest {
            max_pool2d(&x, [1, 8, 8, 32], opts, &mut y).expect("shapes fit");
        } else {
            avg_pool2d(&x, [1, 8, 8, 32], opts, true, &mut y).expect("shapes fit");
        }
    })
}

fn resizing() -> Call {
    let (x, mut y) = (noise(4 * 4 * 32), vec![0.0; 8 * 8 * 32]);
    Box::new(move || resize(&x, [1, 4, 4, 32], (8, 8), Filter::Bilinear, &mut y).expect("shapes fit"))
}
