//! What an image gives does not depend on the others of its batch: shards make other batches than one run.

mod common;
#[path = "common/formula.rs"]
mod formula;

use std::path::Path;

use common::{ok, small_data, text};
use formula::{hashed, state_dict};
use hotad_engine::device::Device;
use hotad_engine::tensor::Tensor;
use hotad_models::features::Extractor;
use hotad_models::features::backbone::{Backbone, Network};
use hotad_models::networks::import::from_torchvision;
use serde_json::Value;

/// Images `[n, size, size, 3]`, from number `first` on.
fn images(first: usize, n: usize, size: usize) -> Tensor {
    let image = |i: usize| hashed(3 * size * size, &format!("image {i}")).into_iter().map(|v| (0.5 + 0.5 * v) as f32);
    Tensor::new((first..first + n).flat_map(image).collect(), &[n, size, size, 3]).expect("fits")
}

#[test]
fn maps_of_an_image_do_not_depend_on_its_batch() {
    for name in ["efficientnet-lite0", "mobilenet_v3_small", "resnet18"] {
        let network = Network::named(name).expect("a network that is known");
        let trunk = network.trunk();
        let layers = trunk.layers(trunk.len());
        let state = from_torchvision(Path::new(name), &state_dict(&layers), &layers).expect("all tensors");
        for size in [64, 96] {
            let backbone = Backbone::new(network, size, state.clone(), trunk.len(), &Device::CPU).expect("all tensors");
            let cuts: Vec<usize> = (0..trunk.len()).collect();
            let whole = backbone.maps(&images(0, 5, size), &cuts).expect("shapes fit");
            let single = backbone.maps(&images(3, 1, size), &cuts).expect("shapes fit");
            let differs = whole.iter().zip(&single).position(|(whole, single)| {
                let (whole, single) = (whole.values().expect("read"), single.values().expect("read"));
                whole[3 * single.len()..4 * single.len()] != *single
            });
            assert_eq!(differs.map(|cut| backbone.cuts()[cut].clone()), None, "{name} at {size}");
        }
    }
}

#[test]
fn scores_of_an_image_do_not_depend_on_its_batch() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = (dir.path().join("data"), dir.path().join("m"));
    small_data(&data, 64);
    for (method, settings) in [
        ("patchcore", &["image_size=[64, 96]", "coreset=50"][..]),
        ("padim", &["image_size=[96, 64]"]),
        ("simplenet", &["image_size=64", "epochs=1"]),
        ("paedid", &["image_size=[32, 48]", "network=[8, 16]", "epochs=1", "steps=5"]),
        ("l2-ae", &["latent=8", "epochs=1"]),
        ("mem-ae", &["latent=8", "slots=16", "epochs=1"]),
        ("f-anogan", &["latent=8", "epochs=1", "encoder_epochs=1", "discriminator_width=4"]),
        ("anogan", &["latent=8", "epochs=1", "test_steps=3", "discriminator_width=4"]),
        ("rasl", &["image_size=32", "images=8", "rounds=3"]),
    ] {
        let mut train = vec!["train", method, "--data", text(&data), "--out", text(&model), "-q", "--force"];
        settings.iter().for_each(|s| train.extend(["--set", s]));
        ok(&train);
        let scored = |batch: &str| -> Vec<Value> {
            let lines = ok(&["score", "--model", text(&model), text(&data.join("test")), "--batch", batch]);
            lines.lines().map(|l| serde_json::from_str::<Value>(l).expect("JSON")["score"].clone()).collect()
        };
        let single = scored("1");
        assert!(["3", "8"].iter().all(|batch| scored(batch) == single), "{method}");
    }
}
