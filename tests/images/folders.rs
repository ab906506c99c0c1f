//! Folders as users have them: links, pipes, files of the system, other layouts, names that are no text.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use hotad_engine::data::collect::collect_images;
use hotad_engine::data::{Dataset, Item, Layout};

use crate::common::{bars, hotad, refused, small_data, text, train_small};

/// Makes an image with its folders.
pub fn image(path: &Path) -> PathBuf {
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
    bars(16, 0).write_png(path).expect("a picture");
    path.into()
}

/// An image by that name, whatever its ending.
fn named(path: &Path) {
    std::fs::copy(image(&path.with_extension("tmp.png")), path).expect("a copy");
    std::fs::remove_file(path.with_extension("tmp.png")).expect("removed");
}

fn open(root: &Path) -> Dataset {
    Dataset::open(root).expect("a data set")
}

fn refusal(root: &Path) -> String {
    Dataset::open(root).expect_err("no data set").to_string()
}

/// Paths of items below a folder.
fn paths(root: &Path, items: &[Item]) -> Vec<String> {
    let below = |i: &Item| i.path.strip_prefix(root).expect("below").to_string_lossy().replace('\\', "/");
    items.iter().map(below).collect()
}

fn names(folder: &Path) -> Vec<String> {
    collect_images(&[folder.into()]).expect("images").images.into_iter().map(|(_, name)| name).collect()
}

#[cfg(unix)]
fn link(to: &str, at: &Path) {
    std::fs::create_dir_all(at.parent().expect("a parent")).expect("folders");
    std::os::unix::fs::symlink(to, at).expect("a link");
}

#[cfg(unix)]
#[test]
fn pipes_and_devices_are_not_waited_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = (dir.path().join("data"), dir.path().join("m.safetensors"));
    small_data(&data, 40);
    train_small(&data, &model, &["--epochs", "1"]);
    let pipe = data.join("train/good/pipe.png");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs");
    assert!(made.success());
    for path in [pipe.as_path(), Path::new("/dev/zero")] {
        refused(&["score", "--model", text(&model), text(path)], &[text(path), "not a regular file"]);
    }
    link("/nowhere.png", &data.join("train/good/broken.png"));
    let warnings = open(&data).warnings;
    assert!(warnings.len() == 1 && warnings[0].contains("2 files left out") && warnings[0].contains("broken.png"));
    assert_eq!(open(&data).train.len(), 24);
}

#[cfg(unix)]
#[test]
fn every_real_folder_is_searched_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let root = dir.path();
    image(&root.join("a.png"));
    image(&root.join("real/b.png"));
    link(".", &root.join("here"));
    link("..", &root.join("real/above"));
    link("real", &root.join("alias"));
    assert_eq!(names(root), ["a", "real__b"]);
    let both = collect_images(&[root.into(), root.join("alias")]).expect("images").images;
    assert_eq!(both.len(), 2);
    // A kind that is a link to the good images is not a kind of defect.
    for file in ["train/good/0.png", "test/good/1.png", "test/crack/2.png"] {
        image(&root.join("set").join(file));
    }
    link("good", &root.join("set/test/all"));
    link(".", &root.join("set/test/again"));
    assert_eq!(paths(&root.join("set"), &open(&root.join("set")).test), ["test/crack/2.png", "test/good/1.png"]);
}

#[test]
fn files_of_the_system_are_passed_over() {
    let dir = tempfile::tempdir().expect("a folder");
    small_data(dir.path(), 24);
    for folder in ["", "train", "train/good", "test", "test/crack", "ground_truth", "ground_truth/crack"] {
        for name in [".DS_Store", "Thumbs.db", "desktop.ini", "._000.png", ".hidden.png"] {
            std::fs::write(dir.path().join(folder).join(name), "of the system").expect("written");
        }
        image(&dir.path().join(folder).join(".cache/x.png"));
    }
    let data = open(dir.path());
    assert_eq!((data.train.len(), data.test.len(), data.warnings.len()), (24, 8, 0));
    assert!(data.missing_masks().is_none());
    assert_eq!(collect_images(&[dir.path().into()]).expect("images").images.len(), 36);
}

#[test]
fn the_case_of_folders_does_not_count() {
    let dir = tempfile::tempdir().expect("a folder");
    let root = dir.path();
    for file in ["Train/Good/0.png", "TEST/Good/1.png", "TEST/Crack/2.png", "Ground_Truth/crack/2_mask.PNG"] {
        named(&root.join(file));
    }
    let data = open(root);
    assert_eq!(paths(root, &data.train), ["Train/Good/0.png"]);
    let good: Vec<&Item> = data.test.iter().filter(|i| !i.defective).collect();
    assert!(good.len() == 1 && good[0].kind == "good", "{good:?}");
    assert!(data.missing_masks().is_none());
}

#[test]
fn other_types_of_images_are_said() {
    let dir = tempfile::tempdir().expect("a folder");
    image(&dir.path().join("a.png"));
    std::fs::write(dir.path().join("notes.txt"), "x").expect("written");
    assert!(open(dir.path()).warnings.is_empty());
    for name in ["b.webp", "c.GIF", "d.heic"] {
        std::fs::write(dir.path().join(name), "x").expect("written");
    }
    for warnings in [open(dir.path()).warnings, collect_images(&[dir.path().into()]).expect("images").warnings()] {
        assert!(
            warnings.len() == 1 && warnings[0].contains("3 files") && warnings[0].contains("b.webp"),
            "{warnings:?}"
        );
    }
    let out = dir.path().join("synth");
    let output = hotad(&["synth", "--from", text(dir.path()), "--out", text(&out), "--count", "1"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(stderr.lines().filter(|l| l.starts_with("hotad: warning: 3 files left out")).count(), 1, "{stderr}");
}

#[test]
fn an_image_without_a_mask_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = (dir.path().join("data"), dir.path().join("m.safetensors"));
    small_data(&data, 40);
    train_small(&data, &model, &["--epochs", "1"]);
    std::fs::remove_file(data.join("ground_truth/crack/002_mask.png")).expect("removed");
    let output = hotad(&["eval", "--model", text(&model), "--data", text(&data), "--json"]);
    let line: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    let notes = line["notes"].to_string();
    assert!(notes.contains("1 of 4 defective images") && notes.contains("002.png"), "{notes}");
    std::fs::remove_dir_all(data.join("ground_truth")).expect("removed");
    assert!(open(&data).missing_masks().is_some_and(|why| why.contains("no masks")));
}

#[test]
fn normal_images_are_found_where_that_is_clear() {
    let dir = tempfile::tempdir().expect("a folder");
    let root = |name: &str| dir.path().join(name);
    image(&root("direct/train/0.png"));
    assert_eq!(paths(&root("direct"), &open(&root("direct")).train), ["train/0.png"]);
    image(&root("nested/photos/of/parts/0.png"));
    let nested = open(&root("nested"));
    assert_eq!((nested.layout, nested.train.len()), (Layout::Plain, 1));
    image(&root("named/train/parts/0.png"));
    image(&root("named/test/good/1.png"));
    assert_eq!(open(&root("named")).train.len(), 1);
    // What may be kinds of defects is not taken for normal.
    image(&root("kinds/a/0.png"));
    image(&root("kinds/b/1.png"));
    image(&root("defects/positive/1.png"));
    for unclear in ["kinds", "defects"] {
        let reason = refusal(&root(unclear));
        assert!(reason.contains("train/good and test/*") && reason.contains("positive/ and negative/"), "{reason}");
        assert!(!reason.contains('\n'));
    }
    // Tests can be evaluated all the same.
    image(&root("kinds/test/good/2.png"));
    std::fs::create_dir(root("kinds/train")).expect("a folder");
    std::fs::rename(root("kinds/a"), root("kinds/train/a")).expect("moved");
    std::fs::rename(root("kinds/b"), root("kinds/train/b")).expect("moved");
    let data = open(&root("kinds"));
    assert_eq!((data.train.len(), data.test.len(), data.warnings.len()), (0, 1, 1));
    assert!(data.warnings[0].contains("train/good"), "{:?}", data.warnings);
    // What is not used is said.
    image(&root("direct/0.png"));
    image(&root("direct/train/good/1.png"));
    let data = open(&root("direct"));
    assert_eq!(paths(&root("direct"), &data.train), ["train/good/1.png"]);
    assert!(data.warnings.len() == 1 && data.warnings[0].contains("2 files left out"), "{:?}", data.warnings);
}

#[test]
fn what_lies_too_deep_is_said() {
    let dir = tempfile::tempdir().expect("a folder");
    let root = dir.path();
    small_data(root, 24);
    for deep in ["train/good/more/0.png", "train/other/1.png", "test/crack/a/b/2.png", "test/good/more/3.png"] {
        image(&root.join(deep));
    }
    let data = open(root);
    assert_eq!((data.train.len(), data.test.len(), data.warnings.len()), (24, 8, 1));
    assert!(data.warnings[0].contains("4 files left out"), "{:?}", data.warnings);
    let signs = root.join("signs");
    for file in ["positive/0.png", "negative/1.png", "negative/2.png", "positive/deep/3.png", "negative/deep/4.png"] {
        image(&signs.join(file));
    }
    let data = open(&signs);
    assert_eq!(data.train.len() + data.test.len(), 3);
    assert!(data.warnings.len() == 1 && data.warnings[0].contains("2 files left out"), "{:?}", data.warnings);
}

#[cfg(unix)]
#[test]
fn links_from_too_deep_take_nothing_away() {
    let dir = tempfile::tempdir().expect("a folder");
    small_data(dir.path(), 24);
    link("../good", &dir.path().join("test/crack/good"));
    let data = open(dir.path());
    assert_eq!((data.test.len(), data.warnings.len()), (8, 0), "{:?}", data.warnings);
}

#[test]
fn masks_in_jpeg_are_said() {
    let dir = tempfile::tempdir().expect("a folder");
    small_data(dir.path(), 24);
    let truth = dir.path().join("ground_truth/crack");
    std::fs::rename(truth.join("000_mask.png"), truth.join("000_mask.jpg")).expect("renamed");
    let data = open(dir.path());
    assert!(data.missing_masks().is_some_and(|why| why.contains("1 of 4")));
    let said = data.warnings.join(" ");
    assert!(said.contains("000_mask.jpg: left out") && said.contains("save as PNG"), "{said}");
}

#[test]
fn names_are_simple_and_never_the_same() {
    let dir = tempfile::tempdir().expect("a folder");
    let root = dir.path();
    for file in ["a.png", "a.bmp", "a-2.png", "A.tif", "b.png", "d/m.png", "d__m.png", "D/M.bmp", "e/m.png"] {
        named(&root.join(file));
    }
    let first = names(root);
    assert_eq!(first, names(root), "the same every time");
    let different: HashSet<String> = first.iter().map(|n| n.to_lowercase()).collect();
    assert_eq!(different.len(), first.len(), "{first:?}");
    for simple in ["A", "a-2", "b", "e__m", "d__m"] {
        assert!(first.iter().any(|n| n == simple), "{simple} is not in {first:?}");
    }
    let image = root.join("b.png");
    let twice = collect_images(&[image.clone(), image]).expect("images").images;
    assert_eq!(twice.iter().map(|(_, n)| n.as_str()).collect::<Vec<_>>(), ["b", "b-2"]);
}

#[cfg(unix)]
#[test]
fn names_need_not_be_text() {
    use std::os::unix::ffi::OsStrExt;
    let bytes = std::ffi::OsStr::from_bytes;
    let dir = tempfile::tempdir().expect("a folder");
    let root = dir.path();
    let kind = |part: &str, byte: u8| root.join(part).join(bytes(&[b'k', byte]));
    image(&root.join("train/good/0.png"));
    for byte in [0xfe, 0xff] {
        image(&kind("test", byte).join(bytes(&[b'x', byte, b'.', b'p', b'n', b'g'])));
        let mask = [&[b'x', byte][..], b"_mask.png"].concat();
        image(&kind("ground_truth", byte).join(bytes(&mask)));
    }
    let data = open(root);
    assert_eq!(data.test.iter().map(|i| i.kind.as_str()).collect::<Vec<_>>(), ["k\\xfe", "k\\xff"]);
    for item in &data.test {
        let own = |p: &Path| p.file_name().expect("a name").as_bytes()[1];
        assert_eq!(own(&item.masks[0]), own(&item.path));
    }
    let images = names(&root.join("test"));
    assert_eq!(images, ["k\\xfe__x\\xfe", "k\\xff__x\\xff"]);
}
