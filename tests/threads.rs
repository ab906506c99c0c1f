//! Results are bit-identical for any number of threads, with every instruction set.

#[path = "common/instruction_sets.rs"]
mod instruction_sets;

use std::path::PathBuf;

use half::f16;
use hotad_engine::data::loader::{Batch, BatchFile};
use hotad_engine::data::picture::ImageSpec;
use hotad_engine::random;
use hotad_engine::tensor::Tensor;
use hotad_engine::train::Learner;
use hotad_kernels::activation::Activation;
use hotad_kernels::adam::AdamOptions;
use hotad_kernels::conv::{
    ConvOptions, ConvWeights, Extra, Padding, PreparedConv, PreparedGated, PreparedInvertedResidual,
    conv2d_backward_data, conv2d_backward_weight,
};
use hotad_kernels::cosine_nn::{BankData, LocationBank};
use hotad_kernels::decompose::{DecomposeOptions, decompose};
use hotad_kernels::device::{Device, InputRange, Rounding};
use hotad_kernels::flat_bank::FlatBank;
use hotad_kernels::ssim::SsimOptions;
use hotad_models::autoencoder::PatchAutoencoder;
use hotad_models::fit::Training;
use rand::Rng;

fn noise(n: usize, index: u64) -> Vec<f32> {
    let mut rng = random::stream(5, "thread test", index);
    (0..n).map(|_| rng.random()).collect()
}

/// Runs `work` with 1, 2 and 5 threads and compares the bits.
fn same_bits(work: impl Fn() -> Vec<f32> + Sync) {
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads can be made");
        pool.install(&work).into_iter().map(f32::to_bits).collect::<Vec<u32>>()
    };
    let one = run(1);
    assert!(!one.is_empty());
    assert!(one == run(2), "2 threads differ from 1");
    assert!(one == run(5), "5 threads differ from 1");
}

#[test]
fn prepared_convolutions() {
    // With Winograd's transforms, and directly.
    let three = |dilation: usize| (3, ConvOptions { padding: dilation.into(), dilation, ..ConvOptions::default() });
    let four = (4, ConvOptions { stride: 2, padding: 1.into(), ..ConvOptions::default() });
    let cases = [
        ([2, 20, 37, 32], three(1)),
        ([1, 20, 37, 32], three(8)),
        ([1, 5, 7, 32], three(1)),
        ([2, 40, 37, 32], four),
        ([1, 6, 8, 32], four),
    ];
    for (x, (k, opts)) in cases {
        let data = noise(x.iter().product(), 13);
        let upload = |n, index| Device::CPU.upload(noise(n, index)).expect("memory");
        let (weight, bias) = (|| upload(72 * k * k * 32, 14), || upload(72, 15));
        let range = InputRange::new(0.0, 1.0).expect("finite");
        for rounding in [Rounding::None, Rounding::Bf16, Rounding::Int8(range)] {
            let conv = PreparedConv::new(weight(), [72, k, k, 32], bias(), opts, Activation::Relu).expect("fits");
            let gated = PreparedGated::new(weight(), [72, k, k, 32], bias(), opts, Activation::Relu).expect("fits");
            let conv = conv.rounded(rounding).expect("few terms");
            let gated = gated.rounded(rounding).expect("few terms");
            same_bits(|| {
                let shape = conv.output(x).expect("shapes fit");
                let mut y = vec![0.0; shape.iter().product()];
                let mut features = vec![0.0; y.len() / 2];
                conv.run(&data, x, Extra::default(), &mut y).expect("shapes fit");
                gated.run(&data, x, None, &mut features).expect("shapes fit");
                y.extend(features);
                y
            });
        }
    }
}

#[test]
fn depthwise_gradients_and_inverted_residuals() {
    let (x, k) = ([3, 40, 37, 48], [48, 5, 5, 1]);
    let opts = ConvOptions { padding: Padding::Same, groups: 48, ..ConvOptions::default() };
    let (data, grad, w) = (noise(3 * 40 * 37 * 48, 10), noise(3 * 40 * 37 * 48, 11), noise(48 * 25, 12));
    let block = |rounding| {
        let weights = |shape: [usize; 4], at| ConvWeights {
            weight: Device::CPU.upload(noise(shape.iter().product(), at)).expect("memory"),
            shape,
            bias: Device::CPU.upload(noise(shape[0], at + 1)).expect("memory"),
            rounding,
        };
        let (expand, project) = (weights([144, 1, 1, 48], 13), weights([48, 1, 1, 144], 15));
        let mixed = weights([144, 5, 5, 1], 17);
        PreparedInvertedResidual::new(Some(expand), mixed, project, opts, Activation::Relu6).expect("shapes fit")
    };
    let range = InputRange::new(0.0, 6.0).expect("finite");
    let blocks = [Rounding::None, Rounding::Bf16, Rounding::Int8(range)].map(block);
    same_bits(|| {
        let (mut y, mut dx, mut dw) = (vec![0.0; data.len()], vec![0.0; data.len()], vec![0.0; w.len()]);
        conv2d_backward_data(&grad, x, &w, k, opts, &mut dx).expect("shapes fit");
        conv2d_backward_weight(&data, x, &grad, k, opts, &mut dw).expect("shapes fit");
        let mut out = [dx, dw].concat();
        for block in &blocks {
            block.run(&data, x, true, &mut y).expect("shapes fit");
            out.extend(&y);
        }
        out
    });
}

#[test]
fn training_steps() {
    let image = ImageSpec { height: 36, width: 28, channels: 3 };
    let images = Tensor::new(noise(5 * image.len(), 0), &[5, 36, 28, 3]).expect("lengths fit");
    let file = |index| BatchFile { index, path: PathBuf::new(), size: (36, 28), original: None };
    let batch = Batch { images, files: (0..5).map(file).collect() };
    same_bits(|| {
        let network = PatchAutoencoder::new(&[7, 19], image);
        let mut learner = Training {
            params: network.init(3),
            adam: AdamOptions::default(),
            loss: |p: &_, x: &_, tracked| network.reconstruction_loss(p, x, tracked),
        };
        let mut out: Vec<f32> = (0..3).map(|i| learner.step(&batch, i).expect("a step")).collect();
        out.extend(
            learner
                .params
                .values()
                .expect("on the host")
                .values()
                .flat_map(|t| t.values().expect("on the host").into_owned()),
        );
        out
    });
}

#[test]
fn decomposition() {
    let shape = [2, 45, 37, 3];
    let (x, prior) = (noise(shape.iter().product(), 1), noise(shape.iter().product(), 2));
    let opts = DecomposeOptions {
        lambda: 1e-4,
        steps: 12,
        adam: AdamOptions { lr: 0.01, ..AdamOptions::default() },
        ssim: SsimOptions::default(),
    };
    same_bits(|| {
        let (mut l, mut losses) = (vec![0.0; x.len()], vec![0.0; 2 * 13]);
        decompose(&x, &prior, shape, &opts, &mut l, Some((&mut losses).into())).expect("shapes fit");
        losses.into_iter().chain(l).collect()
    });
}

#[test]
fn nearest_neighbours() {
    let data: Vec<f16> = noise(13 * 21 * 35, 3).into_iter().map(f16::from_f32).collect();
    let query = noise(3 * 13 * 35, 4);
    same_bits(|| {
        let bank = LocationBank::new(13, 21, 35, BankData::F16(data.clone())).expect("shapes fit");
        let (mut index, mut cosine) = (vec![0; 39], vec![0.0; 39]);
        bank.nearest(&query, &mut index, &mut cosine).expect("shapes fit");
        index.into_iter().map(|i| i as f32).chain(cosine).collect()
    });
    let flat: Vec<f16> = noise(301 * 35, 5).into_iter().map(f16::from_f32).collect();
    same_bits(|| {
        let bank = FlatBank::new(BankData::F16(flat.clone()), 35, &Device::CPU).expect("shapes fit");
        let (mut index, mut distance) = (vec![0; 39 * 4], vec![0.0; 39 * 4]);
        bank.nearest(&query, 4, &mut index, &mut distance).expect("shapes fit");
        index.into_iter().map(|i| i as f32).chain(distance).collect()
    });
}

#[test]
fn every_instruction_set() {
    instruction_sets::run_again();
}
