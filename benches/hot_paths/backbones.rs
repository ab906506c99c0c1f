//! EfficientNet-Lite0's trunk up to its usual cuts, and the scorers over its features; weights are random, as timing needs.

use std::hint::black_box;

use hotad_engine::data::picture::ImageSpec;
use hotad_engine::device::Device;
use hotad_engine::params::Params;
use hotad_engine::random;
use hotad_engine::tensor::Tensor;
use hotad_kernels::cosine_nn::BankData;
use hotad_kernels::flat_bank::FlatBank;
use hotad_kernels::mahalanobis::{Factors, LocationGaussians, pack};
use hotad_models::features::backbone::{Backbone, Network};
use hotad_models::features::embedding::Part;
use hotad_models::features::{Embedding, Extractor, Source};
use hotad_models::segmentation::enlarged;

use crate::work::{Work, laid_out, noise};

const SIZE: usize = 224;

/// Multiply-adds of the trunk up to block 10, twice.
const TRUNK_FLOPS: f64 = 0.49e9;

/// Vectors of the memory bank.
const BANK: usize = 2_000;

/// Elements of a patch that PaDiM keeps.
const PADIM: usize = 100;

const IMAGE: ImageSpec = ImageSpec { height: SIZE, width: SIZE, channels: 3 };

fn lite0(device: &Device) -> (Backbone, Vec<usize>) {
    let network = Network::named("efficientnet-lite0").expect("it is known");
    let trunk = network.trunk();
    let (mut params, mut rng) = (Params::default(), random::stream(0, "bench", 0));
    trunk.layers(trunk.len()).iter().for_each(|layer| layer.init(&mut params, "", &mut rng));
    let state = params.values().expect("on the host");
    let backbone = Backbone::new(network, SIZE, state, trunk.len(), device).expect("memory for a network");
    let cuts = backbone.usual();
    (backbone, cuts)
}

fn embedding(device: &Device) -> Embedding {
    let (backbone, cuts) = lite0(device);
    let part = Part { source: Source::Backbone(Box::new(backbone)), cuts };
    Embedding::new(vec![part], IMAGE, 3, device).expect("shapes fit")
}

fn image() -> Tensor {
    Tensor::new(noise(IMAGE.len(), 30), &[1, SIZE, SIZE, 3]).expect("lengths fit")
}

pub fn trunk(device: &Device) -> Work {
    let image = image();
    let run = |(backbone, cuts): &(Backbone, Vec<usize>), image: &Tensor| {
        black_box(backbone.maps(image, cuts).expect("shapes fit"));
    };
    let trunk = laid_out(device, lite0, |trunk| run(trunk, &image));
    Work {
        title: "EfficientNet-Lite0 to block 10, forward, batch 1, 224x224",
        name: "lite0_trunk",
        flops: TRUNK_FLOPS,
        bytes: 0.0,
        units: 1.0,
        goal: (1.0, 1.0),
        latency: true,
        run: Box::new(move || run(&trunk, &image)),
    }
}

/// From an image on the host to score and map on the host; against PyTorch, and its trunk under ONNX Runtime or OpenVINO.
pub fn patchcore(device: &Device) -> [Work; 3] {
    [
        ("PatchCore on EfficientNet-Lite0, bank of 2,000, batch 1, host to host", "patchcore_lite0"),
        ("the same against ONNX Runtime and faiss", "patchcore_lite0_onnx"),
        ("the same against OpenVINO and faiss", "patchcore_lite0_openvino"),
    ]
    .map(|(title, name)| {
        let image = image();
        let embedding = laid_out(device, embedding, |embedding| drop(embedding.embed(&image).expect("shapes fit")));
        let d = embedding.dimensions();
        let bank = FlatBank::new(BankData::F32(noise(BANK * d, 31)), d, device).expect("memory for a bank");
        Work {
            title,
            name,
            flops: TRUNK_FLOPS + 2.0 * (784 * BANK * d) as f64,
            bytes: 0.0,
            units: 1.0,
            goal: (1.0, 1.0),
            latency: true,
            run: Box::new(move || {
                let vectors = embedding.embed(&image).expect("shapes fit");
                let patches = vectors.len() / d;
                let (mut index, mut distance) = (
                    vectors.device().alloc(patches).expect("memory"),
                    vectors.device().alloc(patches).expect("memory"),
                );
                bank.nearest(vectors.view(), 1, &mut index, &mut distance).expect("shapes fit");
                black_box(enlarged(&distance, embedding.grid(), IMAGE, 4.0).expect("whole maps"));
            }),
        }
    })
}

/// From an image on the host to score and map on the host.
pub fn padim(device: &Device) -> Work {
    let image = image();
    let mut embedding = laid_out(device, embedding, |embedding| drop(embedding.embed(&image).expect("shapes fit")));
    embedding.select(&(0..PADIM).collect::<Vec<_>>()).expect("as many channels");
    let (h, w) = embedding.grid();
    let one = pack(PADIM, |i, j| if i == j { 1.0 } else { 0.01 });
    let mean = vec![0.0; h * w * PADIM];
    let factors = Factors::F32(one.repeat(h * w));
    let gaussians = LocationGaussians::new(PADIM, mean, factors, vec![1.0; h * w]).expect("lengths fit");
    Work {
        title: "PaDiM on EfficientNet-Lite0, 100 dimensions, batch 1, host to host",
        name: "padim_lite0",
        flops: TRUNK_FLOPS + (h * w * PADIM * PADIM) as f64,
        bytes: 0.0,
        units: 1.0,
        goal: (1.0, 1.0),
        latency: true,
        run: Box::new(move || {
            let vectors = embedding.embed(&image).expect("shapes fit");
            let mut distance = vectors.device().alloc(h * w).expect("memory");
            gaussians.distances(vectors.view(), &mut distance).expect("shapes fit");
            black_box(enlarged(&distance, (h, w), IMAGE, 4.0).expect("whole maps"));
        }),
    }
}
