"""Measurements behind the figures of README and model cards; run as ``python -m benchmarks.quality.evidence``."""
