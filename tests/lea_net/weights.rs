//! Weights of torchvision for a detector that sees the map.

use std::collections::BTreeMap;
use std::path::Path;

use hotad_engine::params::{Params, State};
use hotad_models::lea_net::{Config, Input, Networks};
use hotad_models::networks::{Classifier, import, resnet::ResNet};

use crate::common::{ok, refused, text};
use crate::{coloured_data, interrupt, lines};

/// Writes the weights of a fresh ResNet-18 as torchvision does; returns its first filters (OIHW).
fn write_weights(path: &Path, seed: u64) -> Vec<f32> {
    let (network, mut params) = (ResNet::resnet18(3, 64, 1), Params::default());
    network.init(&mut params, "", seed);
    let state = import::to_torchvision(&params.values().expect("on the host"), &network.layers()).expect("all tensors");
    let values: BTreeMap<&String, (&[usize], Vec<f32>)> =
        state.iter().map(|(name, t)| (name, (t.shape(), t.values().expect("on the host").into_owned()))).collect();
    let views = values.iter().map(|(name, (shape, values))| {
        let bytes = bytemuck::cast_slice(values);
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.to_vec(), bytes);
        (*name, view.expect("lengths fit"))
    });
    safetensors::serialize_to_file(views, None, path).expect("written");
    values[&"conv1.weight".to_string()].1.clone()
}

#[test]
fn first_filters_are_adapted_to_what_the_detector_sees() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("resnet18.safetensors");
    let theirs = write_weights(&path, 7);
    let stem = |input| -> Vec<f32> {
        let config = Config { input, image_size: 32, weights: text(&path).into(), ..Config::default() };
        let state: State = Networks::new(&config).known_weights(&config).expect("they fit");
        assert!(state.contains_key("layer4.1.conv2.weight"));
        state["conv1.weight"].values().expect("on the host").into_owned()
    };
    let pixels = 7 * 7;
    let (rgb, map, both) = (stem(Input::Rgb), stem(Input::Map), stem(Input::RgbMap));
    assert_eq!((rgb.len(), map.len(), both.len()), (64 * pixels * 3, 64 * pixels, 64 * pixels * 4));
    for at in 0..64 * pixels {
        let (filter, pixel) = (at / pixels, at % pixels);
        let of = |c: usize| theirs[(filter * 3 + c) * pixels + pixel];
        assert_eq!(rgb[3 * at..3 * at + 3], [of(0), of(1), of(2)]);
        assert_eq!(both[4 * at..4 * at + 4], [of(0), of(1), of(2), 0.0]);
        assert!((map[at] - (of(0) + of(1) + of(2))).abs() < 1e-6);
    }
    // The whole way, for rows that see the map.
    let data = dir.path().join("data");
    coloured_data(&data);
    let setting = format!("weights={}", text(&path));
    let rows = "rows=[\"map\", \"rgb+map\"]";
    let mut args = vec!["train", "lea-net", "--data", text(&data), "--cv", "2", "-q", "--epochs", "1"];
    for set in ["image_size=32", "color_width=4", "color_epochs=1", rows, &setting] {
        args.extend(["--set", set]);
    }
    let table = ok(&args);
    assert!(table.contains("AnomalyMap input") && table.contains("4ch input"), "{table}");
}

/// What a file holds decides whether a run is the same, not where it is.
#[cfg(unix)]
#[test]
fn a_run_is_of_the_weights_that_it_began_with() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = |name: &str| dir.path().join(name);
    let (data, model, own, copy) = (path("data"), path("m"), path("own.safetensors"), path("copy.safetensors"));
    coloured_data(&data);
    write_weights(&own, 7);
    write_weights(&copy, 7);
    let with = |weights: &Path, more: &[&str], run: &dyn Fn(&[&str])| {
        let weights = format!("weights={}", text(weights));
        let mut args = vec!["train", "lea-net", "--data", text(&data), "--out", text(&model), "-q"];
        for set in ["image_size=32", "color_width=4", "color_epochs=1", "map_parts=1", "attention=none", &weights] {
            args.extend(["--set", set]);
        }
        run(&[&args[..], more].concat());
    };
    let log = path("m.log.jsonl");
    with(&own, &["--epochs", "1000"], &|args| interrupt(args, || lines(&log) >= 1));
    let resumed = ["--epochs", "2", "--resume"];
    write_weights(&own, 8);
    with(&own, &resumed, &|args| refused(args, &["another run", "setting weights was", "SHA-256"]));
    with(&copy, &resumed, &|args| drop(ok(args)));
}
