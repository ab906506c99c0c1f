//! Scores, maps and metrics within a region.

use std::path::{Path, PathBuf};

use hotad::{Format, Frame, Inspector, MapSize, Options, Roi, Values, Verdict};
use hotad_engine::data::picture::{Mask, Picture};
use hotad_engine::device::Device;
use hotad_models::model::Model;
use serde_json::Value;

use crate::common::pictures::read_png;
use crate::common::{bars, ok, text, train_small};
use crate::{AT, BOX, FRAME, POLYGON, SIZE, UNCHANGED, data_in_frames, framed, scored, trained_within};

/// Values of a frame's map within the picture.
fn cropped(map: &[f32]) -> Vec<f32> {
    (0..SIZE).flat_map(|y| map[(AT.1 + y) * FRAME.1 + AT.0..][..SIZE].to_vec()).collect()
}

fn inside(roi: &str) -> Vec<bool> {
    roi.parse::<Roi>().expect("a region").inside_frame(FRAME).expect("it fits")
}

fn metrics(model: &Path, data: &Path) -> Value {
    without_times(&ok(&["eval", "--model", text(model), "--data", text(data), "--json", "-q", "--device", "cpu"]))
}

/// Metrics that are printed, without those that differ from run to run.
fn without_times(line: &str) -> Value {
    let mut metrics: Value = serde_json::from_str(line).expect("JSON");
    for other in ["data", "ms_per_image", "notes"] {
        metrics.as_object_mut().expect("an object").remove(other);
    }
    metrics
}

#[test]
fn a_box_is_as_cropping_by_hand() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    data_in_frames(dir);
    let within = trained_within(dir, BOX);
    // Trained on cropped images: the same weights and thresholds.
    let by_hand = dir.join("by-hand.safetensors");
    train_small(&dir.join("data"), &by_hand, &UNCHANGED);
    let normal = Model::load(&within, &Device::CPU).expect("a model").calibration.normal_pixel;
    for folder in ["test/good", "test/crack"] {
        let [a, b] = [(&within, "frames"), (&by_hand, "data")]
            .map(|(model, data)| scored(model, &dir.join(data).join(folder), &dir.join(format!("maps-{data}"))));
        assert_eq!(a.len(), 4);
        for ((score, map), (by_hand, of_crop)) in a.iter().zip(&b) {
            assert_eq!(score, by_hand);
            assert!(&cropped(map) == of_crop, "maps differ");
            assert!(map.iter().zip(inside(BOX)).all(|(v, inside)| inside || *v == normal));
        }
    }
    // The same metrics, those of pixels too: defects outside are not counted.
    let one_run = metrics(&within, &dir.join("frames"));
    assert_eq!(one_run, metrics(&by_hand, &dir.join("data")));
    let (shards, frames) = (dir.join("shards"), dir.join("frames"));
    for shard in ["0/2", "1/2"] {
        let args = ["eval", "--model", text(&within), "--data", text(&frames), "--shard", shard, "--shard-folder"];
        ok(&[&args[..], &[text(&shards), "-q", "--device", "cpu"]].concat());
    }
    assert_eq!(without_times(&ok(&["merge", text(&shards)])), one_run, "in shards");
    // Cleared, the model is the one that was trained by hand.
    let cleared = dir.join("cleared.safetensors");
    let said = ok(&["roi", text(&within), "--clear", "--out", text(&cleared), "-q"]);
    assert!(said.starts_with("none"), "{said}");
    let [a, b] = [&cleared, &by_hand].map(|m| scored(m, &dir.join("data/test"), &dir.join("maps")));
    assert_eq!(a, b);
}

#[test]
fn what_is_outside_changes_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    data_in_frames(dir);
    let mask = dir.join("mask.png");
    let values = inside(POLYGON).iter().map(|inside| f32::from(u8::from(*inside)) / 255.0).collect();
    Picture { height: FRAME.0, width: FRAME.1, channels: 1, values }.write_png(&mask).expect("a mask");
    assert_eq!(Mask::read(&mask).expect("a mask").defect, inside(POLYGON), "inside is above 0");
    let mut all = Vec::new();
    for roi in [POLYGON, &format!("mask:{}", text(&mask))] {
        let model = trained_within(dir, roi);
        let normal = Model::load(&model, &Device::CPU).expect("a model").calibration.normal_pixel;
        for seed in 0..2 {
            let images = dir.join(format!("changed-{seed}"));
            std::fs::create_dir_all(&images).expect("a folder");
            for i in 0..3 {
                let (mut frame, other) = (framed(&bars(SIZE, 60 + i), 9), framed(&bars(SIZE, 7), seed + 1));
                let outside = inside(POLYGON).into_iter().enumerate().filter(|(_, inside)| !inside);
                outside.for_each(|(at, _)| frame.values[at] = other.values[(at * 7 + 3) % other.values.len()]);
                frame.write_png(&images.join(format!("{i}.png"))).expect("written");
            }
            let scores = scored(&model, &images, &dir.join("maps"));
            let is_normal = |(v, inside): (&f32, bool)| inside || *v == normal;
            assert!(scores.iter().all(|(_, map)| map.iter().zip(inside(POLYGON)).all(is_normal)));
            all.push(scores);
        }
        std::fs::remove_file(&model).expect("removed");
    }
    assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "other pixels outside, or a mask instead of its polygon");
}

#[test]
fn the_inspector_says_what_the_command_line_says() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    data_in_frames(dir);
    let plain = dir.join("plain.safetensors");
    train_small(&dir.join("data"), &plain, &["--epochs", "2"]);
    for roi in [BOX, POLYGON] {
        let model: PathBuf = dir.join("with.safetensors");
        ok(&["roi", text(&plain), "--set", roi, "--out", text(&model), "--force", "-q"]);
        let images = dir.join("frames/test/crack");
        let lines = scored(&model, &images, &dir.join("maps"));
        let options = || Options { device: "cpu".into(), map: MapSize::Frame, ..Options::default() };
        let own = Inspector::open(&model, options()).expect("a model");
        // At open, over the model's own.
        let given = Options { roi: Some(roi.parse().expect("a region")), ..options() };
        let given = Inspector::open(&plain, given).expect("a model");
        assert_eq!(own.info().roi, given.info().roi);
        for mut inspector in [own, given] {
            // Low enough for some regions.
            let values = Values { image: 0.0, pixel: inspector.info().pixel_threshold / 2.0 };
            inspector.thresholds().set(values, "a test").expect("thresholds");
            let mut found = 0;
            for (i, (score, map)) in lines.iter().enumerate() {
                let pixels = read_png(&images.join(format!("{i:03}.png"))).to_luma8().into_raw();
                let frame = Frame::new(&pixels, FRAME.0, FRAME.1, FRAME.1, Format::Gray8).expect("a frame");
                let mut verdict = Verdict::default();
                inspector.inspect(&frame, &mut verdict).expect("a verdict");
                assert_eq!(f64::from(verdict.score), f64::from(*score as f32));
                assert_eq!(verdict.map_size, FRAME);
                assert!(&verdict.map == map, "{roi}: maps differ");
                let bounds = inspector.info().roi.expect("a region").bounds();
                for region in &verdict.regions {
                    let (left, top) = (region.left as usize, region.top as usize);
                    assert!(left >= bounds.left && top >= bounds.top);
                    assert!(left + region.width as usize <= bounds.left + bounds.width);
                    assert!(top + region.height as usize <= bounds.top + bounds.height);
                }
                found += verdict.regions.len();
            }
            assert!(found > 0, "{roi}: no regions");
        }
    }
}
