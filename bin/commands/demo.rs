//! `hotad demo`: a data set of drawn parts, a model, a report.

use std::path::Path;
use std::time::Instant;

use hotad_engine::data::picture::Picture;
use hotad_engine::data::synth::{Kind, draw};
use hotad_engine::{Error, Result, random};
use hotad_models::Method;
use hotad_models::jobs::{Begin, EvaluateJob, TrainJob};
use hotad_models::paedid::Paedid;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use toml::Value;

use super::eval::{Evaluated, ReportTo, evaluate_to, print};
use super::train;
use crate::args::{Common, DemoArgs, IMAGES};
use crate::{OK, output};

/// Pixels along one side of a demo image.
const SIZE: usize = 128;
/// Normal training images, normal test images, test images of each kind of defect.
const COUNTS: (usize, usize, usize) = (100, 20, 10);

/// A brushed plate with a ring and four holes; pose, light and grain vary.
fn plate(rng: &mut ChaCha8Rng) -> Picture {
    let side = SIZE as f32;
    let centre = (0.5 * side + rng.random_range(-1.0..1.0), 0.5 * side + rng.random_range(-1.0..1.0));
    let (light, turn) = (rng.random_range(0.95..1.05), rng.random_range(-0.02..0.02));
    let grain: Vec<f32> = (0..SIZE).map(|_| rng.random_range(-0.02..0.02)).collect();
    let mut values = Vec::with_capacity(3 * SIZE * SIZE);
    for (y, grain) in grain.iter().enumerate() {
        for x in 0..SIZE {
            let (dy, dx) = ((y as f32 - centre.0) / side, (x as f32 - centre.1) / side);
            let r = (dy * dy + dx * dx).sqrt();
            let ring = step(0.02, 0.055 - (r - 0.24).abs());
            let holes = [(1.0, 1.0), (1.0, -1.0), (-1.0, 1.0), (-1.0, -1.0)].iter().map(|(sy, sx)| {
                let (hy, hx) = (0.34 * (sy + turn * sx), 0.34 * (sx - turn * sy));
                step(0.02, 0.06 - ((dy - hy).powi(2) + (dx - hx).powi(2)).sqrt())
            });
            let hole = holes.fold(0.0, f32::max);
            let shade = light * (0.62 + 0.12 * dy) + grain + rng.random_range(-0.012..0.012);
            for (metal, brass) in [(1.0, 1.15), (1.02, 0.9), (1.05, 0.45)] {
                let surface = shade * (metal * (1.0 - ring) + brass * ring);
                values.push((surface * (1.0 - hole) + 0.2 * hole).clamp(0.0, 1.0));
            }
        }
    }
    Picture { height: SIZE, width: SIZE, channels: 3, values }
}

/// 0 below -w, 1 above w, linear between.
fn step(w: f32, v: f32) -> f32 {
    (0.5 + 0.5 * v / w).clamp(0.0, 1.0)
}

fn write_data(root: &Path, seed: u64) -> Result<()> {
    let (train, good, each) = COUNTS;
    let image = |purpose: &str, i: usize| plate(&mut random::stream(seed, purpose, i as u64));
    for (folder, count) in [("train/good", train), ("test/good", good)] {
        output::folder(&root.join(folder))?;
        for i in 0..count {
            image(folder, i).write_png(&root.join(folder).join(format!("{i:03}.png")))?;
        }
    }
    for (kind, name) in [(Kind::Crack, "crack"), (Kind::Scratch, "scratch"), (Kind::Spot, "spot")] {
        let (folder, truth) = (root.join("test").join(name), root.join("ground_truth").join(name));
        output::folder(&folder)?;
        output::folder(&truth)?;
        for i in 0..each {
            let mut rng = random::stream(seed, name, i as u64);
            let (picture, mask) = draw(kind, &plate(&mut rng), &mut rng);
            picture.write_png(&folder.join(format!("{i:03}.png")))?;
            let values = mask.defect.iter().map(|d| f32::from(u8::from(*d))).collect();
            let mask = Picture { height: SIZE, width: SIZE, channels: 1, values };
            mask.write_png(&truth.join(format!("{i:03}_mask.png")))?;
        }
    }
    Ok(())
}

/// Refuses a folder that holds something else than an earlier demo, which may be written over.
fn refuse_strangers(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !["data", "report"].contains(&&*name) && !name.starts_with("model.safetensors") && !name.starts_with('.') {
            let reason = format!("--out {}: holds {name:?}, which is of no demo; name a new folder", folder.display());
            return Err(Error::Config(reason));
        }
    }
    Ok(())
}

/// The training of the demo.
fn job(data: &Path, model: &Path, common: &Common) -> TrainJob {
    let mut settings = toml::toml! {
        network = [8, 16, 32, 64]
        epochs = 60
    };
    settings.extend(common.batch.map(|batch| ("batch".into(), Value::Integer(batch.into()))));
    let seed = common.seed;
    let (out, begin) = (Some(model.into()), Begin::Over);
    TrainJob { settings, seed, out, begin, ..TrainJob::new(Paedid::NAME, data) }
}

/// Makes a data set, trains PAEDID on it, evaluates and writes a report.
pub fn run(args: &DemoArgs, common: &Common) -> Result<u8> {
    let (data, model, report) = (args.out.join("data"), args.out.join("model.safetensors"), args.out.join("report"));
    refuse_strangers(&args.out)?;
    output::folder(&args.out)?;
    common.say(&format!("drawing a data set of plates into {}", data.display()));
    write_data(&data, common.seed)?;
    if args.data_only {
        return Ok(OK);
    }
    train::train(job(&data, &model, common), Instant::now(), common)?;
    output::folder(&report)?;
    let to = ReportTo { folder: &report, images: IMAGES.into(), explain: None };
    let batch = common.score_batch();
    let job = EvaluateJob { batch, seed: common.seed, device: common.device()?, ..EvaluateJob::new(&model, &data) };
    let Evaluated { metrics, written } = evaluate_to(&job, Some(&to), common)?;
    print(&metrics)?;
    written?;
    output::line(&format!("{:24} {}", "report", report.join("report.html").display()))?;
    Ok(OK)
}
