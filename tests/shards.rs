//! Shards of `score` and `eval`: merged, they are one run.

mod common;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Output;

use common::{binary, hotad, ok, refused, text, trained};
use hotad_engine::data::prepare::file_sha256;
use hotad_engine::shard::Shard;

/// What a run prints, without its times.
fn timeless(printed: &str) -> String {
    let lines = printed.lines().map(|line| {
        let mut line = line.to_string();
        for key in ["\"ms\":", "\"ms_per_image\":"] {
            if let Some(start) = line.find(key).map(|at| at + key.len()) {
                let end = start + line[start..].find([',', '}']).expect("a number ends");
                line.replace_range(start..end, "0");
            }
        }
        line
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

/// Runs the shards of a command and merges them; returns exit code and output.
fn in_shards(command: &[&str], count: usize, folder: &Path) -> (Option<i32>, String) {
    for index in 0..count {
        let shard = format!("{index}/{count}");
        let printed = ok(&[command, &["--shard", &shard, "--shard-folder", text(folder), "-q"]].concat());
        assert_eq!(printed, "", "a shard prints nothing");
    }
    let merged = hotad(&["merge", text(folder)]);
    (merged.status.code(), out(&merged))
}

fn assert_one_run(command: &[&str], in_one: &[&str], count: usize, dir: &Path) {
    let folder = dir.join("shards");
    let _ = std::fs::remove_dir_all(&folder);
    let one = hotad(&[command, in_one].concat());
    let (code, merged) = in_shards(command, count, &folder);
    assert_eq!(timeless(&merged), timeless(&out(&one)), "{command:?} in {count} shards");
    assert_eq!(code, one.status.code(), "{command:?}");
}

#[test]
fn shards_of_eval_merge_to_one_run() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = trained(dir.path(), &[]);
    let eval = ["eval", "--model", text(&model), "--data", text(&data)];
    let assert_same = |more: &[&str], count| {
        let command = [&eval[..], more].concat();
        assert_one_run(&command, &["--json", "-q"], count, dir.path());
    };
    assert_same(&[], 3);
    assert_same(&["--group", "none", "--seed", "7"], 2);
    assert_same(&["--group", "^..(.)", "--set", "score_blur=3"], 1);
    // More shards than images: some are empty.
    assert_same(&["--batch", "1"], 20);
    let known = ok(&["info", text(&model), "--json"]);
    let mut normal = (0..20).map(|i| data.join(format!("train/good/{i:03}.png")));
    let learned =
        normal.find(|file| known.contains(&file_sha256(file).expect("a file"))).expect("one that was learned from");
    std::fs::copy(learned, data.join("test/good/learned.png")).expect("copied");
    std::fs::write(data.join("test/good/broken.png"), "no image").expect("written");
    assert_same(&["--on-broken", "skip"], 3);
    std::fs::remove_file(data.join("test/good/broken.png")).expect("removed");
    // An image of the same part as one that was learned from, in another shard.
    let parts = dir.path().join("parts.csv");
    let files =
        ["good", "crack"].map(|kind| (kind, std::fs::read_dir(data.join("test").join(kind)).expect("a folder")));
    let files = files.into_iter().flat_map(|(kind, all)| all.map(move |e| (kind, e.expect("an entry").file_name())));
    let line = |(kind, name): (&str, std::ffi::OsString)| {
        let file = format!("{kind}/{}", name.to_string_lossy());
        let part = if ["good/learned.png", "crack/000.png"].contains(&&*file) { "one" } else { &*file };
        format!("{file},{part}\n")
    };
    std::fs::write(&parts, files.map(line).collect::<String>()).expect("written");
    assert_same(&["--group", text(&parts)], 3);
    let left = ok(&[&eval[..], &["--json", "-q", "--group", text(&parts)]].concat());
    assert!(left.contains("2 test images were learned from"), "{left}");
    for part in ["test", "ground_truth"] {
        std::fs::rename(data.join(part).join("crack"), data.join(part).join("logical_anomalies")).expect("renamed");
    }
    let config = r#"[{"defect_name":"crack","pixel_value":255,"saturation_threshold":0.5,"relative_saturation":true}]"#;
    std::fs::write(data.join("defects_config.json"), config).expect("a file");
    assert_same(&[], 3);
    std::fs::remove_dir_all(data.join("ground_truth")).expect("removed");
    assert_same(&[], 3);
}

#[test]
fn shards_of_score_merge_to_one_run() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = trained(dir.path(), &[]);
    let (test, one_file) = (data.join("test"), data.join("train/good/003.png"));
    let score = ["score", "--model", text(&model), text(&test), text(&one_file)];
    assert_one_run(&score, &[], 3, dir.path());
    assert_one_run(&[&score[..], &["--threshold", "0.5", "--batch", "2"]].concat(), &[], 20, dir.path());
    std::fs::write(test.join("good/broken.png"), "no image").expect("written");
    std::fs::write(test.join("good/other.webp"), "no image").expect("written");
    assert_one_run(&score, &[], 3, dir.path());
    assert_one_run(&[&score[..], &["--on-broken", "skip"]].concat(), &[], 3, dir.path());
    let maps = dir.path().join("maps");
    let command = [&score[..], &["--out", text(&maps)]].concat();
    let (_, merged) = in_shards(&command, 3, &dir.path().join("with-maps"));
    assert_eq!(timeless(&merged), timeless(&out(&hotad(&[&command[..], &["--force"]].concat()))));
    assert!(maps.join("good__024_overlay.png").is_file() && maps.join("crack__003_map.png").is_file());
}

#[test]
fn a_shard_does_not_depend_on_where_data_are_mounted() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = trained(dir.path(), &[]);
    let (folder, elsewhere) = (dir.path().join("shards"), dir.path().join("elsewhere/data"));
    let one = ok(&["eval", "--model", text(&model), "--data", text(&data), "--json", "-q"]);
    let run = |data: &Path, shard: &str| {
        let what = ["eval", "--model", text(&model), "--data", text(data), "--shard", shard];
        ok(&[&what[..], &["--shard-folder", text(&folder), "-q"]].concat());
    };
    run(&data, "0/2");
    std::fs::create_dir_all(dir.path().join("elsewhere")).expect("a folder");
    std::fs::rename(&data, &elsewhere).expect("moved");
    run(&elsewhere, "1/2");
    assert_eq!(timeless(&ok(&["merge", text(&folder)])), timeless(&one));
    let result = dir.path().join("metrics.json");
    ok(&["merge", text(&folder), "--out", text(&result)]);
    assert_eq!(timeless(&std::fs::read_to_string(&result).expect("written")), timeless(&one).trim());
    refused(&["merge", text(&folder), "--out", text(&result)], &["is there already", "--force"]);
}

#[test]
fn merged_shards_give_the_report_of_one_run() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = trained(dir.path(), &[]);
    let (folder, one, merged) = (dir.path().join("shards"), dir.path().join("one"), dir.path().join("merged"));
    let eval = ["eval", "--model", text(&model), "--data", text(&data), "-q"];
    ok(&[&eval[..], &["--out", text(&one), "--images", "3"]].concat());
    for shard in ["0/2", "1/2"] {
        ok(&[&eval[..], &["--shard", shard, "--shard-folder", text(&folder)]].concat());
    }
    let merge = ["merge", text(&folder), "--report", text(&merged)];
    ok(&[&merge[..], &["--model", text(&model), "--images", "3"]].concat());
    let read = |file: &Path| std::fs::read(file).expect("written");
    for overlay in std::fs::read_dir(one.join("overlays")).expect("a folder") {
        let name = overlay.expect("an entry").file_name();
        assert!(read(&one.join("overlays").join(&name)) == read(&merged.join("overlays").join(&name)), "{name:?}");
    }
    let galleries = |folder: &Path| {
        let report = String::from_utf8(read(&folder.join("report.html"))).expect("text");
        let at = report.find("Clearest defects").expect("galleries");
        report[at..report.find("Most suspicious").expect("galleries")].to_string()
    };
    assert!(galleries(&one) == galleries(&merged), "the same images, outlines and maps");
    let other = dir.path().join("other.safetensors");
    std::fs::write(&other, "another file").expect("written");
    refused(&[&merge[..], &["--model", text(&other)]].concat(), &["not the model that the shards are of"]);
}

/// Shard files of evaluations.
struct Made {
    dir: tempfile::TempDir,
    data: PathBuf,
    model: PathBuf,
}

impl Made {
    fn shard(&self, shard: &str, more: &[&str], folder: &str) -> PathBuf {
        let folder = self.dir.path().join(folder);
        let what = ["eval", "--model", text(&self.model), "--data", text(&self.data), "--shard", shard];
        ok(&[&what[..], &["--shard-folder", text(&folder), "-q"], more].concat());
        folder.join(format!("eval-{}.shard", shard.replace('/', "-of-")))
    }
}

#[test]
fn what_is_not_one_run_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = trained(dir.path(), &[]);
    let made = Made { dir, data, model };
    let (a, b) = (made.shard("0/2", &[], "a"), made.shard("1/2", &[], "a"));
    let merge = |files: &[&Path], words: &[&str]| {
        let files: Vec<&str> = files.iter().map(|f| text(f)).collect();
        refused(&[&["merge"], &files[..]].concat(), words);
    };
    merge(&[&a], &["missing: 1/2"]);
    merge(&[&a, &b, &a], &["shard 0/2", "name each once"]);
    merge(&[&made.shard("2/3", &[], "b"), &a], &["another number of shards"]);
    merge(&[&a, &made.shard("1/2", &["--seed", "5"], "c")], &["under another --seed"]);
    merge(&[&a, &made.shard("1/2", &["--set", "score_blur=3"], "d")], &["under another --set"]);
    let empty = made.dir.path().join("empty");
    std::fs::create_dir(&empty).expect("a folder");
    merge(&[&empty], &["holds no shards"]);
    let bytes = std::fs::read(&b).expect("read");
    let cut = made.dir.path().join("cut.shard");
    for damaged in [&bytes[..bytes.len() / 2], &bytes[..bytes.len() - 80], &bytes.repeat(2), b"{}", b""] {
        std::fs::write(&cut, damaged).expect("written");
        merge(&[&a, &cut], &["cut.shard", "cut or altered"]);
    }
    let test = made.data.join("test");
    let score = ["score", "--model", text(&made.model), text(&test), "--shard", "1/2"];
    ok(&[&score[..], &["--shard-folder", text(made.dir.path()), "-q"]].concat());
    merge(&[&a, &made.dir.path().join("score-1-of-2.shard")], &["another command"]);
    std::fs::copy(made.data.join("test/good/024.png"), made.data.join("test/good/new.png")).expect("copied");
    merge(&[&a, &made.shard("1/2", &[], "e")], &["of other data"]);
    std::fs::remove_file(made.data.join("test/good/new.png")).expect("removed");
    common::train_small(&made.data, &made.model, &["--epochs", "1", "--force"]);
    merge(&[&a, &made.shard("1/2", &[], "f")], &["of another model"]);
}

#[test]
fn what_is_no_shard_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let cluster = |(name, _): &(String, String)| name.starts_with("SLURM_") || name.starts_with("JOB_");
    assert_eq!(std::env::vars().filter(cluster).count(), 0, "this test is no part of a cluster job");
    for (shard, words) in [
        ("--shard=3/3", &["3/3", "at most 2"][..]),
        ("--shard=0/0", &["0/0", "N starts at 1"]),
        ("--shard=1", &["\"1\" is no shard", "I/N"]),
        ("--shard=-1/2", &["is no shard"]),
        ("--shard=auto", &["Slurm array", "Kubernetes indexed Job", "I/N"]),
    ] {
        let eval = ["eval", "--model", "none", "--data", "none", "--shard-folder", text(folder.path()), shard];
        refused(&eval, words);
    }
    let several = ["eval", "--model", "a", "--model", "b", "--data", "c", "--shard=0/2", "--shard-folder", "d"];
    refused(&several, &["--shard", "one --model"]);
}

#[test]
fn auto_reads_the_job() {
    let auto = |job: &[(&str, &str)]| {
        let job: HashMap<String, String> = job.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        Shard::of("auto", |name| job.get(name).cloned()).map_err(|e| e.to_string())
    };
    let slurm = |id, min, max, count, step| {
        let names = ["ID", "MIN", "MAX", "COUNT", "STEP"].map(|n| format!("SLURM_ARRAY_TASK_{n}"));
        let values = [id, min, max, count, step];
        auto(&names.iter().map(String::as_str).zip(values).collect::<Vec<_>>())
    };
    assert_eq!(slurm("2", "0", "3", "4", "1"), Ok(Shard { index: 2, count: 4 }));
    assert_eq!(slurm("9", "5", "13", "5", "2"), Ok(Shard { index: 2, count: 5 }));
    // --array=0,2,5
    assert!(slurm("2", "0", "5", "3", "1").is_err_and(|e| e.contains("equal steps")));
    let pod = |index, count| auto(&[("JOB_COMPLETION_INDEX", index), ("JOB_COMPLETIONS", count)]);
    assert_eq!(pod("3", "4"), Ok(Shard { index: 3, count: 4 }));
    assert!(pod("4", "4").is_err_and(|e| e.contains("at most 3")));
    assert!(pod("x", "4").is_err_and(|e| e.contains("JOB_COMPLETION_INDEX=x")));
    let forgotten = auto(&[("JOB_COMPLETION_INDEX", "1")]);
    assert!(forgotten.is_err_and(|e| e.contains("JOB_COMPLETIONS")));
}

/// The blocks of a language in docs/cluster.md.
fn blocks(language: &str) -> Vec<String> {
    let page = std::fs::read_to_string("docs/cluster.md").expect("the page");
    let fence = format!("```{language}\n");
    page.split(&fence).skip(1).map(|rest| rest.split("```").next().expect("an end").to_string()).collect()
}

/// A folder with what the recipes name, and the metrics of one run.
fn site() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = trained(dir.path(), &[]);
    let (parts, file) = (dir.path().join("parts"), dir.path().join("parts.safetensors"));
    std::fs::rename(data, &parts).expect("renamed");
    std::fs::rename(model, &file).expect("renamed");
    let eval = ["eval", "--model", "parts.safetensors", "--data", "parts", "--json", "-q"];
    let one = binary().current_dir(&dir).args(eval).output().expect("the binary runs");
    (dir, out(&one))
}

/// Stands for Slurm: runs a script's array task after task, and a wrapped command at once.
#[cfg(unix)]
const SBATCH: &str = r#"#!/bin/bash
set -euo pipefail
for last; do :; done
case "$1" in
--parsable)
    most=$(sed -n 's/^#SBATCH --array=0-//p' "$last")
    export SLURM_CPUS_PER_TASK=2 SLURM_ARRAY_TASK_MIN=0 SLURM_ARRAY_TASK_MAX=$most SLURM_ARRAY_TASK_STEP=1
    export SLURM_ARRAY_TASK_COUNT=$((most + 1))
    for SLURM_ARRAY_TASK_ID in $(seq 0 "$most"); do
        export SLURM_ARRAY_TASK_ID
        bash "$last" >&2
    done
    echo 1
    ;;
--dependency=afterok:1) bash -c "$last" ;;
*) exit 9 ;;
esac
"#;

#[cfg(unix)]
#[test]
fn the_recipe_for_slurm_works() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, one) = site();
    let [script, submission] = &blocks("bash")[..] else { panic!("a script and its submission") };
    std::fs::write(dir.path().join("eval.sh"), script).expect("written");
    let tools = dir.path().join("tools");
    std::fs::create_dir(&tools).expect("a folder");
    std::fs::write(tools.join("sbatch"), SBATCH).expect("written");
    std::fs::set_permissions(tools.join("sbatch"), std::fs::Permissions::from_mode(0o755)).expect("executable");
    std::os::unix::fs::symlink(binary().get_program(), tools.join("hotad")).expect("a link");
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").expect("a path"));
    let mut bash = std::process::Command::new("bash");
    let run = bash.current_dir(&dir).env("PATH", path).args(["-euo", "pipefail", "-c", submission]).output();
    let run = run.expect("bash runs");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let merged = std::fs::read_to_string(dir.path().join("metrics.json")).expect("merged");
    assert_eq!(timeless(&merged), timeless(&one));
}

/// The command of a manifest, in a folder that stands for the volume.
fn command_of(manifest: &str, volume: &Path) -> Vec<String> {
    let line = manifest.lines().find_map(|line| line.trim().strip_prefix("command: ")).expect("a command");
    let words: Vec<String> = serde_json::from_str(line).expect("a list of texts");
    assert_eq!(words[0], "hotad");
    words[1..].iter().map(|word| word.replace("/data", text(volume))).collect()
}

#[test]
fn the_recipe_for_kubernetes_works() {
    let (dir, _) = site();
    let [job, merge] = &blocks("yaml")[..] else { panic!("a manifest of the shards and one of the merge") };
    assert!(job.contains("completionMode: Indexed") && job.contains("completions: 4") && job.contains("value: \"4\""));
    let pod = command_of(job, dir.path());
    for index in ["0", "1", "2", "3"] {
        let job = [("JOB_COMPLETION_INDEX", index), ("JOB_COMPLETIONS", "4")];
        let run = binary().args(&pod).envs(job).output().expect("the binary runs");
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    }
    let merge = command_of(merge, dir.path());
    assert!(binary().args(&merge).output().expect("the binary runs").status.success());
    let merged = std::fs::read_to_string(dir.path().join("metrics.json")).expect("merged");
    let data = text(&dir.path().join("parts")).to_string();
    let one = ok(&["eval", "--model", &format!("{data}.safetensors"), "--data", &data, "--json", "-q"]);
    assert_eq!(timeless(&merged), timeless(&one));
}
