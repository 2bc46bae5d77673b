"""Narratives → tokens. The tokenizer is trained on the training narratives; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

from tokenizers import Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from diagnoser.config import SPECIAL
from training.errors import CheckpointError
from training.files import write_text


class Words:
    """A tokenizer of narratives: lower case, single digits, byte pairs within words.

    Args:
        tokenizer: from :meth:`train` or :meth:`load`.
    """

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer

    @classmethod
    def train(cls, texts: Iterable[str], vocabulary: int) -> Self:
        """Learn at most ``vocabulary`` pieces; the special tokens come first."""
        tokenizer = Tokenizer(BPE(unk_token="[UNK]"))  # noqa: S106 (no password)
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.BertPreTokenizer(), pre_tokenizers.Digits(individual_digits=True)]
        )
        # Byte pairs without a prefix for inner pieces: the library's word pieces get their ids in the
        # order of a hash table, so that two trainings on the same texts would differ.
        trainer = BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=list(SPECIAL),
            initial_alphabet=list("0123456789abcdefghijklmnopqrstuvwxyz.,:;%/-()"),
            show_progress=False,
        )
        tokenizer.train_from_iterator(sorted(texts), trainer)
        return cls(tokenizer)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read ``tokenizer.json``.

        Raises:
            CheckpointError: missing or damaged.
        """
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise CheckpointError("no such tokenizer", path=path)
        try:
            return cls(Tokenizer.from_file(str(path)))
        except Exception as error:
            raise CheckpointError(f"not a tokenizer ({error})", path=path) from error

    def save(self, folder: Path) -> None:
        """Write ``tokenizer.json``."""
        write_text(folder / "tokenizer.json", self.tokenizer.to_str(pretty=True) + "\n")

    def encode(self, text: str, longest: int) -> list[int]:
        """Token ids of one narrative, at most ``longest``, without special tokens."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids[:longest]

    def cut(self, texts: Sequence[str], longest: int) -> str:
        """A sentence on the narratives of more than ``longest`` tokens; empty where there are none."""
        found = self.tokenizer.encode_batch(list(texts), add_special_tokens=False)
        count = sum(len(one.ids) > longest for one in found)
        told = f"{count} of {len(texts)} narratives have more than {longest} tokens, the rest of them is not read"
        return told if count else ""

    def encode_all(self, texts: Sequence[str], longest: int) -> list[list[int]]:
        """:meth:`encode` of many."""
        found = self.tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [one.ids[:longest] for one in found]
