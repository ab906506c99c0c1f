"""Training, calibrating and evaluating from Python: the files and numbers of the command line, and what is refused."""

import json
import subprocess

import numpy
import pytest

import hotad
from conftest import SETTINGS, draw
from test_inspector import BINARY


def run(*args):
    return subprocess.run([BINARY, *args, "--device", "cpu", "-q"], check=True, capture_output=True, text=True).stdout


def test_training_writes_the_file_of_the_command_line(trained):
    folder, calibration, seen, lines = trained
    sets = [part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")]
    run("train", "l2-ae", "--data", folder / "data", "--out", folder / "other.safetensors", *sets)
    assert (folder / "model.safetensors").read_bytes() == (folder / "other.safetensors").read_bytes()
    assert numpy.isfinite(calibration["image_threshold"])
    assert {task for task, _, _ in seen} and all(done <= total for _, done, total in seen)
    assert any("held out" in line for line in lines)


def test_evaluation_gives_the_numbers_of_the_command_line(trained):
    folder, *_ = trained
    metrics = hotad.evaluate(folder / "model.safetensors", folder / "data", device="cpu")
    printed = json.loads(run("eval", "--model", folder / "model.safetensors", "--data", folder / "data", "--json"))
    times = [key for key in printed if "ms" in key.split("_")]
    for key in times:
        metrics.pop(key), printed.pop(key)
    assert metrics == printed


def test_calibration_gives_before_and_after(trained):
    folder, calibration, *_ = trained
    out = folder / "calibrated.safetensors"
    before, after = hotad.calibrate(
        folder / "model.safetensors", folder / "data" / "test" / "good", out, device="cpu", false_alarm_rate=0.2
    )
    assert before == calibration
    assert after["image_false_alarm_rate"] == 0.2
    assert hotad.Inspector(out, device="cpu").thresholds[0] == numpy.float32(after["image_threshold"])


@pytest.mark.parametrize(
    "options, said",
    [
        ({"settings": {"no_such": 1}}, "no_such"),
        ({"settings": {"latent": None}}, "settings"),
        ({"settings": [1]}, "settings"),
        ({"settings": {"alpha": float("nan")}}, "settings: numbers must be finite"),
        ({"settings": {"sizes": [1, float("inf")]}}, "settings: numbers must be finite"),
        ({"resume": True, "force": True}, "force: resume is set too"),
        ({"roi": []}, "roi: an empty list"),
        ({"init": ""}, "init: the path is empty"),
        ({"members": [""]}, "members: the path is empty"),
        ({"holdout": 2.0}, "holdout"),
        ({"roi": "box:1"}, "box:1"),
        ({"roi": ["box:0,0,4000,4000"]}, "region of interest"),
        ({"device": "tpu"}, "tpu"),
        ({"on_broken": "ignore"}, "refuse and skip"),
    ],
)
def test_what_cannot_be_is_refused(trained, options, said):
    folder, *_ = trained
    with pytest.raises(hotad.HotadError, match=said):
        hotad.train("l2-ae", folder / "data", folder / "refused.safetensors", **{"device": "cpu", **options})


@pytest.mark.parametrize("rate", ["false_alarm_rate", "pixel_false_alarm_rate"])
def test_thresholds_of_labels_take_no_rates(trained, rate):
    folder, *_ = trained
    model = folder / "model.safetensors"
    before = model.read_bytes()
    with pytest.raises(hotad.HotadError, match="f1: .* leave out false_alarm_rate and pixel_false_alarm_rate"):
        hotad.calibrate(model, folder / "data", device="cpu", f1=True, **{rate: 0.1})
    assert model.read_bytes() == before


@pytest.mark.parametrize("batch", [0, 1025, 10**18])
def test_batches_out_of_range_are_refused(trained, batch):
    folder, *_ = trained
    with pytest.raises(hotad.HotadError, match=f"batch: {batch} is out of range; use 1 to 1024"):
        hotad.evaluate(folder / "model.safetensors", folder / "data", device="cpu", batch=batch)


def test_a_broken_image_is_skipped_where_that_is_asked_for(trained, tmp_path):
    draw(tmp_path)
    (tmp_path / "test" / "good" / "broken.png").write_bytes(b"no image")
    model = trained[0] / "model.safetensors"
    with pytest.raises(hotad.HotadError, match="broken.png"):
        hotad.evaluate(model, tmp_path, device="cpu")
    metrics = hotad.evaluate(model, tmp_path, device="cpu", on_broken="skip")
    assert metrics["good"] + metrics["defective"] == 8


def test_corruptions_are_those_of_the_command_line(trained):
    folder, *_ = trained
    model, data = folder / "model.safetensors", folder / "data"
    metrics = hotad.evaluate(model, data, device="cpu", corrupt="noise")
    printed = json.loads(run("eval", "--model", model, "--data", data, "--corrupt", "noise", "--json"))
    noisy = next(row for row in printed["runs"] if row["change"] == "noise")
    assert metrics["image_auroc"] == noisy["image_auroc"]
    with pytest.raises(hotad.HotadError, match="brightness, blur"):
        hotad.evaluate(model, data, device="cpu", corrupt="fog")


def sign(*args):
    subprocess.run([BINARY, "sign", *args], check=True, capture_output=True)


def test_a_key_is_asked_for(trained, tmp_path):
    folder, *_ = trained
    sign("--new-key", tmp_path / "plant")
    key = tmp_path / "plant.pub"
    signed = tmp_path / "signed.safetensors"
    signed.write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(hotad.HotadError, match="not signed"):
        hotad.evaluate(signed, folder / "data", device="cpu", verify_key=key)
    with pytest.raises(hotad.HotadError, match="not signed"):
        hotad.calibrate(signed, folder / "data" / "test" / "good", device="cpu", verify_key=key)
    sign("--key", tmp_path / "plant", signed)
    assert hotad.evaluate(signed, folder / "data", device="cpu", verify_key=key)["good"] == 4
