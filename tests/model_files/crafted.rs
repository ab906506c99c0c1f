//! Models of every method with altered settings, thresholds and tensors and a right digest. `HOTAD_FUZZ_CASES` sets how
//! many in all.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use hotad_engine::container::Stored;
use hotad_engine::device::Device;
use hotad_engine::model_file::ModelFile;
use hotad_engine::random;
use hotad_engine::tensor::Tensor;
use hotad_models::model::Model;
use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::{MEMORY, MODELS};

/// Cases without `HOTAD_FUZZ_CASES`.
const CASES: u64 = 6_000;

/// Most memory that reading a file may take, in bytes; the files are below 4 MB.
const MOST: usize = 256 << 20;

/// Longest that reading a file may take.
const LONGEST: Duration = Duration::from_secs(5);

/// Settings that make scoring long, as `--set` may too; without any, defaults do.
const LONG: [&str; 5] = ["steps", "test_steps", "test_iterations", "rounds", "/settings"];

/// Values that arithmetic and indices go wrong with.
fn nasty(rng: &mut ChaCha8Rng) -> Value {
    let all = [
        json!(null),
        json!(true),
        json!(""),
        json!("auto"),
        json!("x"),
        json!([]),
        json!({}),
        json!(-1),
        json!(0),
        json!(1),
        json!(2),
        json!(3),
        json!(7),
        json!(33),
        json!(1000),
        json!(1 << 20),
        json!(1_u64 << 31),
        json!(1_u64 << 32),
        json!(1_u64 << 40),
        json!(i64::MAX),
        json!(u64::MAX),
        json!(0.5),
        json!(-0.5),
        json!(1e-45),
        json!(1e-30),
        json!(1e30),
        json!(1e39),
        json!(1e300),
        json!([0, 0, 0]),
        json!([1, u64::MAX]),
        json!(["block4", "block4"]),
    ];
    all.choose(rng).expect("some").clone()
}

/// Paths of all values within a value.
fn paths(value: &Value, at: &str, all: &mut Vec<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, inner)| paths(inner, &format!("{at}/{key}"), all)),
        Value::Array(items) => {
            items.iter().enumerate().take(40).for_each(|(i, inner)| paths(inner, &format!("{at}/{i}"), all));
        }
        _ => {}
    }
    if !at.is_empty() {
        all.push(at.into());
    }
}

/// Changes one value; returns its path.
fn alter(value: &mut Value, rng: &mut ChaCha8Rng) -> String {
    let mut all = Vec::new();
    paths(value, "", &mut all);
    let path = all.choose(rng).expect("some").clone();
    let place = value.pointer_mut(&path).expect("a path of it");
    let own = place.clone();
    *place = match (own, rng.random_range(0..6)) {
        (Value::Number(n), 0) => json!(n.as_f64().unwrap_or(0.0) * 2.0),
        (Value::Number(n), 1) => json!(n.as_u64().unwrap_or(0).wrapping_add(1)),
        (Value::Number(n), 2) => json!(-n.as_f64().unwrap_or(0.0)),
        (Value::Array(mut items), 0) if !items.is_empty() => {
            items.pop();
            json!(items)
        }
        (Value::Array(mut items), 1) if !items.is_empty() => {
            items.push(items[0].clone());
            json!(items)
        }
        (Value::Array(mut items), 2) => {
            items.reverse();
            json!(items)
        }
        (Value::Object(mut map), 0 | 1) if !map.is_empty() => {
            let key = map.keys().nth(rng.random_range(0..map.len())).expect("a key").clone();
            map.remove(&key);
            json!(map)
        }
        _ => nasty(rng),
    };
    path
}

/// Changes a tensor: its shape, type or name, or takes it away.
fn alter_tensor(tensors: &mut BTreeMap<String, Stored>, rng: &mut ChaCha8Rng) -> String {
    let names: Vec<String> = tensors.keys().cloned().collect();
    let name = names.choose(rng).expect("some").clone();
    let tensor = tensors.remove(&name).expect("of its names");
    let mut shape = tensor.shape().to_vec();
    match rng.random_range(0..6) {
        0 => return name,
        1 => shape.reverse(),
        2 => shape.push(1),
        3 => shape = vec![shape.iter().product()],
        _ => {}
    }
    let changed = match (tensor, rng.random_range(0..4)) {
        (Stored::F32(_, v), 0) => Stored::F16(shape, v.into_iter().map(half::f16::from_f32).collect()),
        (Stored::F16(_, v), 0) => Stored::F32(shape, v.into_iter().map(half::f16::to_f32).collect()),
        (Stored::F32(..), 1) => Stored::F32(vec![0], Vec::new()),
        (Stored::F32(..), 2) => Stored::F32(vec![1], vec![1.0]),
        (Stored::F32(_, v), _) => Stored::F32(shape, v.into_iter().map(|x| x * 1e30).collect()),
        (Stored::F16(_, v), _) => Stored::F16(shape, v),
    };
    tensors.insert(if rng.random_range(0..4) == 0 { format!("{name}x") } else { name.clone() }, changed);
    name
}

/// Alters a model file in one to three places; returns where. Some changes make a file that no header can say.
fn altered(file: &ModelFile, rng: &mut ChaCha8Rng) -> Option<(ModelFile, Vec<String>)> {
    let mut changed = file.clone();
    let mut places = Vec::new();
    for _ in 0..rng.random_range(1..=3) {
        let place = match rng.random_range(0..10) {
            0 => {
                let mut image = serde_json::to_value(changed.image).expect("plain data");
                let place = alter(&mut image, rng);
                changed.image = serde_json::from_value(image).ok()?;
                format!("/image{place}")
            }
            1 => {
                let mut calibration = serde_json::to_value(&changed.calibration).expect("plain data");
                let place = alter(&mut calibration, rng);
                changed.calibration = serde_json::from_value(calibration).ok()?;
                format!("/calibration{place}")
            }
            2 if !changed.tensors.is_empty() => alter_tensor(&mut changed.tensors, rng),
            _ => alter(&mut changed.config, rng),
        };
        places.push(place);
    }
    Some((changed, places))
}

/// Reads an altered model and, where it is accepted, scores a gray image with it.
fn tried(file: &ModelFile, places: &[String]) -> Result<(), String> {
    let model = Model::of_file(file, &Device::CPU).map_err(|e| e.to_string())?;
    let spec = model.detector.image();
    let long = places.iter().any(|p| LONG.iter().any(|key| p.ends_with(key)));
    if long || spec.height > 256 || spec.width > 256 {
        return Ok(());
    }
    let image = Tensor::new(vec![0.5; spec.len()], &[1, spec.height, spec.width, spec.channels]).expect("lengths fit");
    let scores = model.score(&image).map_err(|e| e.to_string())?;
    let calibrated = scores.iter().map(|s| model.calibration.calibrated(s.value));
    assert!(calibrated.count() == 1);
    Ok(())
}

#[test]
fn crafted_models_neither_panic_nor_take_memory_nor_time() {
    let cases =
        std::env::var("HOTAD_FUZZ_CASES").ok().map_or(CASES, |v| v.parse().expect("HOTAD_FUZZ_CASES is a number"));
    let (mut refused, mut failures) = (0_u64, Vec::new());
    let (mut peak, mut slowest) = (0, Duration::ZERO);
    for case in 0..cases {
        let (name, file) = &MODELS[case as usize % MODELS.len()];
        let mut rng = random::stream(11, "crafted model", case);
        let Some((file, places)) = altered(file, &mut rng) else {
            refused += 1;
            continue;
        };
        MEMORY.reset_peak_usage();
        let (before, started) = (MEMORY.current_usage(), Instant::now());
        let outcome = catch_unwind(AssertUnwindSafe(|| tried(&file, &places)));
        let (taken, time) = (MEMORY.peak_usage().saturating_sub(before), started.elapsed());
        let wrong = match &outcome {
            Err(_) => Some("a panic".to_string()),
            Ok(_) if taken > MOST => Some(format!("{} MB", taken >> 20)),
            Ok(_) if time > LONGEST => Some(format!("{} s", time.as_secs())),
            Ok(Err(line)) if line.contains('\n') || line.len() > 2000 => Some(format!("a long message: {line}")),
            Ok(_) => None,
        };
        if let Some(wrong) = wrong {
            failures.push(format!("case {case} ({name}, {}): {wrong}", places.join(" ")));
        }
        refused += u64::from(matches!(outcome, Ok(Err(_))));
        (peak, slowest) = (peak.max(taken), slowest.max(time));
    }
    println!("{cases} crafted models, {refused} refused, at most {} MB and {} ms", peak >> 20, slowest.as_millis());
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    assert!(refused > cases / 4 && refused < cases, "{refused} of {cases} crafted models were refused");
}

/// Model, place of a setting, what an attacker puts there, and words of the line that says so.
const OUT_OF_RANGE: [(&str, &str, &str, &[&str]); 46] = [
    ("paedid", "/settings/network", "[0]", &["network", "1 to 6 widths"]),
    ("paedid", "/settings/network", "[]", &["network", "1 to 6 widths"]),
    ("paedid", "/settings/network", "[1099511627776]", &["network", "1 to 6 widths"]),
    ("paedid", "/settings/image_size", "1099511627776", &["image_size", "16 to 1024"]),
    ("paedid", "/settings/image_size", "64", &["images of 32 x 32", "image_size = 64"]),
    ("paedid", "/settings/score_blur", "1e9", &["score_blur", "0 to 20"]),
    ("paedid", "/settings/steps", "4000000000", &["steps", "1 to 10000"]),
    ("paedid", "/alpha", "7.5", &["alpha", "0 to 1"]),
    ("paedid", "/lambda", "-1.0", &["lambda", "above 0"]),
    ("paedid", "/similar", "2.5", &["how many images are searched"]),
    ("paedid", "/similar", "-1.0", &["how many images are searched"]),
    ("paedid", "/score", "\"auto\"", &["a score that is not chosen"]),
    ("paedid", "/settings/reach", "1099511627776", &["reach", "0 to 1024"]),
    ("paedid", "/settings/shrink", "1.0", &["shrink", "below 1"]),
    ("paedid", "/settings/top_share", "0.0", &["top_share", "above 0"]),
    ("paedid", "/entries", "[\"one\"]", &["bank"]),
    ("l2-ae", "/settings/image_size", "64", &["image_size", "128, 256 or 512"]),
    ("l2-ae", "/settings/latent", "0", &["latent", "1 to 4096"]),
    ("l2-ae", "/settings/latent", "4096", &["encoder.8"]),
    ("anogan", "/settings/test_steps", "100000", &["test_steps", "1 to 10000"]),
    ("mem-ae", "/settings/slots", "0", &["slots"]),
    ("rasl", "/settings/inset", "9223372036854775808", &["inset", "quarter"]),
    ("i3ad", "/settings/patches", "0", &["patches", "2 to 12"]),
    ("i3ad", "/settings/width", "1048576", &["width", "8 to 256"]),
    ("i3ad", "/settings/test_iterations", "4000000000", &["test_iterations", "0 to 1000"]),
    ("i3ad", "/u", "0.0", &["u = 0", "above 0"]),
    ("paedid-i3ad", "/decomposition/steps", "0", &["steps", "1 to 10000"]),
    ("color-unet", "/settings/score_quantile", "7.0", &["score_quantile", "1 at most"]),
    ("color-unet", "/settings/image_size", "33", &["image_size"]),
    ("lea-net", "/settings/point", "9", &["point", "1 to 5"]),
    ("color-unet", "/unit", "0.0", &["a unit of maps of 0"]),
    ("color-unet", "/unit", "1e39", &["a unit of maps of inf"]),
    ("color-unet", "/unit", "null", &["maps without a unit", "train it again"]),
    ("lea-net", "/settings/width", "0", &["width", "4 to 256"]),
    ("lea-net", "/guide/unit", "-1.0", &["a unit of maps of -1"]),
    ("lea-net", "/guide", "null", &["the guide", "train it again"]),
    ("guided", "/guide/scale/one", "-1e30", &["the guide's scale"]),
    ("guided", "/guide/member/method", "\"psychic\"", &["paedid within the model file", "psychic"]),
    ("patchcore", "/embedding/cuts", "[[99]]", &["cuts [99]"]),
    ("patchcore", "/embedding/neighbourhood", "1000001", &["neighbourhood", "1, 3, 5, 7 or 9"]),
    ("patchcore", "/bank/radius", "-1.0", &["memory bank", "radius of -1"]),
    ("patchcore", "/bank/radius", "1e39", &["memory bank", "radius of inf"]),
    ("encoder", "/embedding/sources/0/widths", "[16, 1099511627776]", &["network", "1 to 6 widths"]),
    ("encoder", "/embedding/sources/0/image/height", "1099511627776", &["1099511627776 x 32 x 3", "out of range"]),
    ("simplenet", "/settings/blur", "1e9", &["blur"]),
    ("scores", "/members/1/1/images/quantiles", "[]", &["scale"]),
];

#[test]
fn settings_of_a_file_pass_the_checks_of_the_command_line() {
    let models: BTreeMap<&str, &ModelFile> = MODELS.iter().map(|(name, file)| (*name, file)).collect();
    let refusal = |file: &ModelFile| Model::of_file(file, &Device::CPU).err().map(|e| e.to_string());
    for (name, place, value, words) in OUT_OF_RANGE {
        let mut file: ModelFile = models[name].clone();
        *file.config.pointer_mut(place).expect(place) = serde_json::from_str(value).expect("JSON");
        let line = refusal(&file).unwrap_or_else(|| panic!("{name} with {place} = {value} is accepted"));
        for word in words {
            assert!(line.contains(word), "{name} with {place} = {value}: {word:?} is not in {line:?}");
        }
    }
    let mut file = models["paedid"].clone();
    file.tensors.insert("spread.deviation".into(), Stored::F32(vec![64], vec![0.0; 64]));
    assert!(refusal(&file).expect("refused").contains("a deviation of distances of 0"));
    let with = |change: &dyn Fn(&mut ModelFile)| {
        let mut file = models["pae"].clone();
        change(&mut file);
        refusal(&file).expect("refused")
    };
    assert!(with(&|f| f.image.channels = 7).contains("32 x 32 x 7"));
    assert!(with(&|f| f.image.height = 1 << 40).contains("out of range"));
    assert!(with(&|f| f.calibration.image_threshold = f32::NAN).contains("image_threshold is not finite"));
    assert!(with(&|f| f.calibration.score_quantiles.truncate(7)).contains("7 quantiles"));
    assert!(with(&|f| f.method = "psychic".into()).contains("psychic"));
}
