from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any, Literal, Self, final

import numpy
from numpy.typing import NDArray

__all__ = [
    "HotadError",
    "Inspector",
    "Region",
    "Verdict",
    "__version__",
    "calibrate",
    "evaluate",
    "set_max_megapixels",
    "train",
]

__version__: str

_Frame = NDArray[numpy.uint8] | NDArray[numpy.uint16]
_Format = Literal[
    "gray8",
    "gray-alpha8",
    "gray16",
    "gray-alpha16",
    "rgb8",
    "bgr8",
    "rgba8",
    "bgra8",
    "rgb16",
    "rgba16",
    "bayer-rggb8",
    "bayer-bggr8",
    "bayer-grbg8",
    "bayer-gbrg8",
]

_Path = str | PathLike[str]
_Precision = Literal["f32", "tf32", "f16", "bf16", "int8"]
# Task, units done, units in all; an answer of False stops the work.
_Progress = Callable[[str, int, int], bool | None]
_Log = Callable[[str], object]
_OnBroken = Literal["refuse", "skip"]

class HotadError(Exception): ...

def set_max_megapixels(megapixels: int) -> None:
    """Sets the most megapixels of a frame, an image or a mask, for the whole process and from now on; 100 unless it is called."""

def train(
    method: str,
    data: _Path,
    out: _Path,
    *,
    settings: Mapping[str, Any] | None = None,
    members: Sequence[_Path] | None = None,
    init: _Path | None = None,
    roi: str | Sequence[str] | None = None,
    group: str | None = None,
    holdout: float | None = None,
    defective_share: float | None = None,
    false_alarm_rate: float | None = None,
    pixel_false_alarm_rate: float | None = None,
    on_broken: _OnBroken | None = None,
    seed: int | None = None,
    device: str = "auto",
    precision: _Precision = "f32",
    resume: bool = False,
    force: bool = False,
    progress: _Progress | None = None,
    log: _Log | None = None,
) -> dict[str, Any]: ...
def calibrate(
    model: _Path,
    data: _Path,
    out: _Path | None = None,
    *,
    force: bool = False,
    verify_key: _Path | None = None,
    false_alarm_rate: float | None = None,
    pixel_false_alarm_rate: float | None = None,
    f1: bool = False,
    group: str | None = None,
    on_broken: _OnBroken | None = None,
    seed: int | None = None,
    device: str = "auto",
    precision: _Precision = "f32",
    progress: _Progress | None = None,
    log: _Log | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]: ...
def evaluate(
    model: _Path,
    data: _Path,
    *,
    verify_key: _Path | None = None,
    settings: Mapping[str, Any] | None = None,
    corrupt: Literal["brightness", "blur", "noise", "rotation"] | None = None,
    group: str | None = None,
    on_broken: _OnBroken | None = None,
    batch: int | None = None,
    seed: int | None = None,
    device: str = "auto",
    precision: _Precision = "f32",
    progress: _Progress | None = None,
    log: _Log | None = None,
) -> dict[str, Any]: ...

@final
class Region:
    @property
    def left(self) -> int: ...
    @property
    def top(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def area(self) -> float: ...
    @property
    def center_x(self) -> float: ...
    @property
    def center_y(self) -> float: ...
    @property
    def peak(self) -> float: ...
    @property
    def peak_x(self) -> int: ...
    @property
    def peak_y(self) -> int: ...

@final
class Verdict:
    @property
    def score(self) -> float: ...
    @property
    def calibrated(self) -> float: ...
    @property
    def label(self) -> Literal["normal", "anomaly", "undecided"]: ...
    @property
    def image_threshold(self) -> float: ...
    @property
    def pixel_threshold(self) -> float: ...
    @property
    def regions(self) -> list[Region]: ...
    @property
    def map(self) -> NDArray[numpy.float32] | None:
        """[rows, columns]; None where none was asked for, and where the deadline had passed before the frame was inspected."""
    @property
    def late(self) -> bool: ...
    @property
    def stopped_after(self) -> int | None: ...
    @property
    def stages(self) -> dict[str, float]: ...

@final
class Inspector:
    def __new__(
        cls,
        path: _Path,
        *,
        device: str = "auto",
        precision: _Precision = "f32",
        threads: int | None = None,
        awake: bool = False,
        deadline_ms: float | None = None,
        map: Literal["none", "model", "frame"] = "none",
        regions: int | None = None,
        roi: str | Sequence[str] | None = None,
        verify_key: _Path | None = None,
    ) -> Self: ...
    def warm_up(self, height: int, width: int, format: _Format = "rgb8") -> None: ...
    def inspect(self, frame: _Frame, format: _Format | None = None, *, waited_ms: float = 0.0) -> Verdict: ...
    def inspect_batch(
        self, frames: Sequence[_Frame], format: _Format | None = None, *, waited_ms: float = 0.0
    ) -> list[Verdict]: ...
    @property
    def thresholds(self) -> tuple[float, float]: ...
    def set_thresholds(self, *, image: float | None = None, pixel: float | None = None, by: str) -> None: ...
    def threshold_changes(self) -> list[tuple[float, str, tuple[float, float], tuple[float, float]]]: ...
    @property
    def info(self) -> dict[str, Any]: ...
