"""Training pairs and the recipe that made the embedded cross-encoder. Needs the extra ``train``."""
