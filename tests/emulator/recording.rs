//! Recorded work: the same results as the work itself, and only where it can be repeated.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hotad_engine::planned::{Outputs, Planned};
use hotad_engine::tensor::Tensor;
use hotad_engine::until::Until;
use hotad_engine::{Error, Result, interrupt};
use hotad_kernels::device::emulator::{self, Settings};
use hotad_kernels::device::{Buffer, Device};
use hotad_kernels::elementwise::{add, affine};
use hotad_models::model::Model;

use crate::alone::alone;
use crate::{open, small_models};

/// An emulated device that looks at no access: what is asked here is which work is repeated.
fn unchecked() -> Option<Device> {
    open(&Settings { check: false, ..Settings::default() }).map(Device::Gpu)
}

fn tensor(values: &[f32]) -> Tensor {
    Tensor::new(values.to_vec(), &[values.len()]).expect("lengths fit")
}

/// `2 x + 1 + weights`, and how often it was asked for.
struct Work {
    weights: Mutex<Buffer>,
    calls: AtomicUsize,
}

impl Work {
    fn new(device: &Device, weights: &[f32]) -> Self {
        Self { weights: Mutex::new(device.upload(weights.to_vec()).expect("memory")), calls: AtomicUsize::new(0) }
    }

    fn run(&self, x: &Tensor, device: &Device) -> Result<Outputs> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let x = x.to(device)?;
        let (mut twice, weights) = (device.alloc(x.len())?, self.weights.lock().expect("whole"));
        affine(x.view(), 2.0, 1.0, &mut twice)?;
        let mut sum = twice.duplicate()?;
        add(&mut sum, &*weights)?;
        Ok([twice, sum].into_iter().collect())
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
}

/// What work gives for `x`, done or replayed.
fn run(planned: &Planned, x: &[f32], device: &Device, work: &Work) -> Result<Vec<Vec<f32>>> {
    let values = planned.run(&tensor(x), device, |images| work.run(images, device))?;
    Ok(values.iter().map(|values| values.to_vec()).collect())
}

#[test]
fn the_third_batch_of_a_shape_is_replayed() {
    let Some(device) = unchecked() else { return };
    let (work, planned) = (Work::new(&device, &[10.0, 20.0]), Planned::default());
    for i in 0..5 {
        let x = i as f32;
        let values = run(&planned, &[x, -x], &device, &work).expect("runs");
        assert_eq!(values, [[2.0 * x + 1.0, 1.0 - 2.0 * x], [2.0 * x + 11.0, 21.0 - 2.0 * x]]);
    }
    assert_eq!(work.calls(), 2);
}

#[test]
fn each_shape_has_a_recording_of_its_own() {
    let Some(device) = unchecked() else { return };
    let (work, planned) = (Work::new(&device, &[10.0; 3]), Planned::default());
    let wide = Work::new(&device, &[10.0; 4]);
    for i in 0..4 {
        let x = i as f32;
        let narrow = run(&planned, &[x; 3], &device, &work).expect("runs");
        assert_eq!(narrow[1], [2.0 * x + 11.0; 3]);
        let values = run(&planned, &[-x; 4], &device, &wide).expect("runs");
        assert_eq!(values[1], [11.0 - 2.0 * x; 4]);
    }
    assert_eq!((work.calls(), wide.calls()), (2, 2));
}

#[test]
fn new_weights_are_seen_whether_they_are_written_or_exchanged() {
    let Some(device) = unchecked() else { return };
    let (work, planned) = (Work::new(&device, &[10.0]), Planned::default());
    let again = || run(&planned, &[1.0], &device, &work).expect("runs")[1][0];
    assert_eq!([again(), again(), again()], [13.0; 3]);
    add(&mut *work.weights.lock().expect("whole"), &device.upload(vec![5.0]).expect("memory")).expect("adds");
    assert_eq!((again(), work.calls()), (18.0, 2));
    *work.weights.lock().expect("whole") = device.upload(vec![100.0]).expect("memory");
    assert_eq!((again(), work.calls()), (103.0, 3), "the memory of the first weights is another buffer's by now");
    assert_eq!((again(), work.calls()), (103.0, 3));
}

#[test]
fn work_that_looks_at_values_is_never_replayed() {
    let Some(device) = unchecked() else { return };
    let (work, planned) = (Work::new(&device, &[10.0]), Planned::default());
    for i in 0..4 {
        let looks = |images: &Tensor| {
            let all = work.run(images, &device)?;
            let first = all[0].to_vec()?[0];
            Ok(std::iter::once(device.upload(vec![first.max(3.0)])?).collect())
        };
        let values = planned.run(&tensor(&[i as f32]), &device, looks).expect("runs");
        assert_eq!(values[0][..], [(2.0 * i as f32 + 1.0).max(3.0)]);
    }
    assert_eq!(work.calls(), 4);
}

#[test]
fn a_device_that_is_lost_while_work_is_replayed_says_so() {
    let Some(gpu) = open(&Settings { check: false, fault: Some(emulator::Fault::Loss(7)), ..Settings::default() })
    else {
        return;
    };
    let device = Device::Gpu(gpu);
    let (work, planned) = (Work::new(&device, &[10.0]), Planned::default());
    let again = || run(&planned, &[1.0], &device, &work);
    assert_eq!([again().expect("runs"), again().expect("runs")], [[[3.0], [13.0]], [[3.0], [13.0]]]);
    let lost = again().expect_err("lost").to_string();
    assert!(lost.contains("the device was lost") && !lost.contains('\n'), "{lost}");
}

#[test]
fn work_of_which_a_launch_has_failed_is_not_replayed() {
    // The first batch launches three times; the second launch of the second is refused.
    let Some(gpu) = open(&Settings { check: false, fault: Some(emulator::Fault::Launch(4)), ..Settings::default() })
    else {
        return;
    };
    let device = Device::Gpu(gpu);
    let (work, planned) = (Work::new(&device, &[10.0]), Planned::default());
    let at = |x: f32| run(&planned, &[x], &device, &work);
    assert_eq!(at(1.0).expect("runs"), [[3.0], [13.0]]);
    let refused = at(2.0).expect_err("refused").to_string();
    assert!(refused.contains("refused on purpose"), "{refused}");
    for x in 3..7 {
        let x = x as f32;
        assert_eq!(at(x).expect("runs"), [[2.0 * x + 1.0], [2.0 * x + 11.0]]);
    }
    assert_eq!(work.calls(), 4, "done, failed, done, recorded");
}

#[test]
fn work_around_replayed_work_is_not_recorded() {
    let Some(device) = unchecked() else { return };
    let (inner, outer) = (Planned::default(), Planned::default());
    let work = Work::new(&device, &[10.0]);
    for i in 0..6 {
        let around = |images: &Tensor| {
            let host = Tensor::new(images.values()?.into_owned(), images.shape())?;
            let values = inner.run(&host, &device, |images| work.run(images, &device))?;
            Ok(std::iter::once(device.upload(values[1].to_vec())?).collect())
        };
        let values = outer.run(&tensor(&[i as f32]), &device, around).expect("runs");
        assert_eq!(values[0][..], [2.0 * i as f32 + 11.0]);
    }
    assert_eq!(work.calls(), 2);
}

#[test]
fn a_third_shape_takes_the_place_of_the_oldest() {
    let Some(device) = unchecked() else { return };
    let (work, planned) = (Work::new(&device, &[10.0; 3]), Planned::default());
    let run = |len: usize| {
        let weights = Work::new(&device, &vec![10.0; len]);
        planned.run(&tensor(&vec![1.0; len]), &device, |images| {
            work.calls.fetch_add(1, Ordering::Relaxed);
            weights.run(images, &device)
        })
    };
    for len in [1, 2, 3, 1, 2, 3, 1, 2, 3] {
        assert_eq!(run(len).expect("runs")[1][..], vec![13.0; len]);
    }
    assert_eq!(work.calls(), 9, "none is seen twice before it has to go");
}

/// `x + steps`, a step after the other.
fn in_steps(x: &Tensor, device: &Device, steps: u32, until: &Until) -> Result<Outputs> {
    let mut x = x.to(device)?.into_buffer()?;
    for _ in (0..steps).take_while(|taken| until.goes_on(*taken)) {
        let mut next = device.alloc(x.len())?;
        affine(&x, 1.0, 1.0, &mut next)?;
        x = next;
    }
    Ok(std::iter::once(x).collect())
}

/// A moment that no test comes to.
fn in_an_hour() -> Until {
    Until::moment(Instant::now() + Duration::from_secs(3600))
}

/// How often work in steps is asked for in four batches.
fn calls_of_four(device: &Device, steps: u32, until: &Until) -> usize {
    let (planned, calls) = (Planned::default(), AtomicUsize::new(0));
    for i in 0..4 {
        let values = planned.run_until(&tensor(&[i as f32]), device, until, |x| {
            calls.fetch_add(1, Ordering::Relaxed);
            in_steps(x, device, steps, until)
        });
        assert_eq!(values.expect("runs")[0][..], [(i + steps) as f32]);
    }
    calls.into_inner()
}

#[test]
fn work_that_may_end_at_a_moment_is_never_replayed() {
    let Some(device) = unchecked() else { return };
    assert_eq!(calls_of_four(&device, 3, &Until::done()), 2);
    assert_eq!(calls_of_four(&device, 3, &in_an_hour()), 4);
}

#[test]
fn work_of_more_launches_than_are_recorded_is_never_replayed() {
    let Some(device) = unchecked() else { return };
    assert_eq!(calls_of_four(&device, (1 << 16) + 1, &Until::done()), 4);
}

/// A request to stop is of the whole process.
#[test]
fn work_that_was_stopped_is_not_what_is_replayed() {
    if !alone("recording::work_that_was_stopped_is_not_what_is_replayed") {
        return;
    }
    let Some(device) = unchecked() else { return };
    let planned = Planned::default();
    let run = || {
        Until::interruptible(|until| {
            planned.run_until(&tensor(&[1.0]), &device, until, |x| in_steps(x, &device, 3, until))
        })
    };
    assert_eq!(run().expect("runs")[0][..], [4.0]);
    interrupt::request();
    assert!(matches!(run(), Err(Error::Interrupted(None))), "the second batch, which would be recorded");
    interrupt::withdraw();
    for _ in 0..4 {
        assert_eq!(run().expect("runs")[0][..], [4.0]);
    }
}

/// Models whose scoring waits for nothing on the way.
const RECORDED: [&str; 17] = [
    "paedid",
    "pae",
    "patchcore",
    "encoder",
    "padim",
    "simplenet",
    "lea-net",
    "color-unet",
    "nearest",
    "gaussians",
    "l2-ae",
    "ssim-ae",
    "mem-ae",
    "ae-gan",
    "f-anogan",
    "anogan",
    "projection",
];

/// Images of noise, batches of one.
fn batches(model: &Model) -> Vec<Tensor> {
    let spec = model.detector.image();
    let value = |batch: usize, i: usize| ((i * 7919 + batch * 104_729) % 251) as f32 / 250.0;
    let values = |batch| (0..spec.len()).map(|i| value(batch, i)).collect();
    let shape = [1, spec.height, spec.width, spec.channels];
    (0..3).map(|batch| Tensor::new(values(batch), &shape).expect("lengths fit")).collect()
}

#[test]
fn models_score_the_same_replayed() {
    let settings = Settings { check: false, ..Settings::default() };
    let Some(gpu) = open(&settings) else { return };
    let device = Device::Gpu(gpu);
    let dir = tempfile::tempdir().expect("a folder");
    let files = small_models::train_all(dir.path());
    let recorded: Vec<_> = files.iter().filter(|(name, _)| RECORDED.contains(name)).collect();
    assert_eq!(recorded.len(), RECORDED.len());
    for (name, file) in recorded {
        let [model, again] = [(); 2].map(|()| Model::load(file, &device).expect("a model"));
        let before = settings.recordings.load(Ordering::Relaxed);
        let score = |batch: &Tensor| {
            settings.uploaded.store(0, Ordering::Relaxed);
            model.score(batch).expect("scored")
        };
        let scores: Vec<_> = batches(&model).iter().map(score).collect();
        assert_eq!(settings.recordings.load(Ordering::Relaxed) - before, 1, "{name}: recorded once");
        if ["paedid", "pae"].contains(name) {
            let launches = settings.launches.load(Ordering::Relaxed);
            assert!(launches <= 40, "{name}: {launches} launches, whatever the steps of the decomposition");
        }
        let bytes = (model.detector.image().len() * size_of::<f32>()) as u64;
        assert_eq!(settings.uploaded.load(Ordering::Relaxed), bytes, "{name}: the images alone go up");
        // A model's first batch is never replayed.
        let last = again.score(&batches(&again)[2]).expect("scored");
        assert_eq!(scores[2], last, "{name}");
        assert_ne!(scores[1], last, "{name}: batches differ");
        if *name == "f-anogan" {
            let (before, until) = (settings.recordings.load(Ordering::Relaxed), in_an_hour());
            for batch in batches(&again) {
                again.detector.score_until(&batch, &until).expect("scored");
            }
            assert_eq!(settings.recordings.load(Ordering::Relaxed) - before, 1, "{name} has no steps that may end");
        }
    }
}
