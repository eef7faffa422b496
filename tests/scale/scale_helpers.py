"""An encoder whose vectors can be recomputed by hand, and collections around it."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "first_stage"))
from first_stage_helpers import WordEncoder, collection, exact_ranking

__all__ = ["WordEncoder", "collection", "exact_ranking"]
