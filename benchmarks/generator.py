"""Speed of the generator: ``python benchmarks/generator.py [--weights tiny] [--clips 64] [--batch 32] [--quick]``.

All with the same weights in this very run: units drawn in a batch against the library's batched ``generate`` (the
same units, or the run fails) and against one clip at a time; the Fréchet distance of generated to simulated clips
against the evaluations of the flow's network; seconds of audio per second, and the hours that 50,000 clips would
take. Prints JSON lines of ratios. With one thread the clock of the draws is processor time. Where there is a GPU,
draws and whole clips follow on it. ``--quick`` is a test.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import GenerationMixin, LogitsProcessor, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast
from turns import Clock, in_turn, report, synchronised  # first: it makes the packages importable

from generator import lm
from generator.config import SampleConfig
from generator.decode import nucleus
from generator.fad import columns, frechet
from generator.mllm import RespMLLM
from generator.sample import Generator, Request
from resp229k.simulate import simulate_clip
from training.config import weights_path

MANY = 50_000  # clips of the paper's budget
NEAR = 1.05  # of the best distance
METHODS = {"euler": 1, "midpoint": 2}  # evaluations of the network in a step

Given = dict[str, Tensor]


# Units


class Writer(PreTrainedModel, GenerationMixin):
    """A Resp-MLLM as the library's ``generate`` wants it: unit ids in, logits of units out."""

    _supports_sdpa = True

    def __init__(self, mllm: RespMLLM, places: int):
        super().__init__(mllm.lm.config)
        self.here = nn.Parameter(torch.zeros(1, device=mllm.head.weight.device))  # the library asks where
        self.parts, self.places = [mllm], places  # a list: the network is not this one's to initialise

    def forward(
        self,
        input_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: Any = None,
        **_: Any,
    ) -> CausalLMOutputWithPast:
        """Logits ``(B, 1, codebook)`` of the unit to come."""
        mllm = self.parts[0]
        if inputs_embeds is None:
            inputs_embeds = mllm.places_in(input_ids, past_key_values.get_seq_length() - self.places)
        output = lm.body(mllm.lm)(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            use_cache=True,
        )
        logits = mllm.head(output.last_hidden_state[:, -1:])[..., : mllm.end]
        return CausalLMOutputWithPast(logits=logits, past_key_values=past_key_values)


class Draw(LogitsProcessor):
    """Our draw, made certain, so that the library's greedy choice is the same unit."""

    def __init__(self, uniforms: Tensor, how: SampleConfig):
        self.uniforms, self.how = uniforms, how

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores ``(B, codebook)`` of which one is finite."""
        uniform = self.uniforms[:, input_ids.shape[1]]
        drawn = nucleus(scores / self.how.temperature, uniform, self.how.top_p)
        return torch.full_like(scores, float("-inf")).scatter(1, drawn[:, None], 0.0)


def ours(mllm: RespMLLM, given: Given, how: SampleConfig) -> Tensor:
    """Units ``(B, T, F)``, without guidance, which the library would do clip by clip."""
    return mllm.sample(**given, temperature=how.temperature, top_p=how.top_p, label_guidance=1)


@torch.no_grad()
def library(mllm: RespMLLM, given: Given, how: SampleConfig) -> Tensor:
    """The same by the library's ``generate``."""
    embeds, mask = mllm.prompt(given["text"], given["features"], given["feature_columns"])
    batch, total = given["uniforms"].shape
    start = torch.full((batch, 1), mllm.start, device=embeds.device)
    units = Writer(mllm, embeds.shape[1]).generate(
        inputs_embeds=torch.cat([embeds, mllm.places_in(start, 0)], dim=1),
        attention_mask=torch.cat([mask, mask.new_ones(batch, 1)], dim=1).long(),
        max_new_tokens=total,
        do_sample=False,
        use_cache=True,
        pad_token_id=0,
        logits_processor=[Draw(given["uniforms"], how)],
    )
    return units.view(batch, -1, mllm.config.rows)


def guided(mllm: RespMLLM, given: Given, how: SampleConfig) -> Tensor:
    """Units drawn with the guidance that the weights ask for: other units, and twice the batch."""
    return mllm.sample(**given, temperature=how.temperature, top_p=how.top_p)


def one_by_one(mllm: RespMLLM, given: Given, how: SampleConfig) -> Tensor:
    """The same, clip after clip."""
    clips = [{name: value[i : i + 1] for name, value in given.items()} for i in range(len(given["text"]))]
    return torch.cat([ours(mllm, clip, how) for clip in clips])


def units(mllm: RespMLLM, batch: int, seconds: float, repeats: int, clock: Clock, where: str) -> None:
    """Draws of one batch, three ways.

    Raises:
        SystemExit: the ways give other units.
    """
    c, g = mllm.config, torch.Generator().manual_seed(0)
    device = mllm.head.weight.device
    places = min(c.columns, round(seconds / 0.16)) * c.rows
    pairs = [c.pairs[i % len(c.pairs)] for i in range(batch)]
    given = {
        "text": torch.stack([mllm.text.ids(*pair) for pair in pairs]),
        "features": torch.randn(batch, c.columns, c.rows, c.feature_dim, generator=g),
        "feature_columns": torch.randint(1, c.columns + 1, (batch,), generator=g),
        "uniforms": torch.rand(batch, places, generator=g),
    }
    given = {name: value.to(device) for name, value in given.items()}
    how = SampleConfig()
    ways = {"ours": ours, "library": library, "one by one": one_by_one}
    drawn = {name: way(mllm, given, how) for name, way in ways.items()}
    for name, found in drawn.items():
        if not torch.equal(found, drawn["ours"]):
            share = (found != drawn["ours"]).float().mean()
            raise SystemExit(f"{share:.4f} of the units differ between ours and {name}")
    print(f"{batch} clips of {places} units, the same in all ways{where}")
    ways["guided"] = guided
    calls = {name: lambda way=way: way(mllm, given, how) for name, way in ways.items()}
    taken = in_turn(calls, repeats, clock)  # type: ignore[arg-type]
    print(f"{batch / taken['ours']:.2f} clips/s of units{where}")
    report(f"units over the library's batched generate{where}", taken["library"] / taken["ours"], 1.0)
    report(f"units over one clip at a time{where}", taken["one by one"] / taken["ours"], 1.0)
    report(f"time of units with the weights' guidance over without{where}", taken["guided"] / taken["ours"])


# Clips


def wishes(generator: Generator, count: int, seconds: float) -> tuple[list[Request], list[np.ndarray]]:
    """Requests with simulated references, and simulated clips of the same labels by other subjects."""
    pairs = generator.trained.pairs
    requests, real = [], []
    for i in range(count):
        task, label = pairs[i % len(pairs)]
        style = simulate_clip(
            pairs[-1 - i % len(pairs)][1],
            task=pairs[-1 - i % len(pairs)][0],
            seed=i,
            source=f"sim-test{i % 4}",
        )
        requests.append(Request(task, label, style.wave, f"style{i}", f"s{i}", seconds))
        real.append(
            simulate_clip(label, task=task, seed=count + i, seconds=4.0, source=f"sim-test{i % 4}").wave[
                : round(16_000 * seconds)
            ]
        )
    return requests, real


def quality(generator: Generator, count: int, seconds: float, evaluations: list[int]) -> None:
    """Distances to simulated clips by method and number of evaluations, over the best of all."""
    requests, real = wishes(generator, count, seconds)
    known = generator.config
    target = np.concatenate(columns(generator.encoder, real))
    found: dict[tuple[str, int], float] = {}
    for method, cost in METHODS.items():
        for number in evaluations:
            if number % cost == 0:
                settings = {"method": method, "steps": number // cost}
                generator.config = SampleConfig.model_validate({**known.model_dump(), **settings})
                waves = [clip.wave for clip in generator.generate(requests, seed=0)]
                made = np.concatenate(columns(generator.encoder, waves))
                found[method, number] = frechet(made, target)
    generator.config = known
    best = min(found.values())
    for (method, number), distance in found.items():
        print(f"{method}, {number} evaluations: Fréchet distance {distance:.4f}, {count} clips")
        report(f"flow distance over the best, {method}, {number} evaluations", distance / best)
    near = min((number, method) for (method, number), distance in found.items() if distance <= NEAR * best)
    report(f"flow evaluations within 5 % of the best, {near[1]}", near[0])


def whole(generator: Generator, count: int, seconds: float, repeats: int, clock: Clock, where: str) -> None:
    """From request to samples."""
    requests, _ = wishes(generator, count, seconds)
    taken = in_turn({"clips": lambda: generator.generate(requests, seed=0)}, repeats, clock)["clips"]
    print(f"{count / taken:.2f} clips/s of {seconds} s, batches of {generator.config.batch}{where}")
    report(f"seconds of audio per second{where}", count * seconds / taken)
    report(f"hours for {MANY} clips{where}", MANY * taken / count / 3600)


def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(description="Speed of the generator.")
    parser.add_argument("--weights", default="tiny", help="folder of weights, or a shipped set")
    parser.add_argument("--beats", type=Path, help="BEATs that the weights were trained with, if not in them")
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument(
        "--nfe", type=int, nargs="+", default=[2, 4, 8, 16, 32], help="evaluations of the flow"
    )
    parser.add_argument("--repeats", type=int, default=3, help="measurements of which the median is taken")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="few short clips: does it run?")
    options = parser.parse_args()
    if options.quick:
        options.clips, options.batch, options.seconds, options.nfe, options.repeats = 4, 2, 0.8, [2, 4], 1
    torch.set_num_threads(options.threads)
    generator = Generator.load(
        weights_path(options.weights), SampleConfig(batch=options.batch), beats_path=options.beats
    )
    if generator.mllm is None:
        raise SystemExit("these weights have no Resp-MLLM")
    quality(generator, options.clips, options.seconds, options.nfe)
    clock = time.process_time if options.threads == 1 else time.perf_counter
    places = [("", clock)] + ([(", GPU", synchronised)] if torch.cuda.is_available() else [])
    for where, at in places:
        generator.to("cuda" if where else "cpu")
        units(generator.mllm, options.batch, options.seconds, options.repeats, at, where)
        whole(generator, options.clips, options.seconds, options.repeats, at, where)


if __name__ == "__main__":
    main()
