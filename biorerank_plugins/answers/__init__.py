"""From a ranking to an answer: quoted sentences, or text that a language model writes, with citations."""
