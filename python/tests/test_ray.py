"""Ray Data on this machine: two actors, the verdicts of one inspector, one actor killed on the way."""

import os
import pathlib
import signal

import numpy
import pytest

import hotad

ray = pytest.importorskip("ray", reason="ray is not installed")
import hotad.ray  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODEL = ROOT / "weights" / "plate.safetensors"


@pytest.fixture(scope="module")
def cluster():
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield
    ray.shutdown()


def frames(count):
    random = numpy.random.default_rng(5)
    return [random.integers(0, 255, (64, 64), numpy.uint8) for _ in range(count)]


def dataset(images):
    return ray.data.from_items([{"number": i, "image": image} for i, image in enumerate(images)])


def expected(images):
    inspector = hotad.Inspector(MODEL, device="cpu", threads=1)
    return {i: inspector.inspect(image).score for i, image in enumerate(images)}


def test_actors_say_what_one_inspector_says(cluster):
    images = frames(24)
    rows = hotad.ray.inspect(dataset(images), MODEL, actors=2, batch=4, device="cpu").take_all()
    assert set(rows[0]) == {"number", "score", "calibrated", "label"}
    assert {row["number"]: row["score"] for row in rows} == expected(images)


def test_the_number_of_actors_may_vary(cluster):
    images = frames(8)
    rows = hotad.ray.inspect(dataset(images), MODEL, actors=(1, 2), batch=4, device="cpu").take_all()
    assert {row["number"]: row["score"] for row in rows} == expected(images)


@pytest.mark.parametrize("actors, least, most", [(3, 3, 3), ((1, 4), 1, 4)])
def test_ray_is_asked_for_a_pool_of_actors(actors, least, most):
    """`concurrency` is deprecated since Ray 2.51."""

    class Recorder:
        def map_batches(self, actor, **arguments):
            return arguments

    arguments = hotad.ray.inspect(Recorder(), MODEL, actors=actors)
    pool = arguments["compute"]
    assert isinstance(pool, ray.data.ActorPoolStrategy) and "concurrency" not in arguments
    assert (pool.min_size, pool.max_size) == (least, most)


def test_a_killed_actor_loses_nothing(cluster, tmp_path):
    images = frames(24)
    marker = tmp_path / "killed"

    class Dying(hotad.ray._Actor):
        """The first actor that sees image 9 is killed, as by the system when memory is short."""

        def __call__(self, batch):
            if 9 in batch["number"] and not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return super().__call__(batch)

    actor, hotad.ray._Actor = hotad.ray._Actor, Dying
    try:
        rows = hotad.ray.inspect(dataset(images), MODEL, actors=2, batch=4, device="cpu").take_all()
    finally:
        hotad.ray._Actor = actor
    assert marker.exists()
    assert {row["number"]: row["score"] for row in rows} == expected(images)
