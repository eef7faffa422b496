"""Small helpers that know nothing of passages and models, each once."""
