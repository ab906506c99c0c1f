from collections.abc import Sequence
from os import PathLike
from typing import Any, Literal, final

import numpy
from numpy.typing import NDArray

__version__: str

Frame = NDArray[numpy.uint8] | NDArray[numpy.uint16]
Format = Literal[
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

class HotadError(Exception): ...

@final
class Region:
    left: int
    top: int
    width: int
    height: int
    area: float
    center_x: float
    center_y: float
    peak: float
    peak_x: int
    peak_y: int

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
    def map(self) -> NDArray[numpy.float32] | None: ...
    @property
    def late(self) -> bool: ...
    @property
    def stopped_after(self) -> int | None: ...
    @property
    def stages(self) -> dict[str, float]: ...

@final
class Inspector:
    def __init__(
        self,
        path: str | PathLike[str],
        *,
        device: str = "auto",
        precision: Literal["f32", "tf32", "f16", "bf16"] = "f32",
        threads: int | None = None,
        deadline_ms: float | None = None,
        map: Literal["none", "model", "frame"] = "none",
        regions: int | None = None,
        roi: str | Sequence[str] | None = None,
        verify_key: str | PathLike[str] | None = None,
    ) -> None: ...
    def warm_up(self, height: int, width: int, format: Format = "rgb8") -> None: ...
    def inspect(self, frame: Frame, format: Format | None = None) -> Verdict: ...
    def inspect_batch(self, frames: Sequence[Frame], format: Format | None = None) -> list[Verdict]: ...
    @property
    def thresholds(self) -> tuple[float, float]: ...
    def set_thresholds(self, *, image: float | None = None, pixel: float | None = None, by: str) -> None: ...
    def threshold_changes(self) -> list[tuple[float, str, tuple[float, float], tuple[float, float]]]: ...
    @property
    def info(self) -> dict[str, Any]: ...
