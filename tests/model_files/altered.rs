//! Files of which a bit has changed, and files of other formats.

use std::path::Path;

use hotad_engine::container::read_bytes;
use hotad_engine::model_file::ModelFile;

use crate::common::{QUICK, ok, small_data, text, train_small};

/// Every bit of the header, and one in each page of the tensors.
fn positions(bytes: &[u8]) -> Vec<(usize, u8)> {
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    let pages = (header..bytes.len()).step_by(4096).map(|at| (at, (at / 4096 % 8) as u8));
    (0..header).flat_map(|at| (0..8).map(move |bit| (at, bit))).chain(pages).collect()
}

fn refusal(path: &Path) -> String {
    ModelFile::load(path).expect_err("a damaged file is refused").to_string()
}

#[test]
fn every_flipped_bit_is_noticed() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = (dir.path().join("data"), dir.path().join("m.safetensors"));
    small_data(&data, 32);
    train_small(&data, &model, &["--epochs", "1"]);
    let mut bytes = std::fs::read(&model).expect("a model");
    ModelFile::load(&model).expect("it is good before");
    let path = dir.path().join("flipped.safetensors");
    let (mut count, total) = (0, bytes.len());
    for (at, bit) in positions(&bytes) {
        bytes[at] ^= 1 << bit;
        let line = read_bytes(&bytes, &path, "model").expect_err("a flipped bit is noticed").to_string();
        assert!(line.starts_with(text(&path)) && !line.contains('\n'), "{line:?}");
        bytes[at] ^= 1 << bit;
        count += 1;
    }
    println!("{count} flipped bits of a file of {total} bytes, all noticed");
    for cut in [0, 7, 8, 100, total / 2, total - 1] {
        std::fs::write(&path, &bytes[..cut]).expect("written");
        refusal(&path);
    }
    bytes.push(0);
    std::fs::write(&path, &bytes).expect("written");
    refusal(&path);
}

#[test]
fn files_of_other_formats_are_told_apart() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = (dir.path().join("data"), dir.path().join("m.safetensors"));
    small_data(&data, 32);
    ok(&[&["train", "paedid", "--data", text(&data), "--out", text(&model), "-q", "--epochs", "1"], &QUICK[..]]
        .concat());
    let bytes = std::fs::read(&model).expect("a model");
    let header =
        String::from_utf8(bytes.clone().into_iter().skip(8).take_while(|b| b.is_ascii()).collect()).expect("text");
    let path = dir.path().join("other.safetensors");
    let with = |from: &str, to: &str| {
        assert!(header.contains(from), "{header}");
        assert_eq!(from.len(), to.len());
        let at = header.find(from).expect("found") + 8;
        let mut other = bytes.clone();
        other[at..at + to.len()].copy_from_slice(to.as_bytes());
        std::fs::write(&path, other).expect("written");
        refusal(&path)
    };
    let newer = with(r#"\"container\":2"#, r#"\"container\":9"#);
    assert!(newer.contains("format 9 is newer") && newer.contains("update hotad"), "{newer}");
    let former = with(r#"\"container\":2"#, r#"\"kontainer\":2"#);
    assert!(former.contains("earlier hotad"), "{former}");
    let kind = with(r#"\"kind\":\"model\""#, r#"\"kind\":\"other\""#);
    assert!(kind.contains("this is a other"), "{kind}");
}

#[test]
fn weights_that_are_no_numbers_are_named() {
    use hotad_engine::container::Stored;
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = (dir.path().join("data"), dir.path().join("m.safetensors"));
    small_data(&data, 32);
    train_small(&data, &model, &["--epochs", "1"]);
    let mut file = ModelFile::load(&model).expect("a model");
    let Some(Stored::F32(_, values)) = file.tensors.get_mut("network.encoder.0.weight") else { panic!("a weight") };
    values[3] = f32::NAN;
    file.save(&model).expect("saved, with a right digest");
    let line = refusal(&model);
    assert!(line.contains("network.encoder.0.weight") && line.contains("not finite"), "{line}");
}
