"""Image anomaly detection: frames in memory become verdicts.

    import hotad
    inspector = hotad.Inspector("parts.safetensors", map="frame")
    verdict = inspector.inspect(array)        # uint8 or uint16, [rows, columns] or [rows, columns, samples]
    print(verdict.label, verdict.score)

    hotad.train("patchcore", "parts", "parts.safetensors", progress=lambda task, done, total: print(task, done, total))
"""

from ._hotad import (
    HotadError,
    Inspector,
    Region,
    Verdict,
    __version__,
    calibrate,
    evaluate,
    set_max_megapixels,
    train,
)

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
