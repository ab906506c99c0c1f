//! Folders of nasty names, links and empty files: they are listed or refused in one line, always the same, and it always ends.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use hotad_engine::data::Dataset;
use hotad_engine::data::collect::collect_images;
use rand::seq::IndexedRandom;
use rand::{Rng, RngCore};

/// Parts of names; some make folders of a layout, some are no text.
const PARTS: [&[u8]; 40] = [
    b"train",
    b"test",
    b"Test",
    b"good",
    b"GOOD",
    b"ground_truth",
    b"validation",
    b"positive",
    b"negative",
    b"crack",
    b"a.png",
    b"a.bmp",
    b"A.PNG",
    b"a_mask.png",
    b"b.png",
    b"b.jpg",
    b"a",
    b"a__a.png",
    b"a-2.png",
    b"..png",
    b".png",
    b".hidden",
    b"x.webp",
    b"Thumbs.db",
    b"\xff.png",
    b"\xfe.png",
    b"\xff_mask.png",
    b"\xff",
    b"new\nline.png",
    b"\x1b[31m.png",
    b"-",
    b"--help.png",
    b" ",
    b"a.png.png",
    b"logical_anomalies",
    b"structural_anomalies",
    b"defects_config.json",
    b"{}.png",
    b"\xc3\x9f.png",
    b"\xe2\x80\xae.png",
];

/// Bytes as choices; zeros after their end.
struct Choices<'a>(&'a [u8]);

impl RngCore for Choices<'_> {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.fill_bytes(&mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_bytes(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn fill_bytes(&mut self, to: &mut [u8]) {
        let (taken, rest) = self.0.split_at(to.len().min(self.0.len()));
        to.fill(0);
        to[..taken.len()].copy_from_slice(taken);
        self.0 = rest;
    }
}

/// Makes the folder that bytes choose and lists it; whether it is a data set.
pub fn check(bytes: &[u8]) -> bool {
    random(&mut Choices(bytes))
}

/// Makes a random folder and lists it; whether it is a data set.
pub fn random(rng: &mut impl Rng) -> bool {
    let dir = tempfile::tempdir().expect("a folder");
    // A link to what is above leads to a folder of this test still.
    let root = dir.path().join("root");
    std::fs::create_dir(&root).expect("a folder");
    fill(&root, rng);
    is_listed(&root)
}

/// Fills a folder with up to 40 entries; what cannot be made is left out.
fn fill(root: &Path, rng: &mut impl Rng) {
    let mut folders = vec![root.to_path_buf()];
    for _ in 0..rng.random_range(1..40) {
        let path = folders.choose(rng).expect("the root at least").join(name(rng));
        let made = match rng.random_range(0..10) {
            0..4 => std::fs::create_dir(&path).map(|()| folders.push(path)),
            4..8 => std::fs::OpenOptions::new().write(true).create_new(true).open(&path).map(drop),
            _ => link(&target(rng, &folders), &path),
        };
        drop(made);
    }
}

fn target(rng: &mut impl Rng, folders: &[PathBuf]) -> PathBuf {
    let near = [".", "..", "nowhere", "a.png", "../good"].map(PathBuf::from);
    if rng.random() { near.choose(rng) } else { folders.choose(rng) }.expect("some").clone()
}

#[cfg(unix)]
fn name(rng: &mut impl Rng) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    std::ffi::OsStr::from_bytes(PARTS.choose(rng).expect("some")).into()
}

#[cfg(not(unix))]
fn name(rng: &mut impl Rng) -> PathBuf {
    String::from_utf8_lossy(PARTS.choose(rng).expect("some")).into_owned().into()
}

#[cfg(unix)]
fn link(to: &Path, at: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(to, at)
}

#[cfg(not(unix))]
fn link(_: &Path, at: &Path) -> std::io::Result<()> {
    std::fs::write(at, "")
}

/// Lists a folder in both ways; whether it is a data set.
fn is_listed(root: &Path) -> bool {
    let collected = collect_images(&[root.into()]).expect("folders of ours can be read");
    let again = collect_images(&[root.into()]).expect("folders of ours can be read");
    assert_eq!(collected.images, again.images, "the same every time");
    let names: HashSet<String> = collected.images.iter().map(|(_, name)| name.to_lowercase()).collect();
    assert_eq!(names.len(), collected.images.len(), "every name once");
    assert!(!collected.images.iter().any(|(_, name)| name.contains(['/', '\n', '\x1b'])), "names of files");
    let data = Dataset::open(root);
    let items = data.iter().flat_map(|d| d.train.iter().chain(&d.validation).chain(&d.test));
    let files: Vec<&PathBuf> = items.map(|i| &i.path).collect();
    assert_eq!(files.iter().collect::<HashSet<_>>().len(), files.len(), "every image once");
    if let Err(error) = &data {
        assert!(!error.to_string().contains('\n'), "one line");
    }
    data.is_ok()
}
