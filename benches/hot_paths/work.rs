//! The hot paths, on any device; those through whole networks are in networks.rs.

use std::hint::black_box;
use std::path::PathBuf;

use half::f16;
use hotad_engine::data::loader::{Batch, BatchFile};
use hotad_engine::data::picture::ImageSpec;
use hotad_engine::device::{Cpu, Device, InputRange, InputRanges, Precision, Rounding};
use hotad_engine::tensor::Tensor;
use hotad_engine::train::Learner;
use hotad_kernels::adam::AdamOptions;
use hotad_kernels::ciede2000::ciede2000_rgb;
use hotad_kernels::cosine_nn::{BankData, LocationBank};
use hotad_kernels::decompose::{DecomposeOptions, decompose};
use hotad_kernels::device::{Buffer, Element};
use hotad_kernels::ssim::{SsimOptions, ssim_map, ssim_map_with_gradient};
use hotad_models::autoencoder::{PatchAutoencoder, VGG};
use hotad_models::detector::Detector;
use hotad_models::fit::Training;
use hotad_models::model::Model;
use hotad_models::networks::layer::{Prepared, Weights};

use crate::{backbones, networks, patches};

/// One row of the table.
pub struct Work {
    /// What the table calls it.
    pub title: &'static str,
    /// What the baseline script calls it.
    pub name: &'static str,
    /// Floating-point operations of a call.
    pub flops: f64,
    /// Bytes a call must move at least.
    pub bytes: f64,
    /// Units of work in a call; times are given per unit.
    pub units: f64,
    /// Goal of the ratio to PyTorch, on the CPU and on a GPU; 0 for none.
    pub goal: (f64, f64),
    /// Whether the result is waited for after every call, as on a line.
    pub latency: bool,
    /// Queues the work, or does it.
    pub run: Box<dyn FnMut() + Send>,
}

/// What `make` lays out for a device; for int8 with the ranges of inputs that `run` shows.
pub fn laid_out<T>(device: &Device, make: impl Fn(&Device) -> T, run: impl Fn(&T)) -> T {
    let Some(cpu) = device.cpu().filter(|cpu| cpu.precision() == Precision::Int8) else { return make(device) };
    let observing = Cpu::observing();
    run(&make(&Device::Cpu(observing.clone())));
    let ranges = observing.observed().expect("it observes").all();
    make(&Device::Cpu(cpu.with_ranges(InputRanges::new(ranges))))
}

/// How the operands of a convolution of values in 0..1 are rounded on a device.
pub fn rounding(device: &Device) -> Rounding {
    match device.precision() {
        Precision::Bf16 => Rounding::Bf16,
        Precision::Int8 => Rounding::Int8(InputRange::new(0.0, 1.0).expect("finite")),
        _ => Rounding::None,
    }
}

/// Values in 0..1 from a fixed sequence.
pub fn noise(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12_345);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32
    };
    (0..n).map(|_| next()).collect()
}

/// Numbers on the device.
pub fn put<T: Element>(device: &Device, values: Vec<T>) -> Buffer<T> {
    device.upload(values).expect("memory for a bench")
}

/// Room on the device.
pub fn uninit<T: Element>(device: &Device, len: usize) -> Buffer<T> {
    device.alloc(len).expect("memory for a bench")
}

fn decomposition(device: &Device) -> Work {
    // The CPU is given fewer steps; times are per step.
    let steps: u32 = if device.gpu().is_some() { 500 } else { 50 };
    let shape = [1, 128, 128, 3];
    let n = 128 * 128 * 3;
    let (x, prior) = (put(device, noise(n, 1)), put(device, noise(n, 2)));
    let mut l = uninit(device, n);
    let opts = DecomposeOptions {
        lambda: 1e-5,
        steps,
        adam: AdamOptions { lr: 0.01, ..AdamOptions::default() },
        ssim: SsimOptions::default(),
    };
    let elements = n as f64 * f64::from(steps);
    Work {
        title: "SSIM+L1 Adam decomposition, 128x128x3, per step",
        name: "decompose",
        flops: elements * (26.0 * 11.0 + 60.0),
        bytes: elements * 44.0,
        units: f64::from(steps),
        goal: (20.0, 30.0),
        latency: true,
        run: Box::new(move || decompose(&x, &prior, shape, &opts, &mut l, None).expect("shapes fit")),
    }
}

fn ssim(device: &Device) -> Work {
    let shape = [8, 256, 256, 3];
    let n = shape.iter().product();
    let (x, y) = (put(device, noise(n, 3)), put(device, noise(n, 4)));
    let mut map = uninit(device, n);
    Work {
        title: "SSIM map, 256x256x3, batch 8",
        name: "ssim_map",
        flops: n as f64 * (20.0 * 11.0 + 20.0),
        bytes: n as f64 * 12.0,
        units: 1.0,
        goal: (4.0, 4.0),
        latency: false,
        run: Box::new(move || ssim_map(&x, &y, shape, &SsimOptions::default(), &mut map).expect("shapes fit")),
    }
}

fn ssim_gradient(device: &Device) -> Work {
    let shape = [8, 256, 256, 3];
    let n = shape.iter().product();
    let (x, y, grad) = (put(device, noise(n, 3)), put(device, noise(n, 4)), put(device, noise(n, 5)));
    let (mut map, mut dx) = (uninit(device, n), uninit(device, n));
    let opts = SsimOptions::default();
    Work {
        title: "SSIM map + gradient, 256x256x3, batch 8",
        name: "ssim_gradient",
        flops: n as f64 * (32.0 * 11.0 + 60.0),
        bytes: n as f64 * 56.0,
        units: 1.0,
        goal: (8.0, 4.0),
        latency: false,
        run: Box::new(move || {
            ssim_map_with_gradient(&x, &y, shape, &opts, &grad, &mut map, &mut dx, None).expect("shapes fit");
        }),
    }
}

fn ciede2000(device: &Device) -> Work {
    let pixels = 16 * 256 * 256;
    let bytes = |seed| noise(3 * pixels, seed).iter().map(|v| (v * 255.0) as u8).collect::<Vec<u8>>();
    let (p, q) = (put(device, bytes(6)), put(device, bytes(7)));
    let mut out = uninit(device, pixels);
    Work {
        title: "CIEDE2000 from u8 RGB, 256x256, batch 16",
        name: "ciede2000",
        flops: pixels as f64 * 400.0,
        bytes: pixels as f64 * 10.0,
        units: 1.0,
        goal: (8.0, 8.0),
        latency: false,
        run: Box::new(move || ciede2000_rgb(&p, &q, &mut out).expect("lengths fit")),
    }
}

fn cosine_nn(device: &Device) -> Work {
    let (locations, entries, d) = (1024, 800, 128);
    let data = noise(locations * entries * d, 8).into_iter().map(f16::from_f32).collect();
    let bank = LocationBank::new(locations, entries, d, BankData::F16(data)).expect("shapes fit");
    let query = put(device, noise(locations * d, 9));
    let (mut index, mut cosine) = (uninit(device, locations), uninit(device, locations));
    let elements = (locations * entries * d) as f64;
    Work {
        title: "cosine NN, 1024 locations x 800 vectors x 128, f16 bank",
        name: "cosine_nn",
        flops: 2.0 * elements,
        bytes: 2.0 * elements,
        units: 1.0,
        goal: (2.0, 1.0),
        latency: false,
        run: Box::new(move || bank.nearest(&query, &mut index, &mut cosine).expect("shapes fit")),
    }
}

const IMAGE: ImageSpec = ImageSpec { height: 128, width: 128, channels: 3 };

/// Multiply-adds of a forward pass as PyTorch does it, twice: 3-64-128-64-3 channels.
const FORWARD_FLOPS: f64 = 2.0 * 9.0 * 2.0 * (128.0 * 128.0 * 3.0 * 64.0 + 64.0 * 64.0 * 64.0 * 128.0);

fn images(device: &Device, n: usize) -> Tensor {
    let host = Tensor::new(noise(n * IMAGE.len(), 12), &[n, 128, 128, 3]).expect("lengths fit");
    host.to(device).expect("memory for a batch")
}

fn train_step(device: &Device) -> Work {
    let network = PatchAutoencoder::new(&VGG, IMAGE);
    let mut learner = Training {
        params: network.init(0).to(device).expect("memory for a network"),
        adam: AdamOptions::default(),
        loss: move |params: &_, images: &_, tracked| network.reconstruction_loss(params, images, tracked),
    };
    let file = |index| BatchFile { index, path: PathBuf::new(), size: (128, 128), original: None };
    let batch = Batch { images: images(device, 16), files: (0..16).map(file).collect() };
    Work {
        title: "patch autoencoder vgg, training step, batch 16, 128x128",
        name: "train_step",
        flops: 16.0 * 3.0 * FORWARD_FLOPS,
        bytes: 0.0,
        units: 1.0,
        goal: (1.0, 1.0),
        latency: true,
        run: Box::new(move || {
            black_box(learner.step(&batch, 0).expect("shapes fit"));
        }),
    }
}

fn forward(device: &Device) -> Work {
    let network = PatchAutoencoder::new(&VGG, IMAGE);
    let (state, image) = (network.init(0).values().expect("on the host"), images(device, 1));
    let run = |ready: &Prepared, network: &PatchAutoencoder, image: &Tensor| {
        let weights = Weights::Prepared(ready);
        let latent = network.encode(&weights, image).expect("shapes fit");
        black_box(network.decode(&weights, &latent).expect("shapes fit"));
    };
    let make = |device: &Device| network.prepared(&state, device).expect("memory for a network");
    let ready = laid_out(device, make, |ready| run(ready, &network, &image));
    Work {
        title: "patch autoencoder vgg, forward, batch 1, 128x128",
        name: "forward",
        flops: FORWARD_FLOPS,
        bytes: 0.0,
        units: 1.0,
        goal: (1.5, 1.0),
        latency: true,
        run: Box::new(move || run(&ready, &network, &image)),
    }
}

/// Scoring with the shipped model: 100 steps of decomposition, one image from host to map on the host.
fn score(device: &Device) -> Work {
    // It has no ranges of inputs, which int8 needs.
    let device = if device.precision() == Precision::Int8 { &Device::CPU } else { device };
    let model = Model::load("weights/plate.safetensors".as_ref(), device).expect("the shipped model");
    let detector: Box<dyn Detector> = model.detector;
    let spec = detector.image();
    let image = Tensor::new(noise(spec.len(), 13), &[1, spec.height, spec.width, spec.channels]).expect("lengths fit");
    Work {
        title: "PAEDID scoring, shipped model, batch 1, host to host",
        name: "score",
        flops: 0.0,
        bytes: 0.0,
        units: 1.0,
        goal: (5.0, 5.0),
        latency: true,
        run: Box::new(move || drop(black_box(detector.score(&image).expect("shapes fit")))),
    }
}

/// Ends of the names of works whose baseline runs on the CPU alone.
const HOST_BASELINES: [&str; 5] = ["_faiss", "_onnx", "_openvino", "_openvino_default", "aupro"];

/// A forward pass against PyTorch, then against the runtimes that users deploy with; `names` are what the script calls those.
fn against_runtimes(device: &Device, make: fn(&Device) -> Work, names: [&'static str; 3]) -> Vec<Work> {
    let titles = [
        "the same against ONNX Runtime",
        "the same against OpenVINO in f32",
        "the same against OpenVINO in its default precision",
    ];
    let named = |(title, name)| Work { title, name, ..make(device) };
    std::iter::once(make(device)).chain(titles.into_iter().zip(names).map(named)).collect()
}

/// Every hot path on a device; on a GPU without those whose baseline has no use for one.
pub fn all(device: &Device) -> Vec<Work> {
    let mut works = vec![
        decomposition(device),
        ssim(device),
        ssim_gradient(device),
        ciede2000(device),
        cosine_nn(device),
        patches::knn(device),
        patches::knn_faiss(device),
        patches::knn_lite(device),
        patches::knn_lite_faiss(device),
        patches::knn_patches(device),
        patches::knn_patches_faiss(device),
        patches::coreset(device),
        patches::covariance(device),
        patches::aupro(device),
        train_step(device),
        score(device),
        networks::resnet18_train(device),
        networks::unet_train(device),
        networks::lea_score(device),
        networks::gated_forward(device),
        networks::gated_train(device),
        networks::i3ad_score(device),
        backbones::padim(device),
    ];
    for (make, names) in [
        (forward as fn(&_) -> _, ["forward_onnx", "forward_openvino", "forward_openvino_default"]),
        (
            networks::resnet18_forward,
            ["resnet18_forward_onnx", "resnet18_forward_openvino", "resnet18_forward_openvino_default"],
        ),
        (networks::unet_forward, ["unet_forward_onnx", "unet_forward_openvino", "unet_forward_openvino_default"]),
        (backbones::trunk, ["lite0_trunk_onnx", "lite0_trunk_openvino", "lite0_trunk_openvino_default"]),
    ] {
        works.extend(against_runtimes(device, make, names));
    }
    works.extend(backbones::patchcore(device));
    works.retain(|w| device.gpu().is_none() || !HOST_BASELINES.iter().any(|end| w.name.ends_with(end)));
    works
}
