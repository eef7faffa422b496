"""What tests of several rooms share: collections, models and servers made for tests."""

from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
"""The folder that child processes find this package in."""

ROOT = TESTS.parent
"""The checkout."""
