from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from generator_fixtures import CODEBOOK, LABELS, ROWS, FakeStore
from mllm_batches import batch, prompt, single
from torch.nn import functional

from generator.config import DrawConfig, MLLMConfig, SampleConfig
from generator.data import UnitPairs, disjoint
from generator.decode import guided
from generator.mllm import RespMLLM
from generator.prompt import PromptText, check_events, event_text
from generator.style import AverageStyle
from generator.targets import Targets
from resp229k.audio import RATE, Preprocess, prepare
from resp229k.clip import Clip, Event
from resp229k.corpus import Corpus
from training.errors import ConfigError, DataError

KINDS = ("crackle", "fine crackle", "wheeze")


def with_events(clip: Clip, *kinds: str) -> Clip:
    events = [Event.model_validate({"kind": kind, "start": 0.1, "end": 0.2}) for kind in kinds]
    return clip.model_copy(update={"events": events})


def with_values(config: MLLMConfig, **values: object) -> RespMLLM:
    """A network whose label and style matter: both are as large as the units."""
    torch.manual_seed(0)
    model = RespMLLM(config.model_copy(update=values)).eval()
    for name, parameter in model.named_parameters():
        if name.startswith(("free", "style.out", "head")) or "embed" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    return model


# Style


@pytest.mark.parametrize("tokens", [3, 8, 40])
def test_average_style_is_the_librarys_adaptive_pooling_of_the_real_places(tokens: int) -> None:
    torch.manual_seed(0)
    style = AverageStyle(6, 10, tokens)
    features, columns = torch.randn(3, 5, 8, 6), torch.tensor([5, 1, 3])
    together = style(features, columns)
    for i, count in enumerate(columns.tolist()):
        places = features[i, :count].flatten(0, 1)
        pooled = functional.adaptive_avg_pool1d(places.T[None], tokens)[0].T
        assert torch.allclose(together[i], style.out(pooled), atol=1e-6)
    features[1, 1:] = float("inf")
    assert torch.allclose(style(features, columns), together)


def test_average_style_learns_and_does_not_depend_on_the_batch(mllm_config: MLLMConfig) -> None:
    torch.manual_seed(0)
    model = RespMLLM(mllm_config.model_copy(update={"style": "average"})).train()
    model(**batch(model, [3, 5, 4, 5])).loss.backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []
    model.eval()
    values = batch(model, [2, 5, 3])
    together = model(**values).nll
    for i in range(3):
        assert torch.allclose(model(**single(values, i)).nll[0], together[i], atol=1e-3)


# Events


def test_events_are_told_as_rates_of_known_kinds(corpus: Corpus) -> None:
    clip = corpus.clips[0]  # 0.64 s
    assert event_text(clip, KINDS) is None
    heard = with_events(clip, "wheeze", "crackle", "crackle", "cough")
    assert event_text(heard, KINDS) == "30 crackle, 20 wheeze per 10 s"  # 31.25 and 15.6, by ratio
    assert event_text(with_events(clip, "cough"), KINDS) is None


def test_a_wish_for_events_is_put_as_in_training() -> None:
    assert check_events(" 14 Wheeze , 1000 fine  crackle", ("wheeze", "fine  crackle")).startswith(
        "12 wheeze"
    )
    assert check_events("1.4 wheeze, 7 crackle per 10 s", KINDS) == "8 crackle, 1 wheeze per 10 s"
    for wrong in ("", "wheeze", "3 rales", "3 wheeze and crackle", "0 wheeze", "2 wheeze, 3 wheeze"):
        with pytest.raises(DataError, match=r"is not understood → .*crackle, fine crackle, wheeze"):
            check_events(wrong, KINDS)
    with pytest.raises(DataError, match="trained without events"):
        PromptText(LABELS).ids("icbhi4", "wheeze", "3 wheeze")


def test_prompts_with_and_without_events_have_one_length() -> None:
    text = PromptText(LABELS, KINDS)
    asked = [None, "2 wheeze", "50 wheeze, 50 crackle, 50 fine crackle"]
    ids = [text.ids("disease16", "Pulmonary Fibrosis", events) for events in asked]
    assert {len(i) for i in ids} == {text.places}
    assert len({tuple(i.tolist()) for i in ids}) == 3
    assert (ids[2] >= 0).all() and int(ids[2].max()) < text.size
    unknown = text.encode("nonesuch")
    assert not {*unknown} & {*ids[2].tolist()}
    assert PromptText(LABELS).size < text.size


def test_events_are_dropped_per_sample_and_change_what_is_drawn(
    corpus: Corpus, store: FakeStore, mllm_config: MLLMConfig
) -> None:
    clips = [(with_events(clip, "crackle", "wheeze"), corpus) for clip in corpus.clips]
    targets = Targets(clips, ("icbhi4",), DrawConfig())
    assert targets.kinds == ("crackle", "wheeze")
    model = with_values(mllm_config, events=True, kinds=targets.kinds, event_dropout=0.5)
    pairs = UnitPairs(targets, store, model)
    bare = model.text.ids("icbhi4", targets.items[0].label)
    torch.manual_seed(0)
    seen = Counter(torch.equal(pairs[0]["text"], bare) for _ in range(200))
    assert 70 < seen[True] < 130
    values = batch(model, [5])
    drawn = []
    for events in (None, "2 crackle", "50 wheeze"):
        values["text"] = model.text.ids("icbhi4", "wheeze", events)[None]
        drawn.append(model.sample(**prompt(values), uniforms=torch.full((1, 40), 0.4)))
    assert not torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[1], drawn[2])


# The reference is a crop of the target's clip


@pytest.mark.parametrize("seconds", [0.64, 1.0, 2.0, 3.0, 4.0, 9.0])
@pytest.mark.parametrize("fit", ["loop", "mask"])
def test_target_and_its_own_crop_share_no_sample(corpus: Corpus, seconds: float, fit: str) -> None:
    how = Preprocess.model_validate({"seconds": 3.0, "fit": fit})
    clip = corpus.clips[0].model_copy(update={"start": 0.0, "end": seconds})
    rng = np.random.default_rng(0)
    prepared = prepare(rng.random(round(seconds * RATE)), how)
    columns = len(prepared) // 2560
    lengths, end = set(), 0
    for _ in range(100):
        sides = disjoint(clip, columns, how, rng)
        if sides is None:
            assert seconds < 0.7
            continue
        target, reference = (set(range(columns)[side]) for side in sides)
        assert target and reference and not target & reference
        assert min(len(target), len(reference)) >= (len(target) + len(reference)) // 4
        lengths.add(len(target))
        end = max(end, *target, *reference)
    heard = prepared[: 2560 * (end + 1)]
    assert len(np.unique(heard)) == len(heard)  # nothing is heard twice
    assert len(lengths) > 1 or seconds <= 1.0


def test_a_share_of_the_references_are_crops(
    corpus: Corpus, store: FakeStore, mllm_config: MLLMConfig
) -> None:
    clips = [(clip.model_copy(update={"end": 1.0}), corpus) for clip in corpus.clips]
    long = FakeStore([clip for clip, _ in clips])
    model = RespMLLM(mllm_config)
    torch.manual_seed(0)
    for share in (0.0, 0.5, 1.0):
        targets = Targets(clips, ("icbhi4",), DrawConfig(disjoint_crop=share))
        pairs, crops = UnitPairs(targets, long, model), 0
        whole = long.features(targets.items[0].clip.clip_id)
        for _ in range(60):
            sample = pairs[0]
            crops += len(sample["units"]) < len(whole)
            if len(sample["units"]) < len(whole):
                assert len(sample["units"]) + len(sample["features"]) <= len(whole)
                starts = [i for i in range(len(whole)) if np.array_equal(whole[i], sample["features"][0])]
                assert len(starts) == 1
                units = long.units(targets.items[0].clip.clip_id)
                inside = units[: starts[0]] if starts[0] else units[len(sample["features"]) :]
                assert any(
                    np.array_equal(inside[i : i + len(sample["units"])], sample["units"])
                    for i in range(len(inside))
                )
        assert share * 60 - 15 <= crops <= share * 60 + 15 and (share == 0.5 or crops == share * 60)


# Guidance


def test_guidance_of_one_is_the_plain_logits() -> None:
    logits = torch.randn(6, 9)
    assert torch.equal(guided(logits[:2], []), logits[:2])
    assert torch.equal(guided(logits, [1, 1]), logits[:2])
    assert torch.equal(guided(logits, [0, 1]), logits[:2] - (logits[:2] - logits[2:4]))
    found = guided(logits, [3.0, 1.5])
    label, style = logits[:2] - logits[2:4], logits[:2] - logits[4:]
    assert torch.allclose(found, logits[:2] + 2 * label + 0.5 * style, atol=1e-5)


def test_guidance_draws_from_logits_of_the_same_prompt_without_a_part(mllm_config: MLLMConfig) -> None:
    model = with_values(mllm_config, label_dropout=0.2, style_dropout=0.2)
    values = batch(model, [5, 5, 5])
    uniforms = torch.rand(3, 5 * ROWS)

    def draw(**how: float) -> torch.Tensor:
        return model.sample(**prompt(values), uniforms=uniforms, top_p=1e-6, **how)

    plain = draw()
    assert torch.equal(draw(label_guidance=1, style_guidance=1), plain)
    # Greedy units of both scales, checked against three separate uncached forwards.
    drawn = draw(label_guidance=2.0, style_guidance=1.5)
    assert not torch.equal(drawn, plain)
    ones, columns = torch.ones(3, dtype=torch.bool), torch.tensor([5, 5, 5])
    parts, whole = [], model.prompt
    for left_out in ({}, {"no_text": ones}, {"no_style": ones}):
        model.prompt = lambda *a, left_out=left_out: whole(*a, **left_out)  # type: ignore[method-assign]
        parts.append(model.logits(**prompt(values), units=drawn, columns=columns)[:, :-1, :CODEBOOK])
    wanted = parts[0] + (parts[0] - parts[1]) + 0.5 * (parts[0] - parts[2])
    assert torch.equal(wanted.argmax(-1), drawn.flatten(1))


def test_weights_draw_with_their_own_guidance_unless_asked_otherwise(mllm_config: MLLMConfig) -> None:
    plain = with_values(mllm_config, label_dropout=0.2)
    guided = with_values(mllm_config, label_dropout=0.2, label_guidance=2.5)
    guided.load_state_dict(plain.state_dict())
    values, uniforms = batch(plain, [5, 5, 5]), torch.rand(3, 5 * ROWS)

    def draw(model: RespMLLM, **how: float) -> torch.Tensor:
        return model.sample(**prompt(values), uniforms=uniforms, **how)

    assert torch.equal(draw(guided), draw(plain, label_guidance=2.5))
    assert torch.equal(draw(guided, label_guidance=1), draw(plain))
    assert not torch.equal(draw(guided), draw(plain))


def test_guidance_of_weights_needs_the_dropout(mllm_config: MLLMConfig) -> None:
    with pytest.raises(ValueError, match=r"label_guidance 2\.0 needs a label_dropout above 0"):
        MLLMConfig.model_validate({**mllm_config.model_dump(), "label_guidance": 2.0})


def test_what_is_left_out_does_not_matter(mllm_config: MLLMConfig) -> None:
    """Scale 0 of the label is a draw without it, so that labels of any length give the same units."""
    model = with_values(mllm_config, label_dropout=0.2, style_dropout=0.2)
    values = batch(model, [5, 5])
    values["features"][1] = values["features"][0]
    uniforms = torch.rand(1, 5 * ROWS).expand(2, -1)
    swapped = model.sample(**prompt(values), uniforms=uniforms)
    assert not torch.equal(swapped[0], swapped[1])
    without = model.sample(**prompt(values), uniforms=uniforms, label_guidance=0)
    assert torch.equal(without[0], without[1])
    values = batch(model, [5, 5, 5, 5, 5])
    values["text"] = values["text"][:1].expand(5, -1)
    uniforms = torch.rand(1, 5 * ROWS).expand(5, -1)
    without = model.sample(**prompt(values), uniforms=uniforms, style_guidance=0)
    assert all(torch.equal(clip, without[0]) for clip in without)
    assert not torch.equal(model.sample(**prompt(values), uniforms=uniforms)[0], without[0])


def test_guided_clips_do_not_depend_on_the_batch_and_draws_differ(mllm_config: MLLMConfig) -> None:
    model = with_values(mllm_config, label_dropout=0.2, style_dropout=0.2)
    values = batch(model, [4, 5, 3])
    uniforms, how = torch.rand(3, 5 * ROWS), {"label_guidance": 2.0, "style_guidance": 0.5, "top_p": 0.9}
    together = model.sample(**prompt(values), uniforms=uniforms, **how)
    for i in range(3):
        alone = model.sample(**prompt(single(values, i)), uniforms=uniforms[i : i + 1, : 3 * ROWS], **how)
        assert torch.equal(alone[0], together[i, :3])
    one = {name: value[:1].expand(6, *value.shape[1:]) for name, value in prompt(values).items()}
    draws = model.sample(**one, uniforms=torch.rand(6, 5 * ROWS))
    assert len({tuple(clip.flatten().tolist()) for clip in draws}) == 6


def test_free_embeddings_learn_and_exist_only_when_asked_for(mllm_config: MLLMConfig) -> None:
    assert not any(name.startswith("free") for name in RespMLLM(mllm_config).state_dict())
    torch.manual_seed(0)
    model = RespMLLM(mllm_config.model_copy(update={"label_dropout": 0.4, "style_dropout": 0.4})).train()
    values = batch(model, [3, 5, 4, 5, 5, 4, 3, 2])
    model(**values).loss.backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []
    assert {"free_text", "free_style"} <= {name for name, _ in model.named_parameters()}
    left_out = []
    whole = model.prompt
    model.prompt = lambda *a, **k: left_out.append(k) or whole(*a, **k)  # type: ignore
    for _ in range(50):
        model(**values)
    for name in ("no_text", "no_style"):
        assert 0.3 < torch.stack([k[name] for k in left_out]).float().mean() < 0.5
    assert any(not torch.equal(k["no_text"], k["no_style"]) for k in left_out)
    model.eval()(**values)
    assert left_out[-1] == {}


def test_guidance_that_was_not_trained_is_refused(mllm_config: MLLMConfig) -> None:
    model = RespMLLM(mllm_config.model_copy(update={"label_dropout": 0.1})).eval()
    values = batch(model, [5])
    with pytest.raises(
        ConfigError, match=r"style_guidance is 2\.0.* style_dropout 0 → set style_guidance to 1"
    ):
        model.sample(**prompt(values), uniforms=torch.rand(1, 8), style_guidance=2.0)
    assert "label_guidance" not in SampleConfig().model_dump()
    assert SampleConfig(label_guidance=1.5).model_dump()["label_guidance"] == 1.5
