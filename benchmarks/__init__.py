"""Measurements behind the figures of documentation and cards; run as ``python -m benchmarks.quality.evidence``."""
