//! Features: backbones of torchvision, components, whitening, the folded discriminator.

use std::path::{Path, PathBuf};

use hotad_engine::container::{Stored, store};
use hotad_engine::data::files::ImageFiles;
use hotad_engine::data::picture::{ImageSpec, Picture};
use hotad_engine::device::Device;
use hotad_engine::ops::Mode;
use hotad_engine::params::{Params, State};
use hotad_engine::random;
use hotad_engine::tensor::Tensor;
use hotad_models::autoencoder::{PatchAutoencoder, TrainedAutoencoder};
use hotad_models::features::backbone::Backbone;
use hotad_models::features::embedding::{Part, Reduction, Standard};
use hotad_models::features::pca::{Components, Covariance};
use hotad_models::features::settings::Layers;
use hotad_models::features::{Embedding, Extractor, Fusion, Source};
use hotad_models::method::LoadContext;
use hotad_models::methods;
use hotad_models::networks::layer::{Layer, Weights};
use hotad_models::networks::resnet::ResNet;
use hotad_models::simplenet::folded::Folded;
use hotad_models::simplenet::head::Head;
use rand::Rng;

use crate::common::{refused, small_data, text};
use crate::{auroc, devices, survives, train};

/// A file with the weights of some layers under torchvision's names, OIHW, drawn at random.
fn torchvision_file(path: &Path, layers: &[&Layer], more: &[&str]) {
    let mut rng = random::stream(3, "weights", 0);
    let mut state = State::new();
    let mut put = |name: String, shape: &[usize], around: f32, spread: f32| {
        let n = shape.iter().product();
        let values = (0..n).map(|_| around + spread * (rng.random::<f32>() - 0.5)).collect();
        state.insert(name, Tensor::new(values, shape).expect("lengths fit"));
    };
    for l in layers {
        let fan = l.from * l.kernel * l.kernel;
        put(format!("{}.weight", l.name), &[l.to, l.from, l.kernel, l.kernel], 0.0, 3.0 / (fan as f32).sqrt());
        let norm = l.norm.as_ref().expect("a ResNet's layers are normalised").name.clone();
        put(format!("{norm}.weight"), &[l.to], 1.0, 0.2);
        put(format!("{norm}.bias"), &[l.to], 0.0, 0.2);
        put(format!("{norm}.running_mean"), &[l.to], 0.0, 0.2);
        put(format!("{norm}.running_var"), &[l.to], 1.0, 0.2);
    }
    more.iter().for_each(|name| put((*name).into(), &[3], 0.0, 1.0));
    let stored = store(&state, "").expect("on the host");
    let views = stored.iter().map(|(k, t)| match t {
        Stored::F32(shape, v) => {
            let bytes = bytemuck::cast_slice(v);
            let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes);
            (k.clone(), view.expect("lengths fit"))
        }
        Stored::F16(..) => unreachable!("all are f32"),
    });
    safetensors::serialize_to_file(views, None, path).expect("a file");
}

#[test]
fn a_backbone_of_torchvision_gives_features_and_a_wrong_one_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    small_data(&dir.join("data"), 64);
    let resnet = ResNet::resnet18(3, 64, 1000).into_trunk();
    let whole = resnet.layers(resnet.len());
    let (right, extra, cut) = (dir.join("r18.safetensors"), dir.join("extra.safetensors"), dir.join("cut.safetensors"));
    torchvision_file(&right, &whole, &["fc.weight", "bn1.num_batches_tracked"]);
    torchvision_file(&extra, &whole, &["layer3.7.conv1.weight"]);
    torchvision_file(&cut, &resnet.layers(3), &[]);
    let backbone = format!("backbone={}", text(&right));
    let small = ["--set", "image_size=64", "--set", "blur=1"];
    let model = train(dir, "patchcore", &[&["--set", &backbone], &small[..], &["--set", "dimensions=200"]].concat());
    let (images, _) = auroc(dir, &model);
    // Random features tell cracks as well.
    assert!(images > 0.9, "patchcore on random features: {images}");
    survives(dir, &model, false);
    // Layers beyond the last cut are not kept.
    let whole = std::fs::metadata(&right).expect("a file").len();
    assert!(std::fs::metadata(&model).expect("a file").len() < whole / 2);
    let head = ["--set", "hidden=32", "--epochs", "1"];
    survives(dir, &train(dir, "simplenet", &[&["--set", &backbone], &small[..], &head].concat()), false);
    let (data, out) = (dir.join("data"), dir.join("x.safetensors"));
    for (file, words) in
        [(&extra, ["layer3.7.conv1.weight", "extra.safetensors"]), (&cut, ["layer3", "cut.safetensors"])]
    {
        let backbone = format!("backbone={}", text(file));
        refused(&["train", "patchcore", "--data", text(&data), "--out", text(&out), "--set", &backbone], &words);
    }
    let wide = ResNet::wide_resnet50(3, 64, 1000).into_trunk();
    let path = dir.join("wide.safetensors");
    torchvision_file(&path, &wide.layers(wide.len()), &[]);
    let usual = Layers::Word("auto".into());
    let (backbone, cuts) = Backbone::open(&path, Some(64.into()), &usual, &Device::CPU).expect("a Wide ResNet");
    let image = Tensor::new(vec![0.5; 64 * 64 * 3], &[1, 64, 64, 3]).expect("fits");
    let maps = backbone.maps(&image, &cuts).expect("maps");
    assert_eq!([maps[0].shape(), maps[1].shape()], [&[1, 8, 8, 512][..], &[1, 4, 4, 1024]]);
}

/// An embedding over a patch autoencoder with fresh weights.
fn embedding(device: &Device) -> Embedding {
    let image = ImageSpec { height: 32, width: 24, channels: 1 };
    let network = PatchAutoencoder::new(&[5, 7, 9], image);
    let params = network.init(3).to(device).expect("memory");
    let source = Source::Encoder(Box::new(TrainedAutoencoder::new(network, params).expect("all weights")));
    Embedding::new(vec![Part { source, cuts: vec![1, 2] }], image, 3, device).expect("shapes fit")
}

#[test]
fn a_folded_head_says_what_the_learned_one_says() {
    let dir = tempfile::tempdir().expect("a folder");
    small_data(dir.path(), 32);
    let paths: Vec<PathBuf> = (0..6).map(|i| dir.path().join(format!("train/good/{i:03}.png"))).collect();
    for device in devices::under_test() {
        for fusion in [None, Some(Fusion::Global), Some(Fusion::Individual)] {
            let mut embedding = embedding(&device);
            if let Some(fusion) = fusion {
                let whiten = fusion == Fusion::Global;
                let reduction = Reduction { fusion, keep: Components::Count(11), standardise: true, whiten };
                embedding.fit(ImageFiles::whole(&paths), reduction).expect("enough maps");
            }
            let d = embedding.dimensions();
            let head = Head::new(d, 20, fusion != Some(Fusion::Global));
            let mut params = Params::default();
            let mut rng = random::stream(8, "head", 0);
            head.layers().for_each(|l| l.init(&mut params, "", &mut rng));
            // Biases and statistics that are not the fresh ones.
            let mut state = params.values().expect("on the host");
            for (name, t) in state.iter_mut().filter(|(n, _)| !n.ends_with("weight") || n.contains("norm")) {
                let around = if name.ends_with("var") || name.ends_with("weight") { 1.0 } else { 0.0 };
                let values = (0..t.len()).map(|_| around + 0.5 * (rng.random::<f32>() - 0.5)).collect();
                *t = Tensor::new(values, t.shape()).expect("lengths fit");
            }
            params.set_values(&state).expect("the same shapes");
            let params = params.to(&device).expect("memory");
            let values = (0..2 * 32 * 24).map(|_| rng.random()).collect();
            let images = Tensor::new(values, &[2, 32, 24, 1]).expect("fits");
            let vectors = embedding.embed(&images).expect("shapes fit");
            let n = vectors.len() / d;
            let weights = Weights::Learned(&params, "", Mode::Eval);
            let rows = vectors.reshaped(&[1, 1, n, d]).expect("whole rows");
            let adapted = head.adapted(&weights, &rows).expect("shapes fit");
            let want = head.verdicts(&weights, &adapted).expect("shapes fit");
            let folded = Folded::of(&params, &head, &embedding).expect("all tensors");
            let got = folded.scores(&embedding.maps(&images).expect("maps"), &embedding).expect("shapes fit");
            for (g, w) in got.to_vec().expect("read").iter().zip(want.values().expect("read").iter()) {
                assert!((g + w).abs() < 2e-4, "{fusion:?} on {}: {g}, {} expected", device.name(), -w);
            }
        }
    }
}

#[test]
fn a_share_of_variance_keeps_as_few_maps_as_have_it() {
    let mut rng = random::stream(4, "pca", 0);
    let spread = [3.0f32, 0.1, 2.0, 0.2];
    let rows: Vec<f32> = (0..4000).map(|i| 5.0 + spread[i % 4] * random::normal(&mut rng)).collect();
    let mut covariance = Covariance::new(&Device::CPU);
    rows.chunks(400).for_each(|part| {
        covariance.add(&Tensor::new(part.to_vec(), &[100, 4]).expect("fits")).expect("rows of one length");
    });
    for (share, count) in [(0.6, 1), (0.95, 2), (0.998, 3), (1.0, 4)] {
        let pca = covariance.pca(Components::Share(share)).expect("enough");
        assert_eq!(pca.variance.len(), count, "{share}");
    }
    // The axes themselves, by falling variance.
    let pca = covariance.pca(Components::Count(2)).expect("enough");
    assert!(pca.components[0].abs() > 0.99 && pca.components[4 + 2].abs() > 0.99, "{:?}", pca.components);
    let error = covariance.pca(Components::Count(5)).expect_err("there are four").to_string();
    assert!(error.contains('5') && error.contains('4'), "{error}");
}

#[test]
fn whitened_maps_have_one_variance_and_member_maps_follow_them() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    small_data(&dir.join("data"), 32);
    let quick = ["--set", "image_size=32", "--set", "network=[8, 16]", "--set", "steps=10", "--epochs", "3"];
    let paedid = train(dir, "paedid", &quick);
    let paths: Vec<PathBuf> = (0..24).map(|i| dir.join(format!("data/train/good/{i:03}.png"))).collect();
    let usual = Layers::Word("auto".into());
    let reading = LoadContext { device: &Device::CPU, methods: methods() };
    let (source, cuts) = Source::read(&paedid, None, &usual, &reading).expect("a member");
    let image = source.extractor().image();
    let mut embedding = Embedding::new(vec![Part { source, cuts }], image, 1, &Device::CPU).expect("fits");
    let reduction =
        Reduction { fusion: Fusion::Global, keep: Components::Share(0.99), standardise: true, whiten: true };
    embedding.fit(ImageFiles::whole(&paths), reduction).expect("fitted");
    let d = embedding.dimensions();
    let mut rows: Vec<Vec<f64>> = Vec::new();
    let each = embedding.for_each(ImageFiles::whole(&paths), |x| {
        rows.extend(x.values()?.chunks_exact(d).map(|r| r.iter().map(|v| f64::from(*v)).collect()));
        Ok(())
    });
    each.expect("read");
    let n = rows.len() as f64;
    let mean: Vec<f64> = (0..d).map(|k| rows.iter().map(|r| r[k]).sum::<f64>() / n).collect();
    for i in 0..d {
        for j in 0..=i {
            let covariance = rows.iter().map(|r| (r[i] - mean[i]) * (r[j] - mean[j])).sum::<f64>() / (n - 1.0);
            // A little less than 1: eps is added to every variance.
            let right = if i == j { (0.5..1.001).contains(&covariance) } else { covariance.abs() < 1e-2 };
            assert!(right, "{i} {j} of {d}: {covariance}");
        }
    }
    let picture = Picture::read(&paths[3]).expect("a picture").fit(image).expect("fits");
    let images = Tensor::new(picture.values, &[1, image.height, image.width, image.channels]).expect("fits");
    let before = embedding.embed(&images).expect("embedded");
    let mut raw = Vec::new();
    embedding.for_each_member_map(ImageFiles::whole(&paths[3..4]), |_, map| raw.extend_from_slice(map)).expect("a map");
    embedding.add_member_maps(vec![Some(Standard { mean: 0.25, deviation: 0.5 })]).expect("memory");
    assert_eq!(embedding.dimensions(), d + 1);
    let (after, before) = (embedding.embed(&images).expect("embedded"), before.values().expect("read"));
    for (at, row) in after.values().expect("read").chunks_exact(d + 1).enumerate() {
        assert!(row[..d].iter().zip(&before[at * d..]).all(|(a, b)| (a - b).abs() < 1e-4), "{at}");
        assert!((row[d] - (raw[at] - 0.25) / 0.5).abs() < 1e-5, "{at}: {} of {}", row[d], raw[at]);
    }
}
