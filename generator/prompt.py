"""The text part of a prompt: task and label in words and, where they are known, the clip's events."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch import Tensor

from generator.config import check_label
from resp229k.clip import Clip, EventKind
from training.errors import DataError

PAD = "[PAD]"
EMPTY = -1  # id of a place without a word
RATES = (1, 2, 3, 5, 8, 12, 20, 30, 50)  # per 10 s; few, so that each is heard often


def event_text(clip: Clip, kinds: Sequence[str]) -> str | None:
    """Rates of those ``kinds`` that a clip's events are of, e.g. "12 crackle, 2 wheeze per 10 s"; else none.

    No events may mean that nothing was heard or that nobody marked them, so that nothing is said then.
    """
    counts = Counter(event.kind for event in clip.events if event.kind in kinds)
    rates: dict[str, int] = {kind: _nearest(10 * count / clip.seconds) for kind, count in counts.items()}
    return _sentence(rates) if rates else None


def check_events(text: str, kinds: Sequence[str]) -> str:
    """A wish for events as training would have put it: known rates, kinds in their order.

    Args:
        text: "12 crackle, 2 wheeze", with or without "per 10 s".
        kinds: that the weights know.

    Raises:
        DataError: anything else; names the kinds.
    """
    rates: dict[str, int] = {}
    for part in re.sub(r"\s*per 10 s\s*$", "", text.strip().lower()).split(","):
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s+(.+?)\s*", part)
        if found is None or found[2] not in kinds or found[2] in rates or not float(found[1]) > 0:
            raise DataError(
                f"{part.strip()!r} in the events {text!r} is not understood",
                cure=f"write counts per 10 s, each kind once, e.g. '12 {kinds[0]}'; kinds: {', '.join(kinds)}",
            )
        rates[found[2]] = _nearest(float(found[1]))
    return _sentence(rates)


def _nearest(rate: float) -> int:
    """The one of :data:`RATES` that is nearest by ratio."""
    return min(RATES, key=lambda known: max(known / rate, rate / known))


def _sentence(rates: Mapping[str, int]) -> str:
    told = [f"{rates[kind]} {kind}" for kind in get_args(EventKind) if kind in rates]
    return f"{', '.join(told)} per 10 s"


class PromptText:
    """Fixed-length token ids of "<task> <label>", and of "<task> <label>: <events>".

    Every prompt has the same number of places, so that a clip's positions never depend on the batch
    it is drawn in. Words are shared by labels ("wheeze" of two tasks is one token).

    Args:
        labels: task → trained labels.
        kinds: events that may be told of; none: no events.
        tokenizer: of a base; without one, a vocabulary is made of the words that can occur.
    """

    def __init__(self, labels: Mapping[str, Sequence[str]], kinds: Sequence[str] = (), tokenizer: Any = None):
        self.labels, self.kinds = labels, kinds
        texts = [f"{task} {label}" for task, names in labels.items() for label in names]
        if kinds:
            every = {rate: _sentence(dict.fromkeys(kinds, rate)) for rate in RATES}
            texts = [f"{text}: {every[rate]}" for text in texts for rate in RATES]
        self.encode: Callable[[str], list[int]]
        if tokenizer is None:
            words = word_level(texts)
            self.size = words.get_vocab_size()
            self.encode = lambda text: words.encode(text).ids
        else:
            self.size = len(tokenizer)
            self.encode = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]
        self.places = max(len(self.encode(text)) for text in texts)

    def ids(self, task: str, label: str, events: str | None = None) -> Tensor:
        """Token ids ``(P,)``; :data:`EMPTY` where there is no word.

        Raises:
            DataError: the task or label was not trained, or the events cannot be told.
        """
        check_label(self.labels, task, label)
        text = f"{task} {label}"
        if events is not None:
            if not self.kinds:
                raise DataError("the Resp-MLLM was trained without events", cure="ask without events")
            text = f"{text}: {check_events(events, self.kinds)}"
        found = self.encode(text)
        ids = torch.full((self.places,), EMPTY, dtype=torch.long)
        ids[: len(found)] = torch.tensor(found)
        return ids


def word_level(texts: Sequence[str]) -> Tokenizer:
    """A tokenizer of the words in ``texts``, lower case; id 0 is no word."""
    splitter = pre_tokenizers.Whitespace()
    normalizer = normalizers.Lowercase()
    pieces = [splitter.pre_tokenize_str(normalizer.normalize_str(text)) for text in texts]
    words = sorted({word for found in pieces for word, _ in found})
    tokenizer = Tokenizer(models.WordLevel({PAD: 0, **{w: i for i, w in enumerate(words, 1)}}, PAD))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = splitter
    return tokenizer
