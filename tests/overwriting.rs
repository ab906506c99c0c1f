//! What is written over, and what is not.

mod common;

use std::path::Path;

use common::pictures::write_bmp;
use common::{bars, ok, refused, text, trained};
use hotad_engine::atomic_file;

fn score<'a>(model: &'a Path, images: &'a Path, out: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    [&["score", "--model", text(model), text(images), "--out", text(out)], more].concat()
}

fn names(folder: &Path) -> Vec<String> {
    let entry = |e: std::io::Result<std::fs::DirEntry>| e.expect("an entry").file_name().into_string().expect("a name");
    let mut names: Vec<String> = std::fs::read_dir(folder).expect("a folder").map(entry).collect();
    names.sort();
    names
}

#[test]
fn an_image_is_never_written_over() {
    let dir = tempfile::tempdir().expect("a folder");
    let (_, model) = trained(dir.path(), &[]);
    let images = dir.path().join("images");
    std::fs::create_dir(&images).expect("a folder");
    for (i, name) in ["a.png", "a_map.png"].iter().enumerate() {
        bars(40, i as u64).write_png(&images.join(name)).expect("a picture");
    }
    let before = std::fs::read(images.join("a_map.png")).expect("bytes");
    for force in [&[][..], &["--force"]] {
        refused(&score(&model, &images, &images, force), &["a_map.png", "choose another --out"]);
        assert_eq!(names(&images), ["a.png", "a_map.png"], "nothing is written");
    }
    #[cfg(unix)]
    {
        let out = dir.path().join("links");
        std::fs::create_dir(&out).expect("a folder");
        std::os::unix::fs::symlink(images.join("a.png"), out.join("a_overlay.png")).expect("a link");
        refused(&score(&model, &images, &out, &["--force"]), &["a_overlay.png", "choose another --out"]);
    }
    assert_eq!(std::fs::read(images.join("a_map.png")).expect("bytes"), before);
    // Beside its images, where no name is taken.
    std::fs::remove_file(images.join("a_map.png")).expect("removed");
    ok(&score(&model, &images, &images, &[]));
    assert_eq!(names(&images), ["a.png", "a_map.png", "a_overlay.png"]);
}

#[test]
fn files_of_another_run_are_written_over_on_request() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = trained(dir.path(), &[]);
    let (one, other, out) = (data.join("test/good"), dir.path().join("other"), dir.path().join("out"));
    std::fs::create_dir(&other).expect("a folder");
    bars(40, 90).write_png(&other.join("024.png")).expect("a picture");
    ok(&score(&model, &one, &out, &[]));
    let before = std::fs::read(out.join("024_map.png")).expect("bytes");
    refused(&score(&model, &other, &out, &[]), &["024_", "--force"]);
    assert_eq!(std::fs::read(out.join("024_map.png")).expect("bytes"), before);
    ok(&score(&model, &other, &out, &["--force"]));
    assert_ne!(std::fs::read(out.join("024_map.png")).expect("bytes"), before);
}

#[test]
fn images_of_one_stem_have_overlays_of_their_own() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = trained(dir.path(), &[]);
    let crack = data.join("test/crack");
    let bmp = image::GrayImage::from_pixel(40, 40, image::Luma([30]));
    write_bmp(&bmp, &crack.join("000.bmp"));
    let out = dir.path().join("report");
    ok(&["eval", "--model", text(&model), "--data", text(&data), "--out", text(&out)]);
    assert_eq!(names(&out.join("overlays")).len(), 9, "{:?}", names(&out.join("overlays")));
    // A kind and a name that join to what another kind and name join to.
    let (kind, other) = (data.join("test/a_b"), data.join("test/a"));
    std::fs::create_dir(&kind).expect("a folder");
    std::fs::create_dir(&other).expect("a folder");
    bars(40, 60).write_png(&kind.join("c.png")).expect("a picture");
    bars(40, 61).write_png(&other.join("b_c.png")).expect("a picture");
    let out = dir.path().join("again");
    ok(&["eval", "--model", text(&model), "--data", text(&data), "--out", text(&out)]);
    assert_eq!(names(&out.join("overlays")).len(), 11, "{:?}", names(&out.join("overlays")));
}

#[cfg(unix)]
#[test]
fn links_and_permissions_are_kept() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let dir = tempfile::tempdir().expect("a folder");
    let (real, link) = (dir.path().join("real"), dir.path().join("link"));
    let write = |path: &Path, text: &str| atomic_file::write(path, |out| write!(out, "{text}"));
    let mode = |path: &Path| std::fs::metadata(path).expect("a file").permissions().mode() & 0o777;
    let plain = dir.path().join("plain");
    std::fs::write(&plain, "").expect("written");
    write(&real, "1").expect("written");
    assert_eq!(mode(&real), mode(&plain), "a new file has what the umask leaves");
    for bits in [0o600, 0o640, 0o444] {
        std::fs::set_permissions(&real, std::fs::Permissions::from_mode(bits)).expect("set");
        write(&real, "2").expect("written");
        assert_eq!(mode(&real), bits);
    }
    symlink("real", &link).expect("a link");
    symlink(dir.path().join("link"), dir.path().join("second")).expect("a link");
    write(&dir.path().join("second"), "3").expect("written");
    assert!(std::fs::symlink_metadata(&link).expect("a link").is_symlink());
    assert_eq!(std::fs::read_to_string(&real).expect("text"), "3");
    // A link to what is not there yet; one that leads to itself; what is no file.
    symlink("new", dir.path().join("early")).expect("a link");
    write(&dir.path().join("early"), "4").expect("written");
    assert_eq!(std::fs::read_to_string(dir.path().join("new")).expect("text"), "4");
    symlink("circle", dir.path().join("circle")).expect("a link");
    for (path, word) in [(dir.path().join("circle"), "too many links"), (dir.path().into(), "no regular file")] {
        let error = write(&path, "5").expect_err("refused").to_string();
        assert!(error.contains(word) && error.contains(text(&path)), "{error}");
    }
}

#[test]
fn what_killed_processes_left_is_removed() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = |name: &str| dir.path().join(name);
    for name in [".hotad-left.tmp", ".hotad-held.tmp", ".hotad-other", "left.tmp"] {
        std::fs::write(path(name), "half of a model").expect("written");
    }
    let held = std::fs::File::open(path(".hotad-held.tmp")).expect("a file");
    held.lock().expect("locked");
    atomic_file::write(&path("x"), |out| write!(out, "whole")).expect("written");
    assert_eq!(names(dir.path()), [".hotad-held.tmp", ".hotad-other", "left.tmp", "x"]);
}

/// A changed model goes over the file that it is read from, and over another one on request alone.
#[test]
fn a_changed_model_is_written_over_no_other_file() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = trained(dir.path(), &[]);
    let (m, image) = (text(&model), data.join("test/good/024.png"));
    let before = std::fs::read(&image).expect("bytes");
    let calibrate = ["calibrate", m, "--data", text(&data), "--f1", "--out"];
    let region = ["roi", m, "--set", "box:0,0,9,9", "--out"];
    for command in [&calibrate[..], &region] {
        let to = |out: &Path, force: &[&str]| -> Vec<String> {
            command.iter().copied().chain([text(out)]).chain(force.iter().copied()).map(String::from).collect()
        };
        let refused = |out: &Path, words: &[&str]| {
            refused(&to(out, &[]).iter().map(String::as_str).collect::<Vec<_>>(), words);
        };
        let ok = |out: &Path, force: &[&str]| ok(&to(out, force).iter().map(String::as_str).collect::<Vec<_>>());
        refused(&image, &["024.png", "is there already", "--force"]);
        refused(dir.path(), &["is a folder"]);
        refused(&dir.path().join("no/m.safetensors"), &["no", "make it first"]);
        #[cfg(unix)]
        refused(Path::new("/dev/null"), &["/dev/null", "no regular file"]);
        assert_eq!(std::fs::read(&image).expect("bytes"), before);
        let out = dir.path().join("other.safetensors");
        std::fs::write(&out, "another file").expect("written");
        ok(&out, &["--force"]);
        ok(&model, &[]);
        assert!(ok(&dir.path().join(format!("{}.safetensors", command[0])), &[]).lines().count() <= 1);
    }
}

#[test]
fn a_result_is_not_written_over_what_it_is_made_of() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = trained(dir.path(), &[]);
    let before = std::fs::read(&model).expect("bytes");
    refused(&["export", "--onnx", text(&model), "--out", text(&model), "--force"], &["m.safetensors", "what is read"]);
    assert_eq!(std::fs::read(&model).expect("bytes"), before);
    let image = data.join("train/good/000.png");
    let pixels = std::fs::read(&image).expect("bytes");
    let train = ["train", "patchcore", "--data", text(&data), "--out", text(&image), "--force"];
    refused(&train, &["000.png", "is an image that is learned from"]);
    assert_eq!(std::fs::read(&image).expect("bytes"), pixels);
    let shards = dir.path().join("shards");
    let good = data.join("test/good");
    for shard in ["0/2", "1/2"] {
        ok(&["score", "--model", text(&model), text(&good), "--shard", shard, "--shard-folder", text(&shards), "-q"]);
    }
    let one = shards.join(&names(&shards)[0]);
    refused(&["merge", text(&shards), "--out", text(&one), "--force"], &["what is read"]);
    ok(&["merge", text(&shards)]);
    let empty = dir.path().join("empty");
    std::fs::create_dir(&empty).expect("a folder");
    refused(&["merge", text(&empty)], &["empty", "no shards"]);
    refused(&["bank", "add", text(&model), text(&empty)], &["empty", "no images"]);
    refused(
        &["score", "--model", text(&model), text(&good), "--out", text(&model)],
        &["m.safetensors", "name a folder"],
    );
}

#[test]
fn a_data_set_that_is_not_drawn_to_its_end_leaves_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let (from, out) = (dir.path().join("from"), dir.path().join("out"));
    std::fs::create_dir(&from).expect("a folder");
    for i in 0..3 {
        bars(40, i).write_png(&from.join(format!("{i}.png"))).expect("a picture");
    }
    std::fs::write(from.join("3.png"), "no image").expect("written");
    let synth = ["synth", "--from", text(&from), "--out", text(&out), "--count", "2", "-q"];
    refused(&synth, &["3.png"]);
    assert!(names(&out).is_empty(), "{:?}", names(&out));
    std::fs::remove_file(from.join("3.png")).expect("removed");
    ok(&synth);
    assert_eq!(names(&out), ["ground_truth", "test"]);
    assert_eq!(names(&out.join("test/good")).len(), 3);
    refused(&synth, &["already holds files"]);
}
