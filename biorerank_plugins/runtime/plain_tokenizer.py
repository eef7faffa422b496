"""A tokenizer from a folder's ``tokenizer.json`` alone, with what of transformers' own is used here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class PlainTokenizer:
    """A fast BERT tokenizer.

    :param folder: holds ``tokenizer.json`` and ``tokenizer_config.json``, as transformers 5 writes them.
    :raises OSError, ValueError, KeyError: if it is damaged.
    """

    is_fast = True
    model_input_names = ("input_ids", "token_type_ids", "attention_mask")
    pad_token_type_id = 0

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        about = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        if about["tokenizer_class"] not in ("BertTokenizer", "BertTokenizerFast"):
            raise ValueError("It is no tokenizer of BERT.")
        text = (folder / "tokenizer.json").read_text(encoding="utf-8")
        try:
            self.backend_tokenizer = Tokenizer.from_str(text)
        except Exception as error:  # the library raises nothing narrower
            raise ValueError(f"tokenizer.json is damaged: {error}") from error
        self.backend_tokenizer.no_padding()
        self.padding_side, self.truncation_side = about["padding_side"], about["truncation_side"]
        self.model_max_length = int(about["model_max_length"])
        self.pad_token_id: int = self.backend_tokenizer.get_vocab()[about["pad_token"]]
        self.vocab_size = int(self.backend_tokenizer.get_vocab_size(with_added_tokens=False))

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        """Return how many tokens stand around a text or a pair."""
        return int(self.backend_tokenizer.num_special_tokens_to_add(pair))

    def __call__(
        self,
        text: str | Sequence[str],
        text_pair: str | Sequence[str] | None = None,
        *,
        truncation: str | None = None,
        max_length: int | None = None,
        return_attention_mask: bool = False,
    ) -> dict[str, Any]:
        """Return token and segment ids of a text, a pair, or of several.

        :param text: a text, or texts.
        :param text_pair: the other halves, as many.
        :param truncation: ``"longest_first"``, or ``None`` to keep all.
        :param max_length: tokens that are kept, special ones included.
        :param return_attention_mask: only ``False``.
        """
        if truncation is None:
            self.backend_tokenizer.no_truncation()
        else:
            self.backend_tokenizer.enable_truncation(max_length or self.model_max_length, strategy=truncation)
        if isinstance(text, str):
            one = self.backend_tokenizer.encode(text, text_pair)
            return {"input_ids": one.ids, "token_type_ids": one.type_ids}
        inputs = list(text) if text_pair is None else list(zip(text, text_pair, strict=True))
        many = self.backend_tokenizer.encode_batch_fast(inputs)
        return {"input_ids": [one.ids for one in many], "token_type_ids": [one.type_ids for one in many]}
