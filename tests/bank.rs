//! `hotad bank`: duplicates, processes at the same time, links and permissions.

mod common;

use std::path::{Path, PathBuf};

use common::{bars, binary, hotad, ok, refused, small_data, text, train_small, trained};

/// Images in the bank.
fn entries(model: &Path) -> Vec<String> {
    ok(&["bank", "list", text(model)]).lines().map(String::from).collect()
}

fn pictures(folder: &Path, count: u64) -> Vec<PathBuf> {
    std::fs::create_dir(folder).expect("a folder");
    let picture = |i| {
        let path = folder.join(format!("new-{i:02}.png"));
        bars(40, 200 + i).write_png(&path).expect("a picture");
        path
    };
    (0..count).map(picture).collect()
}

#[test]
fn content_is_added_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let (_, model) = trained(dir.path(), &[]);
    let (m, new) = (text(&model), dir.path().join("new"));
    let added = pictures(&new, 2);
    let before = entries(&model).len();
    ok(&["bank", "add", m, text(&added[0])]);
    let copy = dir.path().join("copy.png");
    std::fs::copy(&added[0], &copy).expect("copied");
    refused(&["bank", "add", m, text(&added[0])], &["new-00.png", "is in the bank"]);
    refused(&["bank", "add", m, text(&copy)], &["copy.png", "new-00.png", "--skip-known"]);
    refused(&["bank", "add", m, text(&added[1]), text(&added[1])], &["new-01.png", "is in the bank"]);
    assert_eq!(entries(&model).len(), before + 1, "a refused call adds nothing");
    ok(&["bank", "add", m, text(&new), text(&copy), "--skip-known"]);
    assert_eq!(entries(&model).len(), before + 2);
    // What was removed may come again.
    ok(&["bank", "remove", m, "new-00.png"]);
    ok(&["bank", "add", m, text(&copy)]);
    assert_eq!(entries(&model).len(), before + 2);
}

/// What training has put into the bank is known by its content too, whatever it is called.
#[test]
fn images_of_training_are_known_and_names_are_of_one_image() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = trained(dir.path(), &[]);
    let (m, before) = (text(&model), entries(&model));
    let own = data.join("train/good").join(&before[0]);
    let copy = dir.path().join("copy.png");
    std::fs::copy(&own, &copy).expect("copied");
    refused(&["bank", "add", m, text(&copy)], &["copy.png: is in the bank", &before[0], "--skip-known"]);
    ok(&["bank", "add", m, text(&copy), "--skip-known"]);
    assert_eq!(entries(&model), before);
    // Taken out, it may come again, under its new name.
    ok(&["bank", "remove", m, &before[0]]);
    ok(&["bank", "add", m, text(&copy)]);
    assert_eq!(entries(&model).last().map(String::as_str), Some("copy.png"));
    // Another image of a name that is taken is told apart by its folder, and so is one that has changed since.
    let another = dir.path().join("line").join(&before[1]);
    std::fs::create_dir(dir.path().join("line")).expect("a folder");
    for (index, folders) in [(300, 1), (301, 2)] {
        bars(40, index).write_png(&another).expect("a picture");
        let output = hotad(&["bank", "add", m, text(&another)]);
        let names = another.iter().rev().take(folders + 1).collect::<Vec<_>>().into_iter().rev();
        let name = names.map(|part| part.to_str().expect("text")).collect::<Vec<_>>().join("/");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{stderr}");
        assert!(stderr.contains(&format!("{:?} is another image in the bank", before[1])), "{stderr}");
        assert!(stderr.contains(&format!("is added as {name:?}")), "{stderr}");
        assert_eq!(entries(&model).last(), Some(&name));
    }
    let all = entries(&model).len();
    ok(&["bank", "remove", m, &format!("line/{}", before[1])]);
    assert_eq!(entries(&model).len(), all - 1, "one image alone");
}

/// Copies of one image under two names, and two images of one name: each an entry of its own, removed alone.
#[cfg(target_os = "linux")] // two folders whose names differ in case alone
#[test]
fn entries_are_of_one_path_each() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = (dir.path().join("data"), dir.path().join("m.safetensors"));
    small_data(&data, 40);
    let (good, held) = (data.join("train/good"), data.join("validation/good"));
    std::fs::create_dir_all(&held).expect("a folder");
    (100..104).for_each(|i| bars(40, i).write_png(&held.join(format!("{i}.png"))).expect("a picture"));
    std::fs::copy(good.join("000.png"), good.join("copy.png")).expect("copied");
    std::fs::create_dir(data.join("train/GOOD")).expect("a folder");
    bars(40, 300).write_png(&data.join("train/GOOD/001.png")).expect("a picture");
    let group = ["--epochs", "1", "--group", "none"];
    for method in ["paedid", "patchcore"] {
        match method {
            "paedid" => train_small(&data, &model, &group),
            _ => {
                let small = ["--set", "image_size=64", "--set", "coreset=1.0", "--force", "-q", "--group", "none"];
                ok(&[&["train", method, "--data", text(&data), "--out", text(&model)], &small[..]].concat());
            }
        }
        let (m, before) = (text(&model), entries(&model));
        assert_eq!(before.len(), 26, "{before:?}");
        for name in ["000.png", "copy.png", "001.png", "good/001.png"] {
            assert_eq!(before.iter().filter(|entry| *entry == name).count(), 1, "{method} {name}: {before:?}");
        }
        let again = dir.path().join("again.png");
        std::fs::copy(good.join("000.png"), &again).expect("copied");
        let add = ["bank", "add", m, text(&again)];
        refused(&add, &["again.png: is in the bank", "000.png"]);
        for (name, left, known) in [("copy.png", 25, true), ("good/001.png", 24, true), ("000.png", 23, false)] {
            ok(&["bank", "remove", m, name]);
            let after = entries(&model);
            assert!(after.len() == left && !after.iter().any(|entry| entry == name), "{method} {name}: {after:?}");
            if known {
                refused(&add, &["again.png: is in the bank", "000.png"]);
            }
        }
        assert!(entries(&model).iter().any(|entry| entry == "001.png"), "{method}: the other image of that name");
        ok(&add);
        assert_eq!(entries(&model).len(), 24);
    }
}

#[cfg(unix)]
#[test]
fn an_image_of_any_name_is_one_line_and_found_by_it() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().expect("a folder");
    let (_, model) = trained(dir.path(), &[]);
    let (m, before) = (text(&model), entries(&model));
    let new = dir.path().join("new");
    std::fs::create_dir(&new).expect("a folder");
    let names: [&[u8]; 6] =
        [b"new\nline.png", b"\x1b[31m.png", b"\xff.png", b"--help.png", b"\"quoted\".png", b"\xe2\x80\xae.png"];
    for (i, name) in names.iter().enumerate() {
        let plain = new.join("plain.png");
        bars(40, 300 + i as u64).write_png(&plain).expect("a picture");
        std::fs::rename(plain, new.join(OsStr::from_bytes(name))).expect("renamed");
    }
    ok(&["bank", "add", m, text(&new)]);
    let after = entries(&model);
    assert_eq!(after.len(), before.len() + names.len(), "one line each: {after:?}");
    assert!(!after.iter().any(|name| name.contains(char::is_control)), "{after:?}");
    let added: Vec<&str> = after[before.len()..].iter().map(String::as_str).collect();
    ok(&[&["bank", "remove", m, "--"], &added[..]].concat());
    assert_eq!(entries(&model), before);
}

#[test]
fn nothing_is_lost_between_processes() {
    let dir = tempfile::tempdir().expect("a folder");
    let (_, model) = trained(dir.path(), &[]);
    let before = entries(&model).len();
    let added = pictures(&dir.path().join("new"), 12);
    let start = |path: &PathBuf| {
        let mut command = binary();
        command.args(["bank", "add", text(&model), text(path), "-q", "--device", "cpu", "--threads", "1"]);
        command.spawn().expect("the binary runs")
    };
    let running: Vec<_> = added.iter().map(start).collect();
    for mut child in running {
        assert!(child.wait().expect("it ends").success());
    }
    assert_eq!(entries(&model).len(), before + added.len());
}

#[cfg(unix)]
#[test]
fn a_model_keeps_its_link_and_its_permissions() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let dir = tempfile::tempdir().expect("a folder");
    let (_, model) = trained(dir.path(), &[]);
    let link = dir.path().join("current.safetensors");
    symlink("m.safetensors", &link).expect("a link");
    std::fs::set_permissions(&model, std::fs::Permissions::from_mode(0o600)).expect("set");
    let before = entries(&model).len();
    let added = pictures(&dir.path().join("new"), 1);
    ok(&["bank", "add", text(&link), text(&added[0])]);
    assert_eq!(entries(&model).len(), before + 1);
    ok(&["bank", "remove", text(&link), "new-00.png"]);
    assert_eq!(entries(&model).len(), before);
    assert!(std::fs::symlink_metadata(&link).expect("a link").is_symlink());
    assert_eq!(std::fs::metadata(&model).expect("a file").permissions().mode() & 0o777, 0o600);
}
