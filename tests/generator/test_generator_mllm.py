from __future__ import annotations

from pathlib import Path

import pytest
import torch
from generator_fixtures import CODEBOOK, LABELS, ROWS
from mllm_batches import batch, prompt, single

from generator.config import MLLMConfig
from generator.decode import nucleus
from generator.mllm import RespMLLM
from generator.prompt import PromptText
from training.errors import DataError, NonFiniteError


def test_a_clip_has_the_same_loss_alone_and_padded_in_a_batch(mllm_config: MLLMConfig) -> None:
    torch.manual_seed(0)
    model = RespMLLM(mllm_config).eval()
    values = batch(model, [2, 5, 3, 4])
    together = model(**values)
    values["units"][0, 2:] = 7  # what stands on padding does not matter
    values["features"][0, 3:] = 1e3
    assert torch.allclose(model(**values).nll, together.nll, atol=1e-4)
    for i in range(4):
        alone = model(**single(values, i))
        assert torch.allclose(alone.nll[0], together.nll[i], atol=1e-3)
        count = int(values["columns"][i]) * ROWS + 1
        logits = model.logits(**values)[i, :count]
        assert torch.allclose(model.logits(**single(values, i))[0], logits, atol=1e-4)


def test_the_loss_is_that_of_units_and_end_alone(mllm_config: MLLMConfig) -> None:
    torch.manual_seed(0)
    model = RespMLLM(mllm_config).eval()
    values = batch(model, [2, 5, 3])
    together = model(**values).loss
    values["units"][0, 2:] = 7  # what stands on padding bears no loss
    assert torch.allclose(model(**values).loss, together, atol=1e-5)
    counts = values["columns"] * ROWS + 1
    alone = torch.stack([model(**single(values, i)).loss for i in range(3)])
    assert torch.allclose((alone * counts).sum() / counts.sum(), together, atol=1e-4)
    one = single(values, 1)
    targets = torch.cat([one["units"].flatten(), torch.tensor([model.end])])
    chosen = model.logits(**one)[0].log_softmax(-1)[torch.arange(len(targets)), targets]
    assert torch.allclose(-chosen.mean(), alone[1], atol=1e-5)


def test_diverged_weights_are_told(mllm_config: MLLMConfig) -> None:
    torch.manual_seed(0)
    model = RespMLLM(mllm_config).eval()
    with torch.no_grad():
        model.head.bias[0] = torch.nan
    with pytest.raises(NonFiniteError, match="no numbers"):
        model.sample(**prompt(batch(model, [2])), uniforms=torch.rand(1, 2 * ROWS))


def test_every_parameter_gets_a_gradient(mllm_config: MLLMConfig) -> None:
    torch.manual_seed(0)
    model = RespMLLM(mllm_config).train()
    model(**batch(model, [3, 5, 4, 5])).loss.backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


def test_unit_inputs_are_masked_in_training_only(mllm_config: MLLMConfig) -> None:
    torch.manual_seed(0)
    model = RespMLLM(mllm_config.model_copy(update={"unit_mask": 0.5}))
    values = batch(model, [5, 5])
    seen = []
    model.unit.register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0]))
    model.eval()(**values)
    assert not (seen[-1] == model.mask).any()
    model.train()(**values)
    share = (seen[-1][:, 1:] == model.mask).float().mean()
    assert 0.3 < share < 0.7
    assert (seen[-1][:, 0] == model.start).all()


def test_sampling_follows_the_uniforms_and_nothing_else(mllm_config: MLLMConfig) -> None:
    torch.manual_seed(0)
    model = RespMLLM(mllm_config).eval()
    values = batch(model, [4, 5, 3])
    uniforms = torch.rand(3, 5 * ROWS)
    together = model.sample(**prompt(values), uniforms=uniforms, top_p=0.9)
    assert together.shape == (3, 5, ROWS)
    assert int(together.max()) < CODEBOOK
    for i in range(3):
        alone = single(values, i)
        drawn = model.sample(**prompt(alone), uniforms=uniforms[i : i + 1, : 2 * ROWS], top_p=0.9)
        assert torch.equal(drawn[0], together[i, :2])
    other = model.sample(**prompt(values), uniforms=torch.rand(3, 5 * ROWS), top_p=0.9)
    assert not torch.equal(other, together)


def test_cached_sampling_agrees_with_the_full_forward(mllm_config: MLLMConfig) -> None:
    torch.manual_seed(0)
    model = RespMLLM(mllm_config).eval()
    values = batch(model, [5, 5])
    # The nucleus of one class is greedy decoding, which the uncached forward must reproduce.
    drawn = model.sample(**prompt(values), uniforms=torch.rand(2, 5 * ROWS), top_p=1e-6)
    logits = model.logits(**prompt(values), units=drawn, columns=torch.tensor([5, 5]))
    assert torch.equal(logits[:, :-1, :CODEBOOK].argmax(-1), drawn.flatten(1))


def test_nucleus_draws_with_the_right_frequencies() -> None:
    p = torch.tensor([0.1, 0.5, 0.3, 0.1])
    u = (torch.arange(1000) + 0.5) / 1000
    drawn = nucleus(p.log().expand(1000, -1), u, 1.0)
    assert torch.allclose(torch.bincount(drawn, minlength=4) / 1000, p, atol=2e-3)
    kept = nucleus(p.log().expand(1000, -1), u, 0.6)
    assert torch.allclose(
        torch.bincount(kept, minlength=4) / 1000, torch.tensor([0, 0.625, 0.375, 0]), atol=2e-3
    )


def test_save_and_load(mllm_config: MLLMConfig, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = RespMLLM(mllm_config).eval()
    model.save_pretrained(tmp_path / "mllm")
    again = RespMLLM.from_pretrained(tmp_path / "mllm")
    values = batch(model, [3, 5])
    assert torch.equal(model(**values).nll, again(**values).nll)


def test_unknown_labels_and_long_grids_are_refused(mllm_config: MLLMConfig) -> None:
    model = RespMLLM(mllm_config).eval()
    with pytest.raises(DataError, match="Control, Pulmonary Fibrosis"):
        model.text.ids("disease16", "Asthma")
    with pytest.raises(DataError, match="trained tasks: disease16, icbhi4"):
        model.text.ids("covid", "positive")
    with pytest.raises(DataError, match="6 columns"):
        model(**batch(model, [6]))
    values = batch(model, [5])
    with pytest.raises(DataError, match="48 units"):
        model.sample(values["text"], values["features"], values["feature_columns"], torch.rand(1, 48))


def test_labels_share_words_and_have_one_length() -> None:
    text = PromptText(LABELS)
    ids = [text.ids(task, label) for task, names in LABELS.items() for label in names]
    assert {len(i) for i in ids} == {text.places}
    assert len({tuple(i.tolist()) for i in ids}) == 4
    assert all(int(i.max()) < text.size for i in ids)
