"""A small data set, and a model that was trained on it."""

import numpy
import pytest

import hotad
from test_inspector import write_png

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
