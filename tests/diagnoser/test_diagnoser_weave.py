"""Weaving: anchors on the grid, hidden and missing modalities, their temperatures, where [CLS] looks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from diagnoser import explain as explaining
from diagnoser.calibrate import fit_temperature, negative_log_likelihood
from diagnoser.config import Anchors, DiagnoserConfig, DiagnoserSizes
from diagnoser.data import ClipDataset, collate
from diagnoser.explain import cls_weights, explain
from diagnoser.model import Diagnoser
from diagnoser.weave import anchor_places, hide_whole, present

ROWS, DIM = 8, 6


def build(**sizes: Any) -> Diagnoser:
    torch.manual_seed(0)
    defaults = {"hidden": 16, "inner": 24, "window": 8, "rows": 4, "vocabulary": 64, "text_tokens": 12}
    chosen = DiagnoserSizes(**{**defaults, "max_columns": 20, "anchors": Anchors(rows=(0, 2)), **sizes})
    config = DiagnoserConfig(task="icbhi4", classes=("a", "b", "c"), feature_dim=DIM, sizes=chosen)
    model = Diagnoser(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def sample(words: int, columns: int, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng([seed, words, columns])
    features = rng.normal(size=(columns, ROWS, DIM)).astype(np.float16)
    return {"tokens": rng.integers(5, 64, words).tolist(), "features": features}


def test_anchors_are_every_fourth_place_as_published() -> None:
    sizes = DiagnoserSizes(rows=8, anchors=Anchors(every_columns=1, rows=(0, 4)))
    assert anchor_places(sizes, 62).nonzero()[:, 0].tolist() == list(range(0, 496, 4))


def test_anchors_of_some_columns_and_none() -> None:
    sizes = DiagnoserSizes(rows=4, anchors=Anchors(every_columns=3, rows=(1, 3)))
    assert anchor_places(sizes, 5).nonzero()[:, 0].tolist() == [1, 3, 13, 15]
    model = build(anchors=None)
    with torch.no_grad():
        woven = model.weave(**collate([sample(3, 5)]))
    assert woven.everywhere[0].nonzero()[:, 0].tolist() == [0, 1]


def test_an_anchor_hears_all_and_is_heard_by_all() -> None:
    """With a window of two places, the far end reaches the first audio place through an anchor alone."""
    reached = {}
    for name, anchors in (("anchored", Anchors(rows=(0,))), ("none", None)):
        model = build(anchors=anchors, window=2, layers=1)
        table = model.longformer.longformer.embeddings
        states = torch.randn(1, 40, 16, requires_grad=True)
        everywhere = torch.zeros(1, 40, dtype=torch.long)
        if anchors is not None:
            everywhere[:, 4::4] = 1
        assert table is not None
        found = model.longformer.longformer(
            inputs_embeds=states, attention_mask=torch.ones(1, 40), global_attention_mask=everywhere
        ).last_hidden_state
        (slope,) = torch.autograd.grad(found[0, 5].sum(), states)
        reached[name] = slope[0].abs().sum(dim=1) > 1e-7
    assert reached["none"].nonzero()[:, 0].tolist() == [4, 5, 6]
    assert reached["anchored"].nonzero()[:, 0].tolist() == sorted({*range(4, 40, 4), 5, 6})


def test_nothing_is_drawn_where_nothing_is_hidden_whole() -> None:
    mask, columns = torch.ones(4, 3, dtype=torch.bool), torch.tensor([5, 5, 0, 5])
    before = torch.get_rng_state()
    hidden = hide_whole(mask, columns, text=0.0, audio=0.0)
    assert hidden[0] is mask and hidden[1] is columns and torch.equal(torch.get_rng_state(), before)


def test_a_sample_loses_one_modality_at_most_and_never_its_only_one() -> None:
    torch.manual_seed(0)
    mask = torch.ones(9000, 3, dtype=torch.bool)
    columns = torch.full((9000,), 5)
    mask[6000:] = False  # audio alone
    columns[3000:6000] = 0  # text alone
    told, heard = present(*hide_whole(mask, columns, text=0.3, audio=0.5)).unbind(dim=1)
    assert bool((told | heard).all())
    assert abs(float((~told[:3000]).float().mean()) - 0.3) < 0.03
    assert abs(float((~heard[:3000]).float().mean()) - 0.5) < 0.03
    assert bool(told[3000:6000].all()) and bool(heard[6000:].all())


@pytest.mark.parametrize("hidden", ["text", "audio"])
def test_what_is_hidden_whole_is_as_if_it_had_not_come(hidden: str) -> None:
    off = {"dropout": 0.0, "text_dropout": 0.0, "audio_dropout": 0.0}
    model = build(**off, **{f"whole_{hidden}_dropout": 0.999}).train()
    given = [sample(7, 9), sample(4, 14)]
    alone = [dict(one) for one in given]
    for one in alone:
        if hidden == "text":
            one["tokens"] = []
        else:
            one["features"] = one["features"][:0]
    torch.manual_seed(1)
    with torch.no_grad():
        found = model(**collate(given)).logits
        torch.testing.assert_close(found, model.eval()(**collate(alone)).logits, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("attention", ["auto", "library"])
@pytest.mark.parametrize("pool", ["mean", "cls"])
def test_missing_modalities_in_mixed_batches(attention: str, pool: str) -> None:
    """Text alone, audio alone, both and neither: each as if it were alone, none without an answer."""
    model = build(attention=attention, pool=pool)
    samples = [sample(5, 0), sample(0, 11), sample(12, 20), sample(0, 0), sample(1, 1), sample(12, 0)]
    with torch.no_grad():
        together = model(**collate(samples)).logits
        assert bool(torch.isfinite(together).all())
        for row, one in enumerate(samples):
            alone = model(**collate([one])).logits[0]
            torch.testing.assert_close(alone, together[row], atol=1e-5, rtol=1e-5)


def test_text_alone_is_summed_up_by_cls() -> None:
    """There is no audio to average, and half of [CLS] would be another scale."""
    mean, cls = build(pool="mean"), build(pool="cls")
    cls.load_state_dict(mean.state_dict())
    given = collate([sample(5, 0)])
    with torch.no_grad():
        assert torch.equal(mean(**given).logits, cls(**given).logits)


@pytest.mark.parametrize("given", [[sample(5, 0), sample(9, 0)], [sample(0, 4), sample(0, 9)]])
def test_gradients_of_batches_with_one_modality(given: list[dict[str, Any]]) -> None:
    model = build(whole_text_dropout=0.4, whole_audio_dropout=0.4).train()
    model(**collate(given), labels=torch.tensor([0, 1])).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and bool(torch.isfinite(parameter.grad).all()), name


def test_temperature_of_what_is_there() -> None:
    model = build()
    model.set_temperatures(2.0, audio=3.0, text=0.5)
    logits = torch.tensor([[1.0, 0.0, -2.0]]).expand(4, -1)
    there = torch.tensor([[True, True], [False, True], [True, False], [False, False]])
    found = model.probabilities(logits, there)
    for row, temperature in enumerate((2.0, 3.0, 0.5, 2.0)):
        torch.testing.assert_close(found[row], (logits[row] / temperature).softmax(dim=-1))
    assert torch.equal(model.probabilities(logits)[0], found[0])
    model.set_temperatures(1.3)
    assert torch.equal(model.probabilities(logits, there), model.probabilities(logits))


class Store:
    """Features by clip id."""

    def features(self, clip_id: str) -> np.ndarray:
        return sample(0, 6, seed=int(clip_id))["features"]


def test_a_missing_modality_is_calibrated() -> None:
    """Labels drawn at a known temperature of each view: the fit finds it, and it beats that of both."""
    model = build()
    rng, count = np.random.default_rng(0), 800
    read = [sample(5, 0, seed=index)["tokens"] for index in range(count)]
    dataset = ClipDataset([str(index) for index in range(count)], Store(), read)
    views = {"both": dataset, "audio": dataset.alone("audio"), "text": dataset.alone("text")}
    true = {"both": 1.0, "audio": 2.5, "text": 0.5}
    fitted, kept = {}, {}
    for name, view in views.items():
        batch = collate([view[index] for index in range(count)])
        with torch.no_grad():
            logits = 3 * model(**batch).logits.double()
        chances = (logits / true[name]).softmax(dim=-1).numpy()
        labels = np.array([rng.choice(3, p=row) for row in chances])
        fitted[name] = fit_temperature(logits.numpy(), labels)
        kept[name] = logits, labels, present(batch["text_mask"], batch["columns"])
    for name, temperature in true.items():
        assert fitted[name] == pytest.approx(temperature, rel=0.25)
    model.set_temperatures(fitted["both"], audio=fitted["audio"], text=fitted["text"])
    for name in ("audio", "text"):
        logits, labels, there = kept[name]
        own = model.probabilities(logits, there).log().numpy()
        other = model.probabilities(logits).log().numpy()
        assert negative_log_likelihood(own, labels) < negative_log_likelihood(other, labels) - 0.01


def test_cls_attention_is_what_the_network_uses() -> None:
    """One head: weights times values are the layer's output at [CLS]. Several: the library's own weights."""
    given = sample(6, 9)
    model = build(heads=1)
    layers: Any = model.longformer.longformer.encoder.layer
    seen: dict[str, torch.Tensor] = {}
    layers[-1].attention.self.register_forward_hook(
        lambda module, args, kwargs, output: seen.update(
            states=args[0], padding=kwargs["is_index_masked"], output=output[0]
        ),
        with_kwargs=True,
    )
    with torch.no_grad():
        model(**collate([given]))
        weights = cls_weights(layers[-1].attention.self, seen["states"], seen["padding"])
        mixed = weights[:, 0] @ layers[-1].attention.self.value_global(seen["states"])[0]
    torch.testing.assert_close(mixed, seen["output"][:, 0], atol=1e-5, rtol=1e-5)

    model = build(heads=4, attention="library")
    with torch.no_grad():
        woven = model.weave(**collate([given]))
        found = model.longformer.longformer(
            inputs_embeds=woven.states,
            attention_mask=woven.attend.long(),
            global_attention_mask=woven.everywhere.long(),
            output_attentions=True,
        )
    expected = found.global_attentions[-1][0, :, :, 0].mean(dim=0)[: 3 + 6 + 9 * 4].numpy()
    ours = explain(model, given)
    np.testing.assert_allclose(ours.tokens, expected[2:8], atol=1e-6)
    np.testing.assert_allclose(ours.columns, expected[8:44].reshape(9, 4).sum(axis=1), atol=1e-6)
    assert ours.special == pytest.approx(float(expected[[0, 1, 44]].sum()), abs=1e-5)


@pytest.mark.parametrize(("words", "columns"), [(0, 3), (4, 0), (30, 25)])
def test_attention_of_missing_and_of_cut_modalities(words: int, columns: int) -> None:
    found = explain(build(), sample(words, columns))
    assert found.tokens.shape == (min(words, 12),) and found.columns.shape == (min(columns, 20),)
    assert found.special + found.tokens.sum() + found.columns.sum() == pytest.approx(1.0, abs=1e-5)


def test_overlapping_windows_share_a_time_axis(monkeypatch: pytest.MonkeyPatch) -> None:
    from diagnoser.predict import Piece

    class Windows:
        model = None

        def pieces(self, *_: Any) -> list[Piece]:
            return [Piece(0, 0.0, sample(0, 4)), Piece(0, 0.47, sample(0, 4))]

    values = iter((np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.6, 0.1, 0.1, 0.2])))
    monkeypatch.setattr(
        explaining, "explain", lambda *_: explaining.Attention(next(values), np.zeros(0), 0.0)
    )
    found = explaining.explain_wave(Windows(), np.zeros(1))  # type: ignore[arg-type]
    np.testing.assert_allclose(found.columns, [0.1, 0.2, 0.3, 0.5, 0.1, 0.1, 0.2])
