//! Jobs of the library do what the command line does, and tell an observer how far they are.

mod common;

use std::cell::RefCell;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use common::{bars, ok, small_data, text, train_small, trained};
use hotad::{Format, Frame, Inspector, Options, Verdict};
use hotad_engine::data::picture::Picture;
use hotad_engine::data::roi::Roi;
use hotad_engine::device::Device;
use hotad_engine::model_file::ModelFile;
use hotad_engine::observer::{Observer, Progress};
use hotad_engine::tensor::Tensor;
use hotad_engine::{Error, interrupt};
use hotad_models::config;
use hotad_models::jobs::{Begin, CalibrateJob, EvaluateJob, TrainJob};
use hotad_models::model::Model;
use serde_json::Value;

/// One test at a time: a request to stop is of the whole process.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The job of [`train_small`].
fn small_job(data: &Path, out: &Path) -> TrainJob {
    let mut job = TrainJob { out: Some(out.into()), ..TrainJob::new("paedid", data) };
    for assignment in common::QUICK.iter().filter(|arg| **arg != "--set").chain(&["epochs=2"]) {
        config::set(&mut job.settings, assignment).expect("a setting");
    }
    job
}

/// A job whose features and discriminator are trained in two epochs.
fn small_simplenet(data: &Path, out: &Path) -> TrainJob {
    let mut job = TrainJob { out: Some(out.into()), ..TrainJob::new("simplenet", data) };
    for assignment in ["backbone=''", "image_size=32", "backbone_epochs=1", "epochs=2", "hidden=8"] {
        config::set(&mut job.settings, assignment).expect("a setting");
    }
    job
}

fn bytes(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A task and how far it was each time it was told: units done and in all.
type Told = (String, Vec<(u64, u64)>);

/// Remembers what it is told, and asks to stop at a number of steps.
#[derive(Default)]
struct Recorder {
    lines: RefCell<Vec<String>>,
    warnings: RefCell<Vec<String>>,
    tasks: RefCell<Vec<Told>>,
    /// Whether the task told last is under way.
    under_way: RefCell<bool>,
    stop_at: Option<u64>,
}

impl Observer for Recorder {
    fn say(&self, line: &str) {
        self.lines.borrow_mut().push(line.into());
    }

    fn warn(&self, warning: &str) {
        self.warnings.borrow_mut().push(warning.into());
    }

    fn progress(&self, progress: &Progress) {
        let mut tasks = self.tasks.borrow_mut();
        if !self.under_way.replace(true) {
            tasks.push((progress.task.into(), Vec::new()));
        }
        let (task, told) = tasks.last_mut().expect("a task");
        assert_eq!(task, progress.task, "one task at a time");
        told.push((progress.done, progress.total));
        if self.stop_at == Some(progress.done) {
            interrupt::request();
        }
    }

    fn ended(&self) {
        self.under_way.replace(false);
    }
}

#[test]
fn a_training_writes_the_file_of_the_command_line() {
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a folder");
    let (data, typed) = trained(dir.path(), &["--seed", "3", "--holdout", "0.3", "--group", "none"]);
    let out = dir.path().join("job.safetensors");
    let job = TrainJob { seed: 3, holdout: 0.3, group: "none".into(), ..small_job(&data, &out) };
    let model = job.run(&()).expect("trained");
    assert!(bytes(&out) == bytes(&typed), "the files differ");
    assert_eq!(model.provenance.training_images, 17);
    let beside = std::fs::read_dir(dir.path()).expect("a folder").flatten().map(|e| e.file_name());
    assert!(!beside.into_iter().any(|name| name.to_string_lossy().ends_with(".checkpoint")), "a checkpoint is left");
    // Without a place nothing is written; the model is the same.
    let again = TrainJob { out: None, ..job }.run(&()).expect("trained");
    let unwritten = dir.path().join("again.safetensors");
    again.save(&unwritten).expect("saved");
    assert!(bytes(&unwritten) == bytes(&typed), "the models differ");
}

#[test]
fn a_calibration_writes_the_file_of_the_command_line() {
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = trained(dir.path(), &[]);
    let (new, typed, out) = (dir.path().join("new"), dir.path().join("typed"), dir.path().join("job"));
    std::fs::create_dir(&new).expect("a folder");
    for i in 0..12 {
        bars(40, 500 + i).write_png(&new.join(format!("{i:03}.png"))).expect("a picture");
    }
    let calibrate = ["calibrate", text(&model), "--out", text(&typed), "--group", "none", "--data"];
    let job = |data: &Path| {
        let (out, group) = (Some(out.clone()), "none".into());
        CalibrateJob { out, group, force: true, ..CalibrateJob::new(&model, data) }
    };
    ok(&[&calibrate[..], &[text(&new), "--false-alarm-rate", "0.2"]].concat());
    let done = CalibrateJob { false_alarm_rate: 0.2, ..job(&new) }.run(&()).expect("calibrated");
    assert!(bytes(&out) == bytes(&typed), "the files differ");
    assert_ne!(done.before.image_rule, done.model.calibration.image_rule);
    ok(&[&calibrate[..], &[text(&data), "--f1", "--force"]].concat());
    let careful = CalibrateJob { f1: true, force: false, ..job(&data) }.run(&()).map(drop);
    let careful = careful.expect_err("it is another file").to_string();
    assert!(careful.contains("job: is there already") && !careful.contains("--"), "{careful}");
    let done = CalibrateJob { f1: true, ..job(&data) }.run(&()).expect("calibrated");
    assert!(bytes(&out) == bytes(&typed), "the files differ with --f1");
    assert_eq!(done.model.provenance.threshold_images.len(), 8);
}

#[test]
fn an_evaluation_gives_the_metrics_of_the_command_line() {
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = trained(dir.path(), &["--set", "alpha=0.1"]);
    let eval = ["eval", "--model", text(&model), "--data", text(&data), "--json", "-q", "--seed", "5"];
    let job = EvaluateJob { seed: 5, ..EvaluateJob::new(&model, &data) };
    let mut other = job.clone();
    config::set(&mut other.settings, "alpha=0.9").expect("a setting");
    for (job, more) in [(job, &[][..]), (other, &["--set", "alpha=0.9"])] {
        let mut typed: Value = serde_json::from_str(&ok(&[&eval[..], more].concat())).expect("JSON");
        let evaluation = job.run(&()).expect("evaluated");
        assert_eq!(evaluation.scored.len(), 8);
        let text = serde_json::to_string(&evaluation.metrics).expect("plain data");
        let mut own: Value = serde_json::from_str(&text).expect("JSON");
        // The one number that is measured by the clock.
        for metrics in [&mut typed, &mut own] {
            metrics["ms_per_image"] = Value::Null;
        }
        assert_eq!(own, typed, "{more:?}");
    }
}

#[test]
fn an_observer_is_told_how_far_a_job_is() {
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a folder");
    let (data, out) = (dir.path().join("data"), dir.path().join("m.safetensors"));
    small_data(&data, 40);
    let observer = Recorder::default();
    let job = TrainJob { group: "none".into(), ..small_job(&data, &out) };
    let model = job.run(&observer).expect("trained");
    EvaluateJob::new(&out, &data).run_on(&model, &observer).expect("evaluated");
    let tasks = observer.tasks.take();
    // 19 images in batches of 4 are 5 steps an epoch.
    for (task, total) in [("training", 10), ("scoring", 8)] {
        let of_task: Vec<_> = tasks.iter().filter(|(name, _)| name == task).collect();
        let [(_, told)] = &of_task[..] else { panic!("{task} is one of {tasks:?}") };
        assert!(told.iter().all(|(_, t)| *t == total), "{told:?}");
        assert!(told.is_sorted() && told.last() == Some(&(total, total)), "{told:?}");
    }
    assert!(!observer.under_way.take(), "every task has ended");
    let lines = observer.lines.take();
    assert!(lines.contains(&"paedid: 19 normal images to learn from, 5 held out".into()), "{lines:?}");
}

#[test]
fn an_observer_is_told_how_far_a_calibration_is() {
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = trained(dir.path(), &[]);
    let new = dir.path().join("new");
    std::fs::create_dir(&new).expect("a folder");
    for i in 0..5 {
        bars(40, 600 + i).write_png(&new.join(format!("{i:03}.png"))).expect("a picture");
    }
    let told = |job: CalibrateJob| {
        let observer = Recorder::default();
        job.run(&observer).expect("calibrated");
        assert!(!observer.under_way.take(), "every task has ended");
        observer
            .tasks
            .take()
            .into_iter()
            .map(|(name, told)| (name, *told.last().expect("progress")))
            .collect::<Vec<_>>()
    };
    let job = CalibrateJob { group: "none".into(), ..CalibrateJob::new(&model, &new) };
    let tasks = told(job.clone());
    assert_eq!(tasks[0], ("scoring normal images".into(), (5, 5)), "{tasks:?}");
    let (name, (done, total)) = &tasks[1];
    assert!(name == "scoring synthetic defects" && done == total && *total > 0, "{tasks:?}");
    let tasks = told(CalibrateJob { f1: true, data, ..job });
    assert_eq!(tasks, [("scoring labelled images".into(), (8, 8))]);
}

/// Each job tells what it has noticed about its own images, and of no others.
#[test]
fn what_images_give_notice_of_is_told_by_their_job() {
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = trained(dir.path(), &[]);
    let warned = |data: &Path| {
        let observer = Recorder::default();
        EvaluateJob::new(&model, data).run(&observer).expect("evaluated");
        observer.warnings.take().iter().filter(|w| w.contains("squashed")).count()
    };
    assert_eq!(warned(&data), 0);
    let long = Picture { values: vec![0.4; 200 * 40], height: 40, width: 200, channels: 1 };
    long.write_png(&data.join("test/good/long.png")).expect("a picture");
    assert_eq!([warned(&data), warned(&data)], [1, 1]);
    std::fs::remove_file(data.join("test/good/long.png")).expect("removed");
    assert_eq!(warned(&data), 0);
}

/// A request to stop is for jobs: an inspection in the same process goes on.
#[test]
fn an_inspection_is_not_stopped_with_a_job() {
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a folder");
    let (data, out) = (dir.path().join("data"), dir.path().join("m.safetensors"));
    small_data(&data, 40);
    let set = ["latent=4", "epochs=1", "batch=4", "discriminator_width=4", "test_steps=3"];
    let set = set.iter().flat_map(|setting| ["--set", setting]);
    let train = ["train", "anogan", "--data", text(&data), "--out", text(&out), "-q"];
    ok(&train.into_iter().chain(set).collect::<Vec<_>>());
    let mut inspector = Inspector::open(&out, Options::default()).expect("a model");
    let (gray, mut verdict) = (vec![100; 40 * 40], Verdict::default());
    let frame = Frame::new(&gray, 40, 40, 40, Format::Gray8).expect("a frame");
    inspector.inspect(&frame, &mut verdict).expect("a verdict");
    let (before, model) = (verdict.score, Model::load(&out, &Device::CPU).expect("a model"));
    interrupt::request();
    let inspected = inspector.inspect(&frame, &mut verdict);
    let spec = model.detector.image();
    let image = Tensor::new(vec![0.5; spec.len()], &[1, spec.height, spec.width, spec.channels]).expect("an image");
    let scored = model.score(&image).map(drop);
    interrupt::withdraw();
    inspected.expect("a verdict");
    assert_eq!(verdict.score, before);
    assert!(matches!(scored, Err(Error::Interrupted(None))), "a part of a job is stopped: {scored:?}");
}

#[test]
fn an_observer_stops_a_training_that_is_continued() {
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a folder");
    let [data, whole, out] = ["data", "whole.safetensors", "parts.safetensors"].map(|name| dir.path().join(name));
    small_data(&data, 40);
    train_small(&data, &whole, &["--epochs", "2"]);
    let mut job = small_job(&data, &out);
    let stopped = job.run(&Recorder { stop_at: Some(4), ..Recorder::default() });
    interrupt::withdraw();
    let Err(Error::Interrupted(Some(checkpoint))) = stopped.map(drop) else { panic!("it is interrupted") };
    assert!(checkpoint.is_file() && !out.exists());
    let refused = job.run(&()).map(drop).expect_err("a checkpoint is there").to_string();
    assert!(refused.contains("is of an interrupted run") && !refused.contains("--"), "{refused}");
    job.begin = Begin::Resume;
    job.run(&()).expect("continued");
    assert!(bytes(&out) == bytes(&whole), "the files differ");
    assert!(!checkpoint.exists(), "the checkpoint is removed");
}

#[test]
fn a_training_that_starts_from_a_model_is_continued_to_the_same_bytes() {
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a folder");
    let data = dir.path().join("data");
    small_data(&data, 40);
    for small in [small_job, small_simplenet] {
        let folder = dir.path().join(small(&data, &data).method);
        std::fs::create_dir(&folder).expect("a folder");
        let [first, whole, out] = ["first", "whole", "parts"].map(|name| folder.join(name));
        TrainJob { group: "none".into(), ..small(&data, &first) }.run(&()).expect("trained");
        let job = |out: &Path, begin| TrainJob {
            init: Some(first.clone()),
            group: "none".into(),
            begin,
            ..small(&data, out)
        };
        job(&whole, Begin::Afresh).run(&()).expect("trained");
        let stopped = job(&out, Begin::Afresh).run(&Recorder { stop_at: Some(4), ..Recorder::default() });
        interrupt::withdraw();
        assert!(matches!(stopped, Err(Error::Interrupted(Some(_)))), "it is interrupted");
        let other = TrainJob { init: None, ..job(&out, Begin::Resume) };
        let refused = other.run(&()).map(drop).expect_err("a checkpoint of another run").to_string();
        assert!(refused.contains("SHA-256 of argument init was") && refused.contains("is not set"), "{refused}");
        job(&out, Begin::Resume).run(&()).expect("continued");
        assert!(bytes(&out) == bytes(&whole), "the files differ");
    }
}

/// Also settings and thresholds of a member decide what an ensemble becomes.
#[test]
fn a_run_is_of_the_whole_files_that_it_is_built_on() {
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a folder");
    let [data, first, second] = ["data", "first", "second"].map(|name| dir.path().join(name));
    small_data(&data, 40);
    train_small(&data, &first, &["--epochs", "1", "--group", "none"]);
    train_small(&data, &second, &["--epochs", "1", "--group", "none", "--set", "lambda=1"]);
    let members = vec![first, second.clone()];
    let job = TrainJob { members, group: "none".into(), ..TrainJob::new("score-ensemble", &data) };
    let chosen = || job.select(&()).expect("a selection").chosen;
    let before = chosen();
    assert_eq!(before, chosen());
    let mut file = ModelFile::load(&second).expect("a model");
    file.calibration.image_threshold += 1.0;
    file.save(&second).expect("saved");
    assert_ne!(before, chosen());
}

/// A model that gives features has learned from images, which then judge no model on these features.
#[test]
fn what_a_backbone_has_learned_from_is_learned_from() {
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a folder");
    let [seen, data, first, out] = ["seen", "data", "first", "out"].map(|name| dir.path().join(name));
    small_data(&seen, 48);
    small_data(&data, 40);
    train_small(&seen, &first, &["--epochs", "1"]);
    let learned = ModelFile::load(&first).expect("a model").provenance.learned_images;
    let built = |method: &str, backbone: &Path| {
        let mut job = TrainJob::new(method, &data);
        job.settings.insert("backbone".into(), text(backbone).into());
        job
    };
    for method in ["patchcore", "padim", "simplenet"] {
        let selection = built(method, &first).select(&()).expect("a selection");
        assert!(learned.iter().all(|image| selection.learned.contains(image)), "{method}");
        assert_eq!(selection.learned.len(), learned.len() + selection.train.len(), "{method}");
        assert!(selection.chosen.contains_key("SHA-256 of the models built on"), "{method}");
        let none = built(method, Path::new("")).select(&()).expect("a selection");
        assert_eq!(none.learned.len(), none.train.len(), "{method}");
    }
    TrainJob { out: Some(out.clone()), ..built("patchcore", &first) }.run(&()).expect("trained");
    for entry in std::fs::read_dir(seen.join("train/good")).expect("images") {
        let from = entry.expect("an image").path();
        let name = from.file_name().expect("a name").to_str().expect("text");
        std::fs::copy(&from, data.join("test/good").join(format!("seen-{name}"))).expect("copied");
    }
    let notes = EvaluateJob::new(&out, &data).run(&()).expect("evaluated").metrics.notes;
    let left_out = format!("{} test images were learned from", learned.len());
    assert!(notes.iter().any(|note| note.starts_with(&left_out)), "{notes:?}");
    // What is built on a model looks where it looks.
    let region = |text: &str| Some(text.parse::<Roi>().expect("a region"));
    let mut file = ModelFile::load(&first).expect("a model");
    file.roi = region("box:0,0,30,30");
    file.save(&first).expect("saved");
    assert_eq!(built("padim", &first).select(&()).expect("a selection").roi, file.roi);
    let elsewhere = TrainJob { roi: region("box:0,0,20,20"), ..built("padim", &first) };
    let refused = elsewhere.select(&()).map(drop).expect_err("two regions").to_string();
    assert!(refused.contains("this backbone looks at another region of interest than this training"), "{refused}");
}

#[test]
fn a_job_names_the_field_that_is_wrong() {
    let _alone = alone();
    let job = || TrainJob::new("paedid", "nowhere");
    let members = vec!["m.safetensors".into()];
    for (job, words) in [
        (TrainJob { holdout: 1.5, ..job() }, "holdout: 1.5 is out of range"),
        (TrainJob { false_alarm_rate: 0.0, ..job() }, "false_alarm_rate: 0 is out of range"),
        (TrainJob { members, ..job() }, "members: paedid is not built on other models"),
        (
            TrainJob { init: Some("m".into()), ..TrainJob::new("padim", "nowhere") },
            "init: training of padim cannot start",
        ),
        (TrainJob::new("nothing", "nowhere"), "unknown method"),
        (job(), "nowhere: not a folder"),
    ] {
        let error = job.run(&()).map(drop).expect_err(words).to_string();
        assert!(error.contains(words), "{words:?} is not in: {error}");
    }
    let job = CalibrateJob { false_alarm_rate: 2.0, ..CalibrateJob::new("nowhere", "nowhere") };
    let error = job.run(&()).map(drop).expect_err("a share is out of range").to_string();
    assert!(error.contains("false_alarm_rate: 2 is out of range"), "{error}");
}
