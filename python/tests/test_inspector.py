"""The inspector from Python: verdicts of the command line, to the bit; arrays of all kinds; what is refused."""

import json
import os
import pathlib
import struct
import subprocess
import threading
import zlib

import numpy
import pytest

import hotad

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODEL = ROOT / "weights" / "plate.safetensors"
BINARY = os.environ.get("HOTAD_BIN", ROOT / "target" / "release" / "hotad")


def noise(*shape, dtype=numpy.uint8):
    return numpy.random.default_rng(7).integers(0, numpy.iinfo(dtype).max, shape, dtype, endpoint=True)


def write_png(path, array):
    """A PNG of 8 bits, gray or RGB."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows, columns = array.shape[:2]
    header = struct.pack(">IIBBBBB", columns, rows, 8, 0 if array.ndim == 2 else 2, 0, 0, 0)
    lines = b"".join(b"\0" + row.tobytes() for row in array)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(lines)), chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def by_command_line(tmp_path, array):
    write_png(tmp_path / "frame.png", array)
    args = [BINARY, "score", "--model", MODEL, tmp_path / "frame.png", "--device", "cpu", "-q"]
    args += ["--out", tmp_path / "out", "--maps", "npy", "--force"]
    line = json.loads(subprocess.run(args, check=True, capture_output=True, text=True).stdout)
    return line, numpy.load(line["map"])


@pytest.fixture(scope="module")
def inspector():
    return hotad.Inspector(MODEL, device="cpu", map="frame")


@pytest.mark.parametrize("shape", [(80, 100), (120, 90, 3)])
def test_verdicts_are_those_of_the_command_line(inspector, tmp_path, shape):
    array = noise(*shape)
    verdict = inspector.inspect(array)
    line, map = by_command_line(tmp_path, array)
    assert numpy.float32(verdict.score) == numpy.float32(line["score"])
    assert numpy.float32(verdict.calibrated) == numpy.float32(line["calibrated"])
    assert verdict.label == line["label"]
    assert verdict.map.dtype == numpy.float32
    assert numpy.array_equal(verdict.map, map)


def test_arrays_are_seen_as_they_lie(inspector):
    array = noise(64, 96, 3)
    expected = inspector.inspect(array).score
    padded = numpy.zeros((64, 128, 3), numpy.uint8)
    padded[:, :96] = array
    assert inspector.inspect(padded[:, :96]).score == expected
    assert inspector.inspect(numpy.asfortranarray(array)).score == expected
    assert inspector.inspect(array[::-1].copy()[::-1]).score == expected
    assert inspector.inspect(array[:, :, ::-1].copy()[:, :, ::-1]).score == expected
    assert inspector.inspect(array[:, :, ::-1].copy(), "bgr8").score == expected
    assert inspector.inspect(array[:, :, ::-1], "bgr8").score == expected
    alpha = numpy.dstack([array, noise(64, 96)])
    assert inspector.inspect(alpha).score == expected
    assert inspector.inspect(array.astype(numpy.uint16) * 257).score == pytest.approx(expected, rel=1e-4)
    gray = noise(64, 96)
    assert inspector.inspect(gray).score == inspector.inspect(gray[:, :, None]).score
    assert inspector.inspect(gray, "bayer-rggb8").score != inspector.inspect(gray).score


def test_batches_are_their_frames(inspector):
    frames = [noise(64, 64), noise(30, 200, 3), noise(64, 64) // 2]
    alone = [inspector.inspect(frame).score for frame in frames]
    assert [verdict.score for verdict in inspector.inspect_batch(frames)] == alone
    assert inspector.inspect_batch([]) == []


@pytest.mark.parametrize("broken", [noise(19, 64), noise(64, 64).astype(float), noise(64, 64, 5)])
def test_a_refused_frame_of_a_batch_is_named_by_its_number(broken):
    inspector = hotad.Inspector(MODEL, device="cpu", roi="box:0,0,20,20")
    with pytest.raises(hotad.HotadError, match="^frame: ") as alone:
        inspector.inspect(broken)
    with pytest.raises(hotad.HotadError) as of_batch:
        inspector.inspect_batch([noise(64, 64), broken, noise(64, 64)])
    assert str(of_batch.value) == str(alone.value).replace("frame:", "frame 2 of 3:", 1)
    with pytest.raises(hotad.HotadError) as of_one:
        inspector.inspect_batch([broken])
    assert str(of_one.value) == str(alone.value)


def test_verdicts_tell_all(inspector):
    verdict = hotad.Inspector(MODEL, device="cpu").inspect(noise(64, 64))
    assert verdict.map is None
    assert set(verdict.stages) == {"wait", "preprocess", "score", "verdict"}
    assert not verdict.late and verdict.stopped_after is None
    image, pixel = inspector.thresholds
    inspector.set_thresholds(pixel=-1.0, by="a test")
    try:
        (region,) = inspector.inspect(noise(64, 48)).regions
        assert (region.left, region.top, region.width, region.height) == (0, 0, 48, 64)
        assert region.area == 64 * 48
    finally:
        inspector.set_thresholds(image=image, pixel=pixel, by="a test")
    assert inspector.thresholds == (image, pixel)
    assert [change[1] for change in inspector.threshold_changes()] == ["a test", "a test"]
    assert inspector.info["method"] == "paedid"


def test_sizes_beyond_all_measure_are_refused(inspector):
    for size in [(10**6, 10**6), (2**63, 2)]:
        with pytest.raises(hotad.HotadError, match="megapixels"):
            inspector.warm_up(*size)
    hotad.Inspector(MODEL, device="cpu", regions=2**62, deadline_ms=1e22).inspect(noise(64, 64))


def test_the_limit_of_megapixels_is_raised_and_lowered(inspector):
    frame = numpy.zeros((1000, 2000), numpy.uint8)
    try:
        hotad.set_max_megapixels(1)
        with pytest.raises(hotad.HotadError, match="2000 x 1000 pixels are more than 1 megapixels; raise the limit"):
            inspector.inspect(frame)
        hotad.set_max_megapixels(2)
        inspector.inspect(frame)
        for beyond in [0, 1_000_001]:
            with pytest.raises(hotad.HotadError, match=f"max_megapixels: {beyond} is out of range; use 1 to 1000000"):
                hotad.set_max_megapixels(beyond)
    finally:
        hotad.set_max_megapixels(100)


def test_a_deadline_that_cannot_be_kept():
    inspector = hotad.Inspector(MODEL, device="cpu", deadline_ms=0.001)
    inspector.warm_up(64, 64, "gray8")
    verdict = inspector.inspect(noise(64, 64))
    assert verdict.late and verdict.label == "undecided"


def test_a_deadline_counts_from_the_arrival():
    inspector = hotad.Inspector(MODEL, device="cpu", deadline_ms=3_600_000, map="model")
    assert not inspector.inspect(noise(64, 64)).late
    verdict = inspector.inspect(noise(64, 64), waited_ms=3_600_000)
    assert verdict.late and verdict.label == "undecided" and verdict.stages["wait"] >= 3_600_000
    assert verdict.map is None
    assert all(v.late for v in inspector.inspect_batch([noise(64, 64)] * 2, waited_ms=3_600_000))
    for waited in [-1, float("nan"), 1e300]:
        with pytest.raises(hotad.HotadError, match="waited_ms"):
            inspector.inspect(noise(64, 64), waited_ms=waited)


def test_other_threads_run_meanwhile(inspector):
    """The interpreter's lock is released: another thread counts while a large frame is inspected."""
    frame, counted, done = noise(4000, 4000, 3), [], threading.Event()

    def count():
        while not done.is_set():
            counted.append(None)

    thread = threading.Thread(target=count)
    thread.start()
    before = len(counted)
    inspector.inspect(frame)
    after = len(counted)
    done.set()
    thread.join()
    assert after - before > 100


@pytest.mark.parametrize(
    "frame, format, said",
    [
        (noise(4, 4).astype(numpy.float32), None, "uint8 or uint16"),
        (noise(4, 4).astype(numpy.int8), None, "uint8 or uint16"),
        ("text", None, "uint8 or uint16"),
        (None, None, "uint8 or uint16"),
        (noise(4), None, "shape"),
        (noise(4, 4, 5), None, "1 to 4 samples"),
        (noise(2, 2, 2, 2), None, "shape"),
        (numpy.zeros((0, 4), numpy.uint8), None, "no pixels"),
        (noise(4, 4), "rgb8", "are not rgb8"),
        (noise(4, 4, 3, dtype=numpy.uint16), "rgb8", "are not rgb8"),
        (noise(4, 4), "yuv", "no format"),
        (noise(1, 4), "bayer-rggb8", "two rows"),
        (numpy.broadcast_to(numpy.uint8(0), (1 << 20, 1 << 20)), None, "megapixels"),
        (noise(4, 4, dtype=numpy.uint16).byteswap().view(numpy.dtype(">u2")), None, "byte order"),
    ],
)
def test_frames_that_cannot_be_are_refused(inspector, frame, format, said):
    with pytest.raises(hotad.HotadError, match=said):
        inspector.inspect(frame, format)


def test_threads_that_are_kept_awake(inspector):
    frame = noise(48, 64, 3)
    awake = hotad.Inspector(MODEL, device="cpu", threads=2, awake=True, map="frame")
    verdicts = [i.inspect(frame) for i in (inspector, awake)]
    assert verdicts[0].score == verdicts[1].score
    assert (verdicts[0].map == verdicts[1].map).all()


@pytest.mark.parametrize(
    "path, options, said",
    [
        ("nowhere.safetensors", {}, "nowhere.safetensors"),
        (__file__, {}, "test_inspector.py"),
        (MODEL, {"map": "large"}, "map"),
        (MODEL, {"device": "tpu"}, "tpu"),
        (MODEL, {"precision": "f8"}, "f8"),
        (MODEL, {"deadline_ms": 0}, "deadline"),
        (MODEL, {"deadline_ms": -1}, "deadline"),
        (MODEL, {"deadline_ms": float("nan")}, "deadline"),
        (MODEL, {"deadline_ms": float("inf")}, "deadline_ms: inf; expected a finite number above 0, 1e22 at most"),
        (MODEL, {"deadline_ms": 1e300}, "finite number above 0, 1e22 at most"),
        (MODEL, {"roi": []}, "roi: an empty list; name at least one box"),
        (MODEL, {"roi": "mask:"}, "names no file"),
        (MODEL, {"roi": ["mask: "]}, "names no file"),
        (MODEL, {"verify_key": ""}, "^verify_key: the path is empty"),
        ("", {}, "^path: the path is empty"),
        (MODEL, {"threads": 0}, "threads"),
    ],
)
def test_what_cannot_be_opened_is_refused(path, options, said):
    with pytest.raises(hotad.HotadError, match=said):
        hotad.Inspector(path, **{"device": "cpu", **options})


def test_thresholds_that_are_no_numbers_are_refused(inspector):
    before = inspector.thresholds
    with pytest.raises(hotad.HotadError, match="image threshold"):
        inspector.set_thresholds(image=float("nan"), by="a test")
    assert inspector.thresholds == before
