//! The maps that attention learns from, and their scale.

use std::path::{Path, PathBuf};

use hotad_engine::data::files::ImageFiles;
use hotad_engine::data::picture::Picture;
use hotad_engine::device::Device;
use hotad_engine::model_file::ModelFile;
use hotad_engine::random;
use hotad_engine::tensor::Tensor;
use hotad_models::fit::FitContext;
use hotad_models::lea_net::{Config, Guide, Labelled, Material};
use hotad_models::methods;
use hotad_models::model::Model;
use rand::Rng;

use crate::common::{ok, refused, text};
use crate::{bands, coloured_data, json};

const SIZE: usize = 32;

/// Pictures whose colours nothing foretells: a network can only learn them by heart.
fn arbitrary(folder: &Path, count: u64) -> Vec<PathBuf> {
    let write = |i| {
        let mut rng = random::stream(4, "arbitrary", i);
        let (rate, shift) = (rng.random_range(0.2..0.9f32), rng.random_range(0.0..6.0f32));
        let colour: [f32; 3] = std::array::from_fn(|_| rng.random_range(0.2..1.0));
        let light = |p: usize| 0.5 + 0.3 * (rate * (p % SIZE) as f32 + shift).sin();
        let values = (0..SIZE * SIZE).flat_map(|p| colour.map(|c| c * light(p))).collect();
        let path = folder.join(format!("{i}.png"));
        Picture { height: SIZE, width: SIZE, channels: 3, values }.write_png(&path).expect("a picture");
        path
    };
    (0..count).map(write).collect()
}

/// A colour network's maps of what it has learned by heart are clean; a network that has not seen an image makes a map as of
/// any new image.
#[test]
fn maps_of_training_images_are_by_networks_that_have_not_seen_them() {
    let dir = tempfile::tempdir().expect("a folder");
    let paths = arbitrary(dir.path(), 12);
    let (images, groups) = (ImageFiles::whole(&paths), (0..12).collect::<Vec<usize>>());
    let none = ImageFiles::whole(&[]);
    // Without images to watch, the network that fits the training images best is kept.
    let context = FitContext {
        train: images,
        defective: none,
        holdout: none,
        groups: &groups,
        gray: false,
        members: &[],
        device: &Device::CPU,
        methods: methods(),
        seed: 0,
        chosen: &serde_json::Map::new(),
        model_path: None,
        stage: None,
        resume: false,
        init: None,
        observer: &(),
    };
    let mean = |map_parts| {
        let config = Config {
            image_size: SIZE,
            color_width: 8,
            color_epochs: 150,
            color_lr: 5e-3,
            batch: 6,
            fancy_pca: 0.0,
            map_parts,
            ..Config::default()
        };
        let material = Material { images, labels: vec![0.0; 12], groups: &groups };
        let (guide, labelled): (Guide, Labelled) = material.guided(&config, &context).expect("trained");
        assert!(guide.colour().is_some() && labelled.maps.len() == 12);
        let all: Vec<f32> = labelled.maps.concat();
        assert!(all.len() == 12 * SIZE * SIZE && all.iter().all(|v| (0.0..=1.0).contains(v)));
        all.iter().sum::<f32>() / all.len() as f32
    };
    let (seen, halves, thirds) = (mean(1), mean(2), mean(3));
    assert!(
        halves > 2.0 * seen && thirds > 2.0 * seen,
        "{seen} of images that were seen, {halves} and {thirds} of others"
    );
}

#[test]
fn images_of_one_group_are_in_one_part() {
    let dir = tempfile::tempdir().expect("a folder");
    let data = dir.path().join("data");
    coloured_data(&data);
    // Normal images of two parts: the first is held out, and one is left to learn from.
    let (out, groups) = (dir.path().join("m"), dir.path().join("groups.csv"));
    let normal = (0..24).map(|i| format!("good/{i:03}.png,{}\n", if i == 0 { "first" } else { "others" }));
    let stained = (0..10).map(|i| format!("stain/{i:03}.png,stain {i}\n"));
    std::fs::write(&groups, normal.chain(stained).collect::<String>()).expect("written");
    let args = ["train", "lea-net", "--data", text(&data), "--out", text(&out), "--group", text(&groups)];
    refused(&args, &["map_parts = 2", "too few groups", "map_parts = 1"]);
    assert!(!dir.path().join("m.color.log.jsonl").exists(), "colours are learned before the parts are looked at");
}

/// 1 in a map is what one in a thousand pixels of held-out normal images exceeds.
#[test]
fn maps_are_on_the_scale_of_held_out_images() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = (dir.path().join("data"), dir.path().join("m.safetensors"));
    coloured_data(&data);
    let held = data.join("validation/good");
    std::fs::create_dir_all(&held).expect("a folder");
    for i in 0..6 {
        bands(400 + i, false).write_png(&held.join(format!("{i:03}.png"))).expect("a picture");
    }
    let unit = |method: &str, place: &str, settings: &[&str]| -> (Model, f64) {
        let mut args = vec!["train", method, "--data", text(&data), "--out", text(&model), "-q", "--force"];
        args.extend(["--batch", "8", "--epochs", "2", "--set", "image_size=32", "--set", "width=8"]);
        settings.iter().for_each(|s| args.extend(["--set", s]));
        ok(&args);
        let unit = ModelFile::load(&model).expect("a model").config.pointer(place).and_then(|v| v.as_f64());
        (Model::load(&model, &Device::CPU).expect("a model"), unit.expect("a unit"))
    };
    let maps = |model: &Model, picture: Picture| {
        let values = picture.resized(32, 32).expect("a size").values;
        let images = Tensor::new(values, &[1, 32, 32, 3]).expect("lengths fit");
        model.score(&images).expect("scored").remove(0).map.values.into_vec()
    };
    let lea = ["color_width=8", "color_epochs=2", "color_lr=1e-3", "map_parts=1"];
    let (colour, unit_of_colour) = unit("color-unet", "/unit", &[]);
    let (lea, unit_of_lea) = unit("lea-net", "/guide/unit", &lea);
    assert_eq!(unit_of_colour, unit_of_lea, "one network, one scale");
    for model in [&colour, &lea] {
        let normal: Vec<f32> = (0..6).flat_map(|i| maps(model, bands(400 + i, false))).collect();
        let above = normal.iter().filter(|v| **v > 1.0).count() as f64 / normal.len() as f64;
        assert!(above <= 0.001, "{above} of the normal pixels are above 1");
        assert!(normal.iter().any(|v| *v >= 1.0 - 1e-4), "none reaches 1");
        let stained = maps(model, bands(200, true));
        assert!(stained.iter().any(|v| *v > 1.0), "larger differences are told apart");
    }
    // An image's own scale does not ask for it.
    let (own, same) = unit("color-unet", "/unit", &["map_scale=image"]);
    assert_eq!(same, unit_of_colour);
    assert!(maps(&own, bands(200, true)).iter().all(|v| *v <= 1.0));
    let info = json(&ok(&["info", text(&model), "--json"]));
    assert_eq!(info["config"]["unit"].as_f64(), Some(same));
}
