"""Speed of the diagnoser's attention: ``python benchmarks/diagnoser.py [--size tiny] [--window 512] [--smoke]``.

The woven network of random weights at 625, 1,250 and 4,096 places (forward, training step, peak memory), with
16 anchors and with the paper's stride of 4, by the library's sliding chunks, the dense form and ``auto``. The
window is the library's default of 512. Prints clips and steps per second, and JSON lines of ratios, each of
calls taken in turn in this very run: a busy machine slows all sides alike. At last the dense form is held
against the banded one at the diagnoser's own window, for the length from which ``auto`` should leave it. With one thread the clock is
processor time. ``auto`` has to give the library's logits. ``--size base`` is Longformer's, ``--smoke`` a test.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import resource
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from turns import Clock, in_turn, report  # first: it makes the packages importable

from diagnoser.attention import MaskedSelfAttention
from diagnoser.config import Anchors, DiagnoserConfig, DiagnoserSizes
from diagnoser.model import Diagnoser

SPEEDUP = 4.0  # over the library's default, at the paper's length
ROWS = 8
FORMS = ("auto", "dense", "library")
SIZES: dict[str, dict[str, int]] = {
    "tiny": {"hidden": 64, "layers": 2, "heads": 4, "inner": 128},
    "base": {"hidden": 768, "layers": 12, "heads": 12, "inner": 3072},
}
FIXED, STRIDE = "16 anchors", "stride 4"


def shape(places: int) -> tuple[int, int]:
    """Text tokens (120 to 127 at the paper's length and beyond) and columns that make ``places``."""
    columns = (places - 3 - min(120, places // 4)) // ROWS
    return places - 3 - ROWS * columns, columns


def build(places: int, anchors: str, form: str, window: int, size: str) -> Diagnoser:
    """A network for ``places`` places, the same weights for every form of attention."""
    tokens, columns = shape(places)
    every = math.ceil(columns / 16) if anchors == FIXED else 1
    sizes = DiagnoserSizes.model_validate(
        {
            **SIZES[size],
            "window": window,
            "rows": ROWS,
            "attention": form,
            "anchors": Anchors(every_columns=every, rows=(0,) if anchors == FIXED else (0, 4)),
            "text_tokens": tokens,
            "max_columns": columns,
        }
    )
    torch.manual_seed(0)
    return Diagnoser(DiagnoserConfig(task="icbhi4", classes=("a", "b"), feature_dim=64, sizes=sizes))


def batch(places: int, count: int) -> dict[str, Tensor]:
    """``count`` clips without padding."""
    tokens, columns = shape(places)
    torch.manual_seed(1)
    return {
        "text_ids": torch.randint(5, 64, (count, tokens)),
        "text_mask": torch.ones(count, tokens, dtype=torch.bool),
        "features": torch.randn(count, columns, ROWS, 64),
        "columns": torch.full((count,), columns),
    }


def forward(model: Diagnoser, given: dict[str, Tensor]) -> Tensor:
    """Logits ``(B, C)``."""
    with torch.inference_mode():
        logits = model.eval()(**given).logits
    assert logits is not None
    return logits


def step(model: Diagnoser, given: dict[str, Tensor]) -> None:
    """One training step, plain gradient descent."""
    labels = torch.zeros(len(given["columns"]), dtype=torch.long)
    model.train().zero_grad()
    model(**given, labels=labels).loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.sub_(parameter.grad, alpha=1e-4)


def peak(make: Callable[[], Diagnoser], given: dict[str, Tensor]) -> float:
    """MB that a training step needs beyond network and batch, in a process of its own."""
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_peak, args=(make, given, send))
    process.start()
    send.close()
    found = float(receive.recv())
    process.join()
    return found


def _peak(make: Callable[[], Diagnoser], given: dict[str, Tensor], send: Any) -> None:
    torch.set_num_threads(1)  # a pool of threads does not survive the fork
    model = make()
    step(model, batch(48, 1))  # what is allocated once
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step(model, given)
    send.send((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3)


def clips(places: int, options: argparse.Namespace) -> dict[str, Tensor]:
    """Four clips of the shortest length, fewer longer ones."""
    return batch(places, max(1, options.places[0] * 4 // places))


def makers(places: int, anchors: str, options: argparse.Namespace) -> dict[str, Callable[[], Diagnoser]]:
    """A maker of the network for each form."""
    return {form: partial(build, places, anchors, form, options.window, options.size) for form in FORMS}


def measure(
    places: int, anchors: str, memory: dict[str, float], options: argparse.Namespace, clock: Clock
) -> dict[str, dict[str, float]]:
    """Seconds of forward and step of each form beside its memory in MB, at one length.

    Raises:
        SystemExit: ``auto`` gives other logits than the library.
    """
    given = clips(places, options)
    models = {form: make() for form, make in makers(places, anchors, options).items()}
    apart = (forward(models["auto"], given) - forward(models["library"], given)).abs().max()
    if not apart <= 1e-4:  # nor may it be no number
        raise SystemExit(f"the logits of auto and library differ by {apart}")
    found = {"memory": memory}
    for name, call in (("forward", forward), ("training step", step)):
        calls = {form: partial(call, model, given) for form, model in models.items()}
        found[name] = in_turn(calls, options.repeats, clock)
    count = len(given["columns"])
    for form in FORMS:
        print(
            f"{places} places, {anchors}, {form}: {count / found['forward'][form]:.2f} clips/s forward, "
            f"{1 / found['training step'][form]:.2f} steps/s of {count} clips, {memory[form]:.0f} MB",
            flush=True,
        )
    return found


def compare(places: int, anchors: str, found: dict[str, dict[str, float]], *, target: bool) -> None:
    """Ratios over the library, and of the dense form over ``auto``."""
    for what, values in found.items():
        wanted = SPEEDUP if target and what != "memory" else None
        named = "less memory" if what == "memory" else f"faster {what}"
        at = f"{places} places, {anchors}"
        report(
            f"diagnoser {named} than the library, {at}", values["library"] / max(values["auto"], 1e-9), wanted
        )
        report(f"diagnoser {named} than one dense call, {at}", values["dense"] / max(values["auto"], 1e-9))


def growth(
    anchors: str, results: dict[int, dict[str, dict[str, float]]], options: argparse.Namespace
) -> None:
    """Exponents of the forward's time per clip between the two longest lengths."""
    short, long = options.places[-2:]
    for form in FORMS:
        seconds = {
            places: results[places]["forward"][form] / len(clips(places, options)["columns"])
            for places in (short, long)
        }
        exponent = math.log(seconds[long] / seconds[short]) / math.log(long / short)
        report(f"diagnoser growth exponent, {form}, {anchors}", exponent)


def crossing(options: argparse.Namespace, clock: Clock) -> None:
    """How many times the banded form's time the dense one takes, by length, at the diagnoser's own window.

    What :data:`diagnoser.attention.CROSSOVER` was chosen by: the dense form should be taken where it is faster.
    """
    window = DiagnoserSizes().window
    for places in options.crossing:
        given = clips(places, options)
        models = {
            name: build(places, FIXED, form, window, options.size)
            for name, form in (("dense", "dense"), ("banded", "auto"))
        }
        for module in models["banded"].modules():
            if isinstance(module, MaskedSelfAttention):
                module.crossover = 0
        for name, call in (("forward", forward), ("training step", step)):
            calls = {form: partial(call, model, given) for form, model in models.items()}
            taken = in_turn(calls, options.repeats, clock)
            report(
                f"diagnoser dense over banded {name}, {places} places, window {window}",
                taken["dense"] / taken["banded"],
            )


def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(description="Speed of the diagnoser's attention.")
    parser.add_argument("--size", choices=sorted(SIZES), default="tiny")
    parser.add_argument("--window", type=int, default=512, help="places; 512 is the library's default")
    parser.add_argument("--repeats", type=int, default=2, help="measurements of which the median is taken")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--smoke", action="store_true", help="short sequences: does it run?")
    options = parser.parse_args()
    options.places = [96, 160, 256] if options.smoke else [625, 1250, 4096]
    options.crossing = [96, 256] if options.smoke else [128, 256, 384, 512, 768, 1024]
    torch.set_num_threads(options.threads)

    clock = time.process_time if options.threads == 1 else time.perf_counter
    # First, while this process is small: a forked one could use memory again that it has left.
    memory = {
        (places, anchors): {
            form: peak(make, clips(places, options))
            for form, make in makers(places, anchors, options).items()
        }
        for anchors in (FIXED, STRIDE)
        for places in options.places
    }
    for anchors in (FIXED, STRIDE):
        results = {p: measure(p, anchors, memory[p, anchors], options, clock) for p in options.places}
        for places, found in results.items():
            compare(places, anchors, found, target=places == 625 and anchors == STRIDE)
        growth(anchors, results, options)
    crossing(options, clock)


if __name__ == "__main__":
    main()
