//! Hot paths through whole networks, and through the gated convolution that one of them is made of.

use std::hint::black_box;

use hotad_engine::Activation;
use hotad_engine::device::Device;
use hotad_engine::ops::{ConvParams, Mode, gated_conv2d, loss};
use hotad_engine::params::Params;
use hotad_engine::tape::backward;
use hotad_engine::tensor::Tensor;
use hotad_kernels::adam::AdamOptions;
use hotad_kernels::conv::{ConvOptions, Padding, PreparedGated};
use hotad_kernels::loss::Loss;
use hotad_models::detector::Detector;
use hotad_models::networks::layer::{Prepared, Weights};
use hotad_models::networks::resnet::ResNet;
use hotad_models::networks::unet::UNet;
use hotad_models::networks::{Classifier, classify};
use hotad_models::{i3ad, lea_net};

use crate::work::{Work, laid_out, noise, rounding};

/// Values as an image batch, or something like it.
fn batch_of(device: &Device, shape: &[usize], seed: u32) -> Tensor {
    let host = Tensor::new(noise(shape.iter().product(), seed), shape).expect("lengths fit");
    host.to(device).expect("memory for a batch")
}

/// Multiply-adds of ResNet-18 and of the U-Net for an image of 256x256, twice.
const RESNET18_FLOPS: f64 = 4.76e9;
const UNET_FLOPS: f64 = 6.0e9;

pub fn resnet18_forward(device: &Device) -> Work {
    let network = ResNet::resnet18(3, 64, 1);
    let mut params = Params::default();
    network.init(&mut params, "", 0);
    let state = params.values().expect("on the host");
    let image = batch_of(device, &[1, 256, 256, 3], 14);
    let run = |ready: &Prepared, network: &ResNet, image: &Tensor| {
        black_box(classify(network, &Weights::Prepared(ready), image, None).expect("shapes fit"));
    };
    let make = |device: &Device| Prepared::new(&network.layers(), &state, device).expect("memory for a network");
    let ready = laid_out(device, make, |ready| run(ready, &network, &image));
    Work {
        title: "ResNet-18, forward, batch 1, 256x256",
        name: "resnet18_forward",
        flops: RESNET18_FLOPS,
        bytes: 0.0,
        units: 1.0,
        goal: (1.0, 1.0),
        latency: true,
        run: Box::new(move || run(&ready, &network, &image)),
    }
}

pub fn resnet18_train(device: &Device) -> Work {
    let network = ResNet::resnet18(3, 64, 1);
    let mut params = Params::default();
    network.init(&mut params, "", 0);
    let mut params = params.to(device).expect("memory for a network");
    let (images, labels) = (batch_of(device, &[8, 256, 256, 3], 15), batch_of(device, &[8, 1], 16));
    let adam = AdamOptions { lr: 1e-4, ..AdamOptions::default() };
    Work {
        title: "ResNet-18, training step, batch 8, 256x256",
        name: "resnet18_train",
        flops: 8.0 * 3.0 * RESNET18_FLOPS,
        bytes: 0.0,
        units: 1.0,
        goal: (1.2, 1.0),
        latency: true,
        run: Box::new(move || {
            let weights = Weights::Learned(&params, "", Mode::Train);
            let logits = classify(&network, &weights, &images, None).expect("shapes fit");
            let value = loss(Loss::BceWithLogits, &logits, &labels).expect("shapes fit");
            params.adam(&mut backward(&value).expect("on the tape"), &adam).expect("shapes fit");
            black_box(value.item().expect("one number"));
        }),
    }
}

pub fn unet_forward(device: &Device) -> Work {
    let network = UNet::new(1, 2, 256, 64);
    let state = network.init(0).values().expect("on the host");
    let image = batch_of(device, &[1, 256, 256, 1], 17);
    let run = |ready: &Prepared, network: &UNet, image: &Tensor| {
        black_box(network.run(&Weights::Prepared(ready), image, None).expect("shapes fit"));
    };
    let make = |device: &Device| Prepared::new(&network.layers(), &state, device).expect("memory for a network");
    let ready = laid_out(device, make, |ready| run(ready, &network, &image));
    Work {
        title: "colour U-Net, forward, batch 1, 256x256",
        name: "unet_forward",
        flops: UNET_FLOPS,
        bytes: 0.0,
        units: 1.0,
        goal: (1.0, 1.0),
        latency: true,
        run: Box::new(move || run(&ready, &network, &image)),
    }
}

pub fn unet_train(device: &Device) -> Work {
    let network = UNet::new(1, 2, 256, 64);
    let mut params = network.init(0).to(device).expect("memory for a network");
    let (images, target) = (batch_of(device, &[8, 256, 256, 1], 18), batch_of(device, &[8, 256, 256, 2], 19));
    let adam = AdamOptions::default();
    Work {
        title: "colour U-Net, training step, batch 8, 256x256",
        name: "unet_train",
        flops: 8.0 * 3.0 * UNET_FLOPS,
        bytes: 0.0,
        units: 1.0,
        goal: (1.2, 1.0),
        latency: true,
        run: Box::new(move || {
            let colours = network.learn(&params, &images, Mode::Train, None).expect("shapes fit");
            let value = loss(Loss::Mse, &colours, &target).expect("shapes fit");
            params.adam(&mut backward(&value).expect("on the tape"), &adam).expect("shapes fit");
            black_box(value.item().expect("one number"));
        }),
    }
}

/// LEA-Net with ResNet-18 and the ResNet-based attention network at point 3, untrained: one image from
/// host to map and score on the host.
pub fn lea_score(device: &Device) -> Work {
    let config = lea_net::Config::default();
    let image = batch_of(&Device::CPU, &[1, 256, 256, 3], 20);
    let make =
        |device: &Device| lea_net::LeaNet::untrained(config.clone(), 0, device).expect("memory for the networks");
    let detector = laid_out(device, make, |detector| drop(detector.score(&image).expect("shapes fit")));
    Work {
        title: "LEA-Net scoring, recolour + map + CAAN + ADN, batch 1, 256x256",
        name: "lea_score",
        flops: 0.0,
        bytes: 0.0,
        units: 1.0,
        goal: (1.3, 1.3),
        latency: true,
        run: Box::new(move || drop(black_box(detector.score(&image).expect("shapes fit")))),
    }
}

/// The widest convolution of the inpainting generator: 192 channels to 96 features and gates, dilation 4.
const GATED: [usize; 4] = [192, 3, 3, 192];
const GATED_MAP: [usize; 4] = [1, 64, 64, 192];
const GATED_OPTIONS: ConvOptions = ConvOptions { stride: 1, padding: Padding::Each(4), dilation: 4, groups: 1 };
const GATED_FLOPS: f64 = 2.0 * 64.0 * 64.0 * 192.0 * 9.0 * 192.0;

/// Small weights, so that values stay of order one.
fn gated_weights(device: &Device) -> (Tensor, Tensor) {
    let weights = noise(GATED.iter().product(), 21).iter().map(|v| (v - 0.5) / 20.0).collect();
    let weights = Tensor::new(weights, &GATED).expect("lengths fit").to(device).expect("memory for weights");
    (weights, batch_of(device, &[GATED[0]], 22))
}

pub fn gated_forward(device: &Device) -> Work {
    let (weight, bias) = gated_weights(device);
    let (weight, bias) = (weight.into_buffer().expect("memory"), bias.into_buffer().expect("memory"));
    let conv = PreparedGated::new(weight, GATED, bias, GATED_OPTIONS, Activation::Elu(1.0)).expect("shapes fit");
    let conv = conv.rounded(rounding(device)).expect("few terms");
    let x = batch_of(device, &GATED_MAP, 23);
    let mut y = device.alloc(64 * 64 * 96).expect("memory for a map");
    Work {
        title: "gated convolution 192 to 2x96, 3x3, dilation 4, 64x64, forward",
        name: "gated_forward",
        flops: GATED_FLOPS,
        bytes: 0.0,
        units: 1.0,
        goal: (1.3, 1.3),
        latency: true,
        run: Box::new(move || {
            black_box(conv.run(x.view(), GATED_MAP, None, &mut y).expect("shapes fit"));
        }),
    }
}

pub fn gated_train(device: &Device) -> Work {
    let mut params = Params::default();
    params.zeros("weight", &GATED);
    params.zeros("bias", &[GATED[0]]);
    let (weight, bias) = gated_weights(&Device::CPU);
    params.set_values(&[("weight".into(), weight), ("bias".into(), bias)].into()).expect("shapes fit");
    let params = params.to(device).expect("memory for weights");
    let (x, target) = (batch_of(device, &GATED_MAP, 23), batch_of(device, &[1, 64, 64, 96], 24));
    Work {
        title: "gated convolution 192 to 2x96, 3x3, dilation 4, 64x64, forward and backward",
        name: "gated_train",
        flops: 3.0 * GATED_FLOPS,
        bytes: 0.0,
        units: 1.0,
        goal: (1.0, 1.0),
        latency: true,
        run: Box::new(move || {
            let get = |name: &str| params.get(name, true).expect("it exists");
            let conv = ConvParams { weight: get("weight"), bias: Some(get("bias")), activation: Activation::Elu(1.0) };
            let y = gated_conv2d(&x.leaf(), &conv, GATED_OPTIONS).expect("shapes fit");
            let value = loss(Loss::Mse, &y, &target).expect("shapes fit");
            drop(black_box(backward(&value).expect("on the tape")));
            black_box(value.item().expect("one number"));
        }),
    }
}

/// I3AD at the paper's width, untrained: one image from host to map on the host in 10 iterations, none of which is
/// spared: noise always exceeds the threshold, and no change of the mask is too small to go on.
pub fn i3ad_score(device: &Device) -> Work {
    let config = i3ad::Config { test_iterations: 10, stop: -1.0, ..i3ad::Config::default() };
    let image = batch_of(&Device::CPU, &[1, 256, 256, 3], 25);
    let make =
        |device: &Device| i3ad::I3ad::untrained(config.clone(), 1e-4, 0, device).expect("memory for the networks");
    let detector = laid_out(device, make, |detector| drop(detector.score(&image).expect("shapes fit")));
    Work {
        title: "I3AD scoring, 10 iterations, width 48, batch 1, 256x256",
        name: "i3ad_score",
        flops: 0.0,
        bytes: 0.0,
        units: 1.0,
        goal: (1.3, 1.3),
        latency: true,
        run: Box::new(move || drop(black_box(detector.score(&image).expect("shapes fit")))),
    }
}
