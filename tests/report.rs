//! The report of an evaluation: what it shows, and that no name gets into its markup.

mod common;

use std::path::{Path, PathBuf};

use base64::Engine;
use common::pictures::{decode_jpeg, read_png};
use common::{QUICK, bars, exits, ok, refused, small_data, text, trained};

fn eval<'a>(model: &'a Path, data: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    [&["eval", "--model", text(model), "--data", text(data)], more].concat()
}

/// Evaluates into a folder; returns the report.
fn report(model: &Path, data: &Path, out: &Path, more: &[&str]) -> String {
    ok(&eval(model, data, &[&["--out", text(out), "-q"], more].concat()));
    std::fs::read_to_string(out.join("report.html")).expect("a report")
}

/// Pictures of a report in order.
fn pictures(html: &str) -> Vec<image::RgbImage> {
    let decoded = |part: &str| {
        let code = part.split('"').next().expect("an end");
        let bytes = base64::engine::general_purpose::STANDARD.decode(code).expect("base64");
        decode_jpeg(&bytes).to_rgb8()
    };
    html.split("data:image/jpeg;base64,").skip(1).map(decoded).collect()
}

#[test]
fn names_are_text_and_no_script_runs() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = trained(dir.path(), &[]);
    let name = "<img src=x onerror=alert(1)>\"'&.png";
    let kind = data.join("test/<b>kind");
    std::fs::create_dir(&kind).expect("a folder");
    bars(40, 50).write_png(&kind.join(name)).expect("a picture");
    bars(40, 51).write_png(&data.join("test/good").join(name)).expect("a picture");
    let (odd, out) = (dir.path().join("<i>data"), dir.path().join("out"));
    std::fs::rename(&data, &odd).expect("renamed");
    let html = report(&model, &odd, &out, &["--images", "100"]);
    for markup in ["<img src=x", "<b>kind", "<i>data"] {
        assert!(!html.contains(markup), "{markup} is markup");
    }
    assert!(html.contains("&lt;img src=x onerror=alert(1)&gt;&quot;&#39;&amp;"));
    assert!(html.contains(r#"http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:;"#));
    assert!(!html.contains("<script"));
}

#[test]
fn a_comparison_links_to_reports_of_any_name() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = trained(dir.path(), &[]);
    let odd = dir.path().join("50% <off> #1?");
    std::fs::rename(&data, &odd).expect("renamed");
    // Names of files that differ in more than what stands between their parts.
    let models = [dir.path().join("d/m"), dir.path().join("d_m"), dir.path().join("e/m")];
    for path in &models {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::copy(&model, path).expect("copied");
    }
    let run = |names: [&str; 3]| {
        let mut command = common::binary();
        command.current_dir(dir.path()).args(["eval", "--data", text(&odd), "--out", "out", "-q"]);
        for name in names {
            command.args(["--model", name]);
        }
        assert!(command.output().expect("the binary runs").status.success());
    };
    run(["d/m", "d_m", "e/m"]);
    let html = std::fs::read_to_string(dir.path().join("out/report.html")).expect("a report");
    let links: Vec<&str> = html.split("href=\"").skip(1).map(|part| part.split('"').next().expect("an end")).collect();
    assert_eq!(links.len(), 3);
    for link in &links {
        assert!(link.starts_with("50%25%20%3Coff%3E%20%231%3F/"), "{link}");
        let decoded = link.replace("%20", " ").replace("%3C", "<").replace("%3E", ">");
        let decoded = decoded.replace("%23", "#").replace("%3F", "?").replace("%25", "%");
        assert!(dir.path().join("out").join(&decoded).is_file(), "{decoded}");
    }
    let folders: std::collections::BTreeSet<&&str> = links.iter().collect();
    assert_eq!(folders.len(), 3, "each model has a report of its own: {links:?}");
    assert!(!html.contains("<off>"));
}

#[test]
fn images_are_listed_and_counted() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = trained(dir.path(), &["--false-alarm-rate", "0.5"]);
    std::fs::rename(data.join("test/good/024.png"), data.join("test/good/24, \"new\".png")).expect("renamed");
    let out = dir.path().join("out");
    let html = report(&model, &data, &out, &[]);
    let csv = std::fs::read_to_string(out.join("images.csv")).expect("a table");
    assert_eq!(csv.lines().next(), Some("path,kind,label,score,predicted,threshold,ms"));
    assert_eq!(csv.lines().count(), 9);
    assert!(csv.contains(r#"24, ""new"".png",good,normal,"#), "{csv}");
    let json: serde_json::Value = serde_json::from_str(&ok(&eval(&model, &data, &["--json"]))).expect("JSON");
    let rows = |label: &str, predicted: &str| {
        let row = |line: &&str| {
            let fields: Vec<&str> = line.rsplit(',').collect();
            (fields[4], fields[2]) == (label, predicted)
        };
        csv.lines().skip(1).filter(row).count() as u64
    };
    let count = |key: &str| json["confusion"][key].as_u64().expect("a number");
    assert_eq!(count("true_positive"), rows("anomaly", "anomaly"));
    assert_eq!(count("false_negative"), rows("anomaly", "normal"));
    assert_eq!(count("false_positive"), rows("normal", "anomaly"));
    assert_eq!(count("true_negative"), rows("normal", "normal"));
    assert_eq!(rows("anomaly", "anomaly") + rows("anomaly", "normal"), 4);
    let table = ok(&eval(&model, &data, &[]));
    let row =
        format!("defective at threshold   {} anomaly, {} normal", count("true_positive"), count("false_negative"));
    assert!(table.contains(&row), "{table}");
    assert!(html.contains("called anomaly"));
}

#[test]
fn as_many_images_are_shown_as_asked_for() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = trained(dir.path(), &[]);
    for i in 0..6 {
        bars(40, 60 + i).write_png(&data.join(format!("test/good/more-{i}.png"))).expect("a picture");
    }
    let figures =
        |out: &str, more: &[&str]| report(&model, &data, &dir.path().join(out), more).matches("<figure>").count();
    // Four defects clearest first, the same weakest first, and ten good images.
    assert_eq!(figures("usual", &[]), 4 + 4 + 8);
    assert_eq!(figures("more", &["--images", "10"]), 4 + 4 + 10);
    assert_eq!(figures("fewer", &["--images", "1"]), 3);
    exits(2, &eval(&model, &data, &["--images", "5"]));
}

#[test]
fn overlays_are_of_the_report_beside_them() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = trained(dir.path(), &[]);
    let names = |out: &Path| {
        let entries = std::fs::read_dir(out.join("overlays")).expect("a folder").flatten();
        let mut names: Vec<String> = entries.map(|e| e.file_name().into_string().expect("text")).collect();
        names.sort();
        names
    };
    let (used, new) = (dir.path().join("used"), dir.path().join("new"));
    report(&model, &data, &used, &[]);
    for own in ["mine.png", "notes.txt"] {
        std::fs::write(used.join("overlays").join(own), "of the user").expect("written");
    }
    report(&model, &data, &used, &["--images", "1"]);
    report(&model, &data, &new, &["--images", "1"]);
    let mut expected = names(&new);
    assert!(expected.len() <= 3, "{expected:?}");
    expected.extend(["mine.png", "notes.txt"].map(String::from));
    expected.sort();
    assert_eq!(names(&used), expected);
    // A table that is no report's tells nothing of overlays.
    std::fs::write(used.join("images.csv"), "path,kind\nmine.png,mine\n").expect("written");
    std::fs::write(used.join("overlays/mine_mine.png"), "of the user").expect("written");
    report(&model, &data, &used, &[]);
    assert!(used.join("overlays/mine_mine.png").exists());
}

#[test]
fn metrics_are_printed_where_the_report_cannot_be_written() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = trained(dir.path(), &[]);
    let out = dir.path().join("out");
    std::fs::create_dir_all(out.join("report.html")).expect("a folder in the place of the file");
    let (stdout, stderr) = exits(2, &eval(&model, &data, &["--out", text(&out)]));
    assert!(stdout.contains("image AUROC") && stderr.contains("report.html"), "{stdout}{stderr}");
    let (stdout, _) = exits(2, &eval(&model, &data, &["--out", text(&out), "--json"]));
    assert!(serde_json::from_str::<serde_json::Value>(&stdout).expect("JSON")["image_auroc"].is_number());
}

#[test]
fn the_ground_truth_is_outlined() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = trained(dir.path(), &[]);
    let html = report(&model, &data, &dir.path().join("out"), &["--images", "1"]);
    let cyan = |picture: &image::RgbImage| picture.pixels().filter(|p| p[0] < 90 && p[1] > 150 && p[2] > 150).count();
    let shown = pictures(&html);
    assert_eq!(shown.len(), 6, "three pairs");
    assert!(cyan(&shown[0]) > 10 && cyan(&shown[2]) > 10, "{} {}", cyan(&shown[0]), cyan(&shown[2]));
    assert_eq!(cyan(&shown[4]), 0, "a good image has nothing to outline");
}

#[test]
fn broken_test_images_are_refused_or_left_out() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = trained(dir.path(), &[]);
    let broken: PathBuf = data.join("test/good/024.png");
    std::fs::write(&broken, "no image").expect("written");
    refused(&eval(&model, &data, &[]), &["024.png", "not a readable image"]);
    let (stdout, stderr) = exits(0, &eval(&model, &data, &["--on-broken", "skip"]));
    assert!(stdout.contains("3 good, 4 defective") && stdout.contains("1 test images cannot be decoded"), "{stdout}");
    assert!(stderr.contains("skipped") && stderr.contains("024.png"), "{stderr}");
}

#[test]
fn paedid_shows_its_steps() {
    let dir = tempfile::tempdir().expect("a folder");
    let data = dir.path().join("data");
    small_data(&data, 40);
    for (method, steps) in [("paedid", 5), ("pae", 4)] {
        let (model, out) = (dir.path().join(method), dir.path().join(format!("{method}-report")));
        let train = ["train", method, "--data", text(&data), "--out", text(&model), "-q", "--epochs", "2"];
        ok(&[&train[..], &QUICK].concat());
        ok(&[
            "eval",
            "--model",
            text(&model),
            "--data",
            text(&data),
            "--out",
            text(&out),
            "-q",
            "--explain",
            "crack/000",
        ]);
        let html = std::fs::read_to_string(out.join("report.html")).expect("a report");
        let shown = ["1 - cosine", "replaced", "background prior", "background L", "defect |S|"];
        let found = shown.iter().filter(|step| html.contains(&format!("alt=\"steps, {step}\""))).count();
        assert_eq!(found, steps, "{method}");
    }
}

#[test]
fn score_writes_what_happens_inside() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = trained(dir.path(), &[]);
    let (images, out) = (data.join("test/crack"), dir.path().join("out"));
    let score = ["score", "--model", text(&model), text(&images), "-q", "--explain"];
    ok(&[&score[..], &["--out", text(&out)]].concat());
    let steps = ["1-cosine", "replaced", "background-prior", "background-l", "defect-s"];
    let file = |step: &str| out.join(format!("000_steps-{step}.png"));
    for step in steps {
        let picture = read_png(&file(step));
        assert_eq!((picture.width(), picture.height()), (40, 40), "{step} has the size of the image");
    }
    let defect = read_png(&file("defect-s")).to_luma8();
    assert!(defect.pixels().map(|p| p[0]).max() > Some(150), "scaled to its largest, then enlarged");
    // As the others, they are not written over.
    std::fs::rename(file("background-l"), dir.path().join("kept.png")).expect("renamed");
    for step in ["overlay", "map"] {
        (0..4).for_each(|i| std::fs::remove_file(out.join(format!("00{i}_{step}.png"))).expect("there"));
    }
    refused(&[&score[..], &["--out", text(&out)]].concat(), &["000_steps-1-cosine.png", "is there already"]);
    exits(2, &score);
    let ae = dir.path().join("ae");
    let settings = ["--set", "latent=4", "--set", "epochs=1", "--set", "batch=4"];
    ok(&[&["train", "l2-ae", "--data", text(&data), "--out", text(&ae), "-q"], &settings[..]].concat());
    let plain = ["score", "--model", text(&ae), text(&images), "--explain", "--out", text(&out), "--force"];
    refused(&plain, &["--explain", "l2-ae has nothing inside to show"]);
}

#[test]
fn galleries_of_equal_scores_have_their_maps() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = trained(dir.path(), &[]);
    for folder in ["test/crack", "ground_truth/crack"] {
        let ending = if folder.starts_with("test") { ".png" } else { "_mask.png" };
        for i in 4..10 {
            let [from, to] = [0, i].map(|i| data.join(folder).join(format!("{i:03}{ending}")));
            std::fs::copy(from, to).expect("copied");
        }
    }
    let out = dir.path().join("report");
    ok(&["eval", "--model", text(&model), "--data", text(&data), "--out", text(&out), "--images", "2", "-q"]);
    assert!(std::fs::read_to_string(out.join("report.html")).expect("written").contains("Weakest defects"));
}
