"""Training, calibrating and evaluating from Python: the files and numbers of the command line, and callbacks."""

import json
import subprocess

import numpy
import pytest

import hotad
from test_inspector import BINARY, write_png

SETTINGS = {"latent": 8, "epochs": 1, "batch": 4}


def draw(root):
    """Gray bars, 12 normal for training, 4 good and 4 with a dark square for the test."""
    random = numpy.random.default_rng(3)
    for folder, count, dark in [("train/good", 12, False), ("test/good", 4, False), ("test/dark", 4, True)]:
        (root / folder).mkdir(parents=True)
        for i in range(count):
            columns = 130 + 50 * numpy.sin(0.6 * numpy.arange(40) + random.uniform(0, 1))
            image = columns[None, :] + random.uniform(-5, 5, (40, 40))
            if dark:
                image[10:22, 14:26] = 20
            write_png(root / folder / f"{i:03}.png", image.astype(numpy.uint8))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("jobs")
    draw(folder / "data")
    seen, lines = [], []
    calibration = hotad.train(
        "l2-ae",
        folder / "data",
        folder / "model.safetensors",
        settings=SETTINGS,
        device="cpu",
        progress=lambda *progress: seen.append(progress),
        log=lines.append,
    )
    return folder, calibration, seen, lines


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


def train_with(folder, name, **options):
    return hotad.train("l2-ae", folder / "data", folder / name, settings=SETTINGS, device="cpu", **options)


def test_a_callback_can_stop_the_work(trained):
    folder, *_ = trained
    with pytest.raises(hotad.HotadError, match="interrupted"):
        train_with(folder, "stopped.safetensors", progress=lambda *_: False)
    assert not (folder / "stopped.safetensors").exists()
    train_with(folder, "after.safetensors")


def test_an_exception_of_a_callback_comes_through(trained):
    folder, *_ = trained

    def fail(*_):
        raise ZeroDivisionError("the callback's own")

    with pytest.raises(ZeroDivisionError, match="own"):
        train_with(folder, "failed.safetensors", log=fail)


@pytest.mark.parametrize(
    "options, said",
    [
        ({"settings": {"no_such": 1}}, "no_such"),
        ({"settings": {"latent": None}}, "settings"),
        ({"settings": [1]}, "settings"),
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
