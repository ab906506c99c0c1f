"""Inspection of many images on many machines with Ray Data: each actor opens the model once.

    import hotad.ray, ray
    images = ray.data.read_images("s3://line-3/today", include_paths=True)
    hotad.ray.inspect(images, "parts.safetensors", actors=8).write_parquet("verdicts")
"""

from os import PathLike
from typing import TYPE_CHECKING, Any

from . import HotadError, Inspector

if TYPE_CHECKING:
    import ray.data

__all__ = ["inspect"]


class _Actor:
    """An inspector in a process of its own."""

    def __init__(self, model, column, format, options):
        self.inspector = Inspector(model, **options)
        self.column = column
        self.format = format

    def __call__(self, batch):
        verdicts = self.inspector.inspect_batch(list(batch[self.column]), self.format)
        others = {name: values for name, values in batch.items() if name != self.column}
        return others | {
            "score": [verdict.score for verdict in verdicts],
            "calibrated": [verdict.calibrated for verdict in verdicts],
            "label": [verdict.label for verdict in verdicts],
        }


def _pool(actors):
    """So many actors, or from the least to the most."""
    from ray.data import ActorPoolStrategy

    if isinstance(actors, tuple | list):
        least, most = actors
        return ActorPoolStrategy(min_size=least, max_size=most)
    return ActorPoolStrategy(size=actors)


def inspect(
    images: "ray.data.Dataset",
    model: str | PathLike[str],
    *,
    column: str = "image",
    format: str | None = None,
    actors: int | tuple[int, int] = 2,
    threads: int = 1,
    gpus: float = 0,
    batch: int = 8,
    **options: Any,
) -> "ray.data.Dataset":
    """The verdicts on a dataset of images: its other columns, and `score`, `calibrated` and `label`.

    `column` holds arrays as `Inspector.inspect` takes them. `actors` is their number, or the least and the most. Each opens
    the model once, from a path that every machine has, takes `threads` CPUs and `gpus` GPUs (or a part of one) and inspects
    `batch` images together; an actor that is lost is started again and its images are inspected again. `options` are those of
    `Inspector` but for `map` and `regions`, for which the result has no columns.
    """
    for name in ("map", "regions"):
        if name in options:
            raise HotadError(f"{name}: a dataset's verdicts have no maps and regions; use hotad.Inspector for these")
    arguments = (str(model), column, format, {"threads": threads, **options})
    return images.map_batches(
        _Actor,
        fn_constructor_args=arguments,
        batch_size=batch,
        batch_format="numpy",
        compute=_pool(actors),
        num_cpus=threads,
        num_gpus=gpus,
    )
