"""Callbacks and signals while a job runs: which thread they run on, and that an exception of theirs stops the job."""

import contextlib
import os
import pathlib
import signal
import sys
import threading

import numpy
import pytest

import hotad
from conftest import SETTINGS
from test_inspector import write_png

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no signals of POSIX")


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


def test_callbacks_run_on_the_calling_thread(trained):
    folder, *_ = trained
    threads = set()

    def note(*_):
        threads.add(threading.get_ident())

    train_with(folder, "noted.safetensors", progress=note, log=note)
    assert threads == {threading.get_ident()}


def test_a_job_within_a_job_is_refused(trained):
    folder, *_ = trained

    def evaluate(*_):
        hotad.evaluate(folder / "model.safetensors", folder / "data", device="cpu")

    with pytest.raises(hotad.HotadError, match="another job runs in this process"):
        train_with(folder, "nested.safetensors", log=evaluate)


def test_calibration_tells_its_progress(trained):
    folder, *_ = trained
    out, seen = folder / "told.safetensors", []
    good = folder / "data" / "test" / "good"
    out.write_bytes(b"another file")
    with pytest.raises(hotad.HotadError, match="told.safetensors: is there already"):
        hotad.calibrate(folder / "model.safetensors", good, out, device="cpu")
    hotad.calibrate(folder / "model.safetensors", good, out, force=True, device="cpu", progress=lambda *told: seen.append(told))
    assert seen and all(0 <= done <= total for _, done, total in seen)

    def fail(*_):
        raise ZeroDivisionError("the callback's own")

    stopped = folder / "stopped.safetensors"
    with pytest.raises(ZeroDivisionError, match="own"):
        hotad.calibrate(folder / "model.safetensors", good, stopped, device="cpu", progress=fail)
    assert not stopped.exists()


class Alarm(Exception):
    """What a signal handler raises."""


def ring(*_):
    raise Alarm


@contextlib.contextmanager
def alarm():
    """Raises `Alarm` in the middle of what is done within, and expects it to come out."""
    before = signal.signal(signal.SIGALRM, ring)
    try:
        with pytest.raises(Alarm):
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> pathlib.Path:
    """A folder of images that takes seconds to calibrate on."""
    folder = tmp_path_factory.mktemp("many")
    for i, image in enumerate(numpy.random.default_rng(3).integers(0, 255, (1000, 40, 40), numpy.uint8)):
        write_png(folder / f"{i:04}.png", image)
    return folder


def calibrate(folder, images, **options):
    return hotad.calibrate(folder / "model.safetensors", images, device="cpu", group="none", **options)


def test_a_signal_handler_stops_a_calibration_without_callbacks(trained, many):
    folder, *_ = trained
    model = folder / "model.safetensors"
    before = model.read_bytes()
    with alarm():
        calibrate(folder, many)
    assert model.read_bytes() == before
    # The request to stop does not outlast the job.
    calibrate(folder, folder / "data" / "test" / "good", out=folder / "after-alarm.safetensors")


def test_ctrl_c_stops_a_calibration(trained, many):
    folder, *_ = trained
    model = folder / "model.safetensors"
    before = model.read_bytes()
    # Where tests run in the background the signal is ignored, unless one asks for it.
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    try:
        with pytest.raises(KeyboardInterrupt):
            timer.start()
            try:
                calibrate(folder, many)
            finally:
                timer.join()
    finally:
        signal.signal(signal.SIGINT, usual)
    assert model.read_bytes() == before


def test_a_signal_handler_stops_a_training_without_callbacks(trained):
    folder, *_ = trained
    out = folder / "alarmed.safetensors"
    endless = {**SETTINGS, "epochs": 1_000_000, "patience": 0}
    with alarm():
        hotad.train("l2-ae", folder / "data", out, settings=endless, device="cpu")
    assert not out.exists()
