"""What is compared: what ``biorerank bench`` compares, and peers, which need packages of their own."""

from __future__ import annotations

from biorerank_plugins.speed.systems import BASELINE, SYSTEMS, Known

__all__ = ["ALL_SYSTEMS", "PACKAGES", "PEERS"]

_HERE = "benchmarks.speed"
PEERS: Known = {
    "llama-index": (f"{_HERE}.hosts:llama_index", {}),
    "haystack": (f"{_HERE}.hosts:haystack", {}),
    "st-onnx": (f"{_HERE}.exported:st_onnx", {}),
    "st-openvino-float32": (f"{_HERE}.exported:st_openvino", {"dtype": "float32"}),
    "st-openvino-bfloat16": (f"{_HERE}.exported:st_openvino", {"dtype": "bfloat16"}),
    "rerankers": (f"{_HERE}.peers:rerankers", {}),
    "flashrank": (f"{_HERE}.peers:flashrank", {}),
    "flashrank-int8": (f"{_HERE}.peers:flashrank", {"int8": True}),
}
ALL_SYSTEMS: Known = {BASELINE: SYSTEMS[BASELINE], **PEERS, **SYSTEMS}
PACKAGES = (
    "openvino", "llama-index-core", "llama-index-postprocessor-sbert-rerank", "haystack-ai",
    "sentence-transformers-haystack", "FlashRank", "rerankers",
)  # fmt: skip
"""Packages whose versions matter to peers."""
