"""The gate: is the generator good enough to be trusted with the budget?

The judge, which has never met BEATs or the generator, names the class of generated probe clips and
of real clips of the ``plan`` split. The gate opens when the generated clips reach a set share of the
real recall, over all classes and over the tail.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from agent.config import GateSettings
from training.config import Strict


class Recall(Strict):
    """Recall of the judge per class, averaged over the classes and over the tail (None: no tail)."""

    per_class: dict[str, float]
    clips: dict[str, int]
    macro: float
    tail: float | None


class GateReport(Strict):
    """The gate's verdict with the figures behind it."""

    open: bool
    reason: str
    upper_bound: bool = False  # the simulator stood in for the generator
    threshold: float
    real: Recall | None = None
    generated: Recall | None = None
    macro_ratio: float | None = None
    tail_ratio: float | None = None

    @property
    def word(self) -> str:
        """``open`` or ``closed``."""
        return "open" if self.open else "closed"


def recall(
    labels: Sequence[str], probabilities: np.ndarray, classes: Sequence[str], tail: Sequence[str]
) -> Recall:
    """Recall per class of the judge's first choice.

    Args:
        labels: true classes ``(N,)``, all among ``classes``.
        probabilities: ``(N, C)`` in the order of ``classes``.
        classes: the judge's classes.
        tail: classes whose mean recall is given apart.
    """
    # A row of zeros is a clip without sound: no class was heard in it.
    names = np.asarray([*classes, ""])
    chosen = names[np.where(probabilities.any(axis=1), probabilities.argmax(axis=1), len(classes))]
    truth = np.asarray(labels)
    per_class, clips = {}, {}
    for name in sorted(set(labels)):
        mine = truth == name
        per_class[name] = round(float((chosen[mine] == name).mean()), 6)
        clips[name] = int(mine.sum())
    rare = [value for name, value in per_class.items() if name in set(tail)]
    return Recall(
        per_class=per_class,
        clips=clips,
        macro=round(float(np.mean(list(per_class.values()))), 6) if per_class else 0.0,
        tail=round(float(np.mean(rare)), 6) if rare else None,
    )


def restrict(found: Recall, names: Mapping[str, object], tail: Sequence[str]) -> Recall:
    """The same recalls over fewer classes, so that both sides are averaged over the same ones."""
    per_class = {k: v for k, v in found.per_class.items() if k in names}
    rare = [v for k, v in per_class.items() if k in set(tail)]
    return Recall(
        per_class=per_class,
        clips={k: found.clips[k] for k in per_class},
        macro=round(float(np.mean(list(per_class.values()))), 6) if per_class else 0.0,
        tail=round(float(np.mean(rare)), 6) if rare else None,
    )


def closed(reason: str, settings: GateSettings, *, upper_bound: bool = False) -> GateReport:
    """A gate closed before anything was measured."""
    return GateReport(open=False, reason=reason, threshold=settings.ratio, upper_bound=upper_bound)


def decide(
    real: Recall,
    generated: Recall,
    settings: GateSettings,
    tail: Sequence[str],
    *,
    judge_classes: int,
    upper_bound: bool = False,
) -> GateReport:
    """Compare generated with real recall; a class without real clips to compare with keeps it closed.

    A ratio of 0 switches the gate off: it is open, whatever was measured.
    """
    unknown = sorted(set(generated.per_class) - set(real.per_class))
    if settings.ratio and (unknown or not generated.per_class):
        names = ", ".join(unknown) or "any class"
        return closed(
            f"cannot compare: the plan split holds no real clip of {names}", settings, upper_bound=upper_bound
        )
    real, generated = restrict(real, generated.per_class, tail), restrict(generated, real.per_class, tail)
    floor = settings.judge_over_chance / judge_classes
    macro = generated.macro / real.macro if real.macro > 0 else None
    rare = None
    if real.tail is not None and generated.tail is not None and real.tail > 0:
        rare = generated.tail / real.tail
    verdict, reason = _verdict(real, macro, rare, settings.ratio, floor)
    return GateReport(
        open=verdict,
        reason=reason,
        upper_bound=upper_bound,
        threshold=settings.ratio,
        real=real,
        generated=generated,
        macro_ratio=None if macro is None else round(macro, 6),
        tail_ratio=None if rare is None else round(rare, 6),
    )


def _verdict(
    real: Recall, macro: float | None, rare: float | None, ratio: float, floor: float
) -> tuple[bool, str]:
    if ratio == 0:
        return True, "switched off (ratio 0)"
    if macro is None or real.macro < floor:
        return False, (
            f"the judge cannot tell: its macro recall on real clips is {real.macro:.2f}, "
            f"below the floor of {floor:.2f}"
        )
    if real.tail is not None and rare is None:
        return False, "the judge cannot tell: it recognises no real clip of the tail classes"
    sides = {"macro": macro} | ({} if rare is None else {"tail": rare})
    text = "generated clips reach " + ", ".join(f"{name} {value:.2f}" for name, value in sides.items())
    low = [name for name, value in sides.items() if value < ratio]
    verdict = f"too little in {' and '.join(low)}" if low else "enough"
    return not low, f"{text} of the real recall, needed {ratio:.2f}: {verdict}"
