"""How texts are put together and cut, without a model or a tokenizer."""
