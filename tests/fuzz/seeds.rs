//! What random inputs are made from.

use std::collections::BTreeMap;

use half::f16;
use hotad_engine::container::{Contents, Stored, write};
use hotad_models::methods;
use rand::Rng;
use rand::seq::{IndexedMutRandom, IndexedRandom};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use crate::mutation::change;

/// A file of every kind.
pub fn containers() -> Vec<Vec<u8>> {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("seed");
    let file = |kind: &str| {
        let tensors = BTreeMap::from([
            ("a.weight".to_string(), Stored::F32(vec![2, 3], vec![0.5; 6])),
            ("bank".to_string(), Stored::F16(vec![4], vec![f16::ONE; 4])),
            ("empty".to_string(), Stored::F32(vec![0, 7], Vec::new())),
        ]);
        let meta = json!({"format": 1, "method": "paedid", "config": {"image_size": 32, "name": "a\"b\\c"}});
        write(&path, &Contents { kind: kind.into(), meta, tensors }).expect("a file");
        std::fs::read(&path).expect("what was written")
    };
    ["model", "checkpoint", "backbone"].map(file).to_vec()
}

/// Every method's number and default settings.
pub fn settings() -> Vec<Vec<u8>> {
    let text = |(number, method): (usize, &hotad_models::Registration)| {
        let line = |l: &&str| !l.is_empty() && !l.starts_with('#');
        let lines: Vec<String> = (method.documented)().lines().filter(line).map(String::from).collect();
        [&[number as u8], lines.join("\n").as_bytes()].concat()
    };
    methods().iter().enumerate().map(text).collect()
}

/// Values that settings go wrong with.
const VALUES: [&str; 36] = [
    "-1",
    "0",
    "1",
    "2",
    "3",
    "7",
    "8",
    "16",
    "32",
    "33",
    "1000",
    "65536",
    "2147483648",
    "4294967296",
    "9223372036854775807",
    "-9223372036854775808",
    "0.0",
    "0.5",
    "-0.5",
    "1.0",
    "1e-45",
    "1e39",
    "1e308",
    "inf",
    "nan",
    "true",
    "\"\"",
    "\"auto\"",
    "\"x\"",
    "[]",
    "[0]",
    "[8, 16]",
    "[9223372036854775807, 9223372036854775807]",
    "{}",
    "1979-05-27",
    "\"\\u0000\\n\"",
];

/// A method's settings, a few of them with other values; of some inputs the bytes are changed, too.
pub fn altered_settings(seeds: &[Vec<u8>], rng: &mut ChaCha8Rng) -> Vec<u8> {
    let seed = seeds.choose(rng).expect("some");
    let text = std::str::from_utf8(&seed[1..]).expect("settings are text");
    let mut lines: Vec<String> = text.lines().map(String::from).collect();
    for _ in 0..rng.random_range(1..=3) {
        let line = lines.choose_mut(rng).expect("every method has settings");
        let key = line.split('=').next().unwrap_or_default();
        *line = format!("{key}= {}", VALUES.choose(rng).expect("some"));
    }
    let mut bytes = [&seed[..1], lines.join("\n").as_bytes()].concat();
    if rng.random_range(0..4) == 0 {
        change(&mut bytes, seeds, rng);
    }
    bytes
}

/// Regions of interest.
pub fn regions() -> Vec<Vec<u8>> {
    let texts = [
        "box:1,2,30,40",
        "box:0,0,1,1;box:998,998,2,2",
        "polygon:1,2,3.5,4e1,0,99.999",
        "polygon:0,0,10,10,10,0,0,10;box:4,4,4,4",
        "polygon:1e-9,0,NaN,inf,-1,5",
        "box:4294967295,1,0,2",
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}

/// Names of all kinds of characters.
pub fn names() -> Vec<Vec<u8>> {
    let texts = [
        "plain.png",
        "folder/in folder/Bild_\u{df}.png",
        "new\nline.png",
        "\u{1b}[31m.png",
        "\u{202e}gnp.exe",
        "..",
        "/",
        "-q",
        "--help",
        "\"quoted\".png",
        "back\\slash\\x0a.png",
        "\u{9b}31m",
        "\u{1f600}.png",
        "tab\t.png",
        "a\r\nb",
    ];
    let mut names: Vec<Vec<u8>> = texts.iter().map(|t| t.as_bytes().to_vec()).collect();
    names.extend([b"\xff\xfe.png".to_vec(), b"cut \xf0\x9f\x98".to_vec(), vec![b'n'; 300]]);
    names
}
