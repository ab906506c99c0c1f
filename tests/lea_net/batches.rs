//! Batch normalisation of one value for each channel: refused, or the image is left out and said so.

use std::sync::Mutex;

use hotad_engine::Activation;
use hotad_engine::ops::{BatchNormParams, Mode, batch_norm2d};
use hotad_engine::tensor::Tensor;
use hotad_kernels::device::Buffer;

use crate::common::{hotad, refused, text};
use crate::{SMALL, coloured_data};

#[test]
fn one_value_for_each_channel_is_not_normalised_by_its_batch() {
    let put = |values: Vec<f32>, shape: &[usize]| Tensor::new(values, shape).expect("lengths fit");
    let running = [0.0, 1.0].map(|v| Mutex::new(Buffer::Host(vec![v; 2].into())));
    let params = BatchNormParams {
        weight: put(vec![1.0; 2], &[2]),
        bias: put(vec![0.0; 2], &[2]),
        running: [&running[0], &running[1]],
        eps: 1e-5,
        momentum: 0.1,
    };
    let normalised = |images: usize, mode| {
        let x = put((0..2 * images).map(|v| v as f32).collect(), &[images, 1, 1, 2]);
        batch_norm2d(&x, &params, mode, None, Activation::Identity)
    };
    let error = normalised(1, Mode::Train).map(drop).expect_err("refused").to_string();
    assert!(error.contains("one value for each channel"), "{error}");
    assert!(normalised(2, Mode::Train).is_ok() && normalised(1, Mode::Eval).is_ok());
}

/// At 32 pixels both networks end in maps of one pixel.
#[test]
fn batches_of_one_image_are_refused_or_left_out_aloud() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, out) = (dir.path().join("data"), dir.path().join("m"));
    coloured_data(&data);
    for method in ["color-unet", "lea-net"] {
        let args = ["train", method, "--data", text(&data), "--out", text(&out), "--set", "image_size=32"];
        let words = ["batch normalisation", "batch = 1", "image_size"];
        refused(&[&args[..], &["--batch", "1"]].concat(), &words);
        assert!(!dir.path().join("m.color.log.jsonl").exists(), "colours are learned before the batches are looked at");
    }
    // 19 normal images of 24 and 5 defective ones: 24, of which one is alone beside one batch of 23.
    let mut args = vec!["train", "lea-net", "--data", text(&data), "--out", text(&out), "--batch", "23"];
    args.extend(SMALL);
    args.extend(["--set", "map_parts=1", "--epochs", "1", "--set", "color_epochs=1"]);
    let output = hotad(&args);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{stderr}");
    assert_eq!(stderr.matches("leaves out one of 24 images").count(), 1, "{stderr}");
    assert!(stderr.contains("(1 steps)"), "{stderr}");
}
