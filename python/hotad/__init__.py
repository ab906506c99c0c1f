"""Image anomaly detection: frames in memory become verdicts.

    import hotad
    inspector = hotad.Inspector("parts.safetensors", map="frame")
    verdict = inspector.inspect(array)        # uint8 or uint16, [rows, columns] or [rows, columns, samples]
    print(verdict.label, verdict.score)
"""

from ._hotad import HotadError, Inspector, Region, Verdict, __version__

__all__ = ["HotadError", "Inspector", "Region", "Verdict", "__version__"]
