"""The one interface of all baselines: train on ``train``, choose on ``select``, predict ``test``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from diagnoser.baselines import neural, simple, woven
from diagnoser.baselines.choose import Fitted
from diagnoser.baselines.data import PartData
from diagnoser.baselines.rows import VARIANTS, get_row

MAKERS: dict[str, Callable[..., Fitted]] = {
    "majority": simple.majority,
    "source-prior": simple.source_prior,
    "metadata-only": simple.metadata_only,
    "text-words": simple.text_words,
    "text-only": woven.text_only,
    "trees": simple.trees,
    "cnn": neural.cnn,
    "ast": neural.ast,
    "pooled": simple.pooled_linear,
    "pooled-mlp": neural.pooled_mlp,
    "audio-only": woven.audio_only,
    "late-concat": neural.late_concat,
    "late-vote": neural.late_vote,
    "weaving": woven.weaving,
    **{name: partial(woven.variant, how=how) for name, how in VARIANTS.items()},
}


def fit_predict(name: str, data: PartData, seed: int, needed: Mapping[str, Fitted] | None = None) -> Fitted:
    """Train one row of the table and predict.

    Labels of ``test`` are read after the last prediction is made, to stand beside it.

    Args:
        name: of :data:`diagnoser.baselines.rows.ROWS`.
        data: what to train, choose and judge on.
        seed: of weights, order, wording and trees.
        needed: what the rows said that this one combines; trained here where they are not given.

    Raises:
        ConfigError: there is no such row, or the diagnoser's config does not fit the part.
        NonFiniteError: training diverged.
    """
    known = needed or {}
    parts = [known.get(one) or fit_predict(one, data, seed) for one in get_row(name).needs]
    return MAKERS[name](data, seed, *parts)
