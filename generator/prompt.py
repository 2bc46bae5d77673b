"""The text part of a prompt: task and label in words, from a vocabulary made of the trained labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch import Tensor

from generator.config import check_label

PAD = "[PAD]"


class PromptText:
    """Fixed-length token ids of "<task> <label>".

    Every prompt has the same number of places, so that a clip's positions never depend on the batch
    it is drawn in. Words are shared by labels ("wheeze" of two tasks is one token).
    """

    def __init__(self, labels: Mapping[str, Sequence[str]]):
        self.labels = labels
        splitter = pre_tokenizers.Whitespace()
        normalizer = normalizers.Lowercase()
        texts = [f"{task} {label}" for task, names in labels.items() for label in names]
        pieces = [splitter.pre_tokenize_str(normalizer.normalize_str(text)) for text in texts]
        words = sorted({word for found in pieces for word, _ in found})
        self.tokenizer = Tokenizer(models.WordLevel({PAD: 0, **{w: i for i, w in enumerate(words, 1)}}, PAD))
        self.tokenizer.normalizer = normalizer
        self.tokenizer.pre_tokenizer = splitter
        self.places = max(len(found) for found in pieces)
        self.tokenizer.enable_padding(pad_id=0, pad_token=PAD, length=self.places)

    @property
    def size(self) -> int:
        """Vocabulary size, padding included."""
        return self.tokenizer.get_vocab_size()

    def ids(self, task: str, label: str) -> Tensor:
        """Token ids ``(P,)``; 0 is padding.

        Raises:
            DataError: the task or label was not trained.
        """
        check_label(self.labels, task, label)
        return torch.tensor(self.tokenizer.encode(f"{task} {label}").ids, dtype=torch.long)
