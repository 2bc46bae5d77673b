from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from generator_fixtures import CODEBOOK, ROWS, FakeStore
from mllm_batches import batch, prompt
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from generator.config import GeneratorPretrainConfig, Lora, MLLMConfig
from generator.decode import LibraryDecoder, Qwen3Decoder, decoder
from generator.mllm import RespMLLM
from generator.pretrain import train_mllm
from resp229k.clip import Event
from resp229k.corpus import Corpus
from training.errors import CheckpointError, ConfigError
from training.model import Provenance

SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}


def make_base(folder: Path, kind: str = "llama", *, tied: bool = False, places: int = 128) -> Path:
    """A causal language model that spells every prompt, with words at id 0 too."""
    letters = [*"abcdefghijklmnopqrstuvwxyzCPF0123456789_,:", " "]
    spelling = Tokenizer(models.WordLevel({letter: i for i, letter in enumerate(letters)}, "z"))
    spelling.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    PreTrainedTokenizerFast(tokenizer_object=spelling, unk_token="z").save_pretrained(folder)
    config = AutoConfig.for_model(
        kind, **SIZES, vocab_size=len(letters), max_position_embeddings=places, tie_word_embeddings=tied
    )
    torch.manual_seed(1)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def on_base(config: MLLMConfig, folder: Path, **changes: object) -> MLLMConfig:
    return config.model_copy(update={"base": str(folder), **changes})


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gpt_neox", "opt"])
def test_other_architectures_learn_sample_and_load(
    mllm_config: MLLMConfig, tmp_path: Path, kind: str
) -> None:
    torch.manual_seed(0)
    model = RespMLLM(mllm_config.model_copy(update={"architecture": kind, "kv_heads": 4})).train()
    assert model.lm.config.hidden_size == 32 and model.lm.config.num_hidden_layers == 2
    model(**batch(model, [3, 5, 4, 5])).loss.backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []
    model.eval()
    values = batch(model, [5, 5])
    drawn = model.sample(**prompt(values), uniforms=torch.rand(2, 5 * ROWS), top_p=1e-6)
    logits = model.logits(**prompt(values), units=drawn, columns=torch.tensor([5, 5]))
    assert torch.equal(logits[:, :-1, :CODEBOOK].argmax(-1), drawn.flatten(1))
    model.save_pretrained(tmp_path)
    assert torch.equal(RespMLLM.from_pretrained(tmp_path)(**values).nll, model(**values).nll)


def test_an_architecture_that_does_not_fit_is_refused(mllm_config: MLLMConfig) -> None:
    for kind, complaint in (
        ("nonesuch", "no causal language model 'nonesuch' → set mllm.architecture"),
        ("gpt2", "gpt2 has no size num_key_value_heads → set mllm.kv_heads to mllm.heads"),
        ("mamba", "mamba has no size"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            RespMLLM(mllm_config.model_copy(update={"architecture": kind}))
    with pytest.raises(CheckpointError, match="bert is not causal"):
        RespMLLM(mllm_config.model_copy(update={"architecture": "bert", "kv_heads": 4}))


def test_the_thin_step_gives_the_librarys_hidden_states(mllm_config: MLLMConfig) -> None:
    torch.manual_seed(0)
    body = RespMLLM(mllm_config).eval().lm.base_model
    for parameter in body.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    mask = torch.ones(3, 6, dtype=torch.bool)
    mask[1, 2:4] = False
    embeds, more = torch.randn(3, 6, 32), torch.randn(9, 3, 32)
    with torch.no_grad():
        ours, library = (make(body, embeds, mask, 9) for make in (decoder, LibraryDecoder))
        assert type(ours) is Qwen3Decoder
        for inputs in more:
            ours.step(inputs)
            library.step(inputs)
            assert torch.allclose(ours.hidden, library.hidden, atol=1e-4)


@pytest.mark.parametrize("tied", [False, True])
def test_a_base_is_trained_whole_and_needed_no_more(
    mllm_config: MLLMConfig, tmp_path: Path, tied: bool
) -> None:
    folder = make_base(tmp_path / "secret" / "spelling", tied=tied)
    torch.manual_seed(0)
    model = RespMLLM(on_base(mllm_config, folder, events=True, kinds=("crackle", "cough"))).train()
    pretrained = AutoModelForCausalLM.from_pretrained(folder).state_dict()[
        "model.layers.1.mlp.up_proj.weight"
    ]
    assert torch.equal(model.lm.state_dict()["model.layers.1.mlp.up_proj.weight"], pretrained)
    text = model.text.ids("icbhi4", "wheeze")
    assert text[:13].tolist() == model.tokenizer("icbhi4 wheeze")["input_ids"]
    assert set(text[13:].tolist()) == {-1}
    assert (model.text.ids("disease16", "Pulmonary Fibrosis", "50 crackle, 50 cough") >= 0).all()
    model(**batch(model, [3, 5, 4, 5])).loss.backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []
    model.eval().save_pretrained(tmp_path / "mllm")
    shutil.rmtree(folder)
    for file in (tmp_path / "mllm").rglob("*.json"):
        assert "secret" not in file.read_text()
    again = RespMLLM.from_pretrained(tmp_path / "mllm")
    values = batch(model, [3, 5])
    assert torch.equal(values["text"], batch(again, [3, 5])["text"])
    assert torch.equal(model(**values).nll, again(**values).nll)
    again.save_pretrained(tmp_path / "copy")
    assert torch.equal(RespMLLM.from_pretrained(tmp_path / "copy")(**values).nll, again(**values).nll)
    shutil.rmtree(tmp_path / "mllm" / "tokenizer")
    with pytest.raises(CheckpointError, match=r"mllm/tokenizer: holds no tokenizer .* → give"):
        RespMLLM.from_pretrained(tmp_path / "mllm")


@pytest.mark.parametrize(
    ("kind", "targets"), [("llama", None), ("llama", ("q_proj",)), ("gpt2", ("c_attn",))]
)
def test_lora_trains_the_adapters_and_ours_alone_and_is_merged(
    mllm_config: MLLMConfig, tmp_path: Path, kind: str, targets: tuple[str, ...] | None
) -> None:
    folder = make_base(tmp_path / "base", kind)
    torch.manual_seed(0)
    lora = Lora(rank=2, targets=targets)
    model = RespMLLM(on_base(mllm_config, folder, lora=lora, unit_mask=0.0)).train()
    free = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {name for name in free if name.startswith("lm.")} == {n for n in free if ".lora_" in n} != set()
    assert {"unit.weight", "head.weight", "row.weight", "column.weight", "style.out.3.weight"} <= free
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):  # lora_A moves once lora_B has left zero
        optimizer.zero_grad()
        model(**batch(model, [3, 5, 4, 5])).loss.backward()
        optimizer.step()
    silent = [n for n, p in model.named_parameters() if n in free and not p.grad.abs().sum() > 0]  # type: ignore[union-attr]
    assert silent == []
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == free
    model.eval()
    model.provenance = Provenance.of(["a"], notes={"n": 1})
    values = batch(model, [3, 5])
    drawn = model.sample(**prompt(values), uniforms=torch.full((2, 8), 0.5))
    model.save_pretrained(tmp_path / "mllm")
    shutil.rmtree(folder)
    again = RespMLLM.from_pretrained(tmp_path / "mllm")
    assert again.config.lora is None
    assert again.provenance.notes == {"n": 1, "lora": lora.model_dump(mode="json")}
    assert not any("lora" in name for name in again.state_dict())
    assert torch.allclose(again(**values).nll, model(**values).nll, atol=1e-3)
    assert torch.equal(again.sample(**prompt(values), uniforms=torch.full((2, 8), 0.5)), drawn)


def test_what_is_no_base_is_refused(mllm_config: MLLMConfig, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="lora adapts a base"):
        MLLMConfig.model_validate({**mllm_config.model_dump(), "lora": {"rank": 2}})
    with pytest.raises(CheckpointError, match=r"nothing: no config\.json.* → give a folder"):
        RespMLLM(on_base(mllm_config, tmp_path / "nothing"))
    folder = make_base(tmp_path / "base", places=16)
    with pytest.raises(ConfigError, match=r"the base base has 16 places, .* are needed → choose"):
        RespMLLM(on_base(mllm_config, folder))
    with pytest.raises(ConfigError, match=r"lora\.targets cannot be adapted .* → .*q_proj"):
        folder = make_base(tmp_path / "base")
        RespMLLM(on_base(mllm_config, folder, lora=Lora(targets=("nonesuch",))))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(CheckpointError, match=r"base: tensors missing or too many: model\.layers\.2"):
        RespMLLM(on_base(mllm_config, folder))
    (folder / "config.json").write_text(
        json.dumps({**config, "model_type": "own", "auto_map": {"AutoConfig": "own.Own"}})
    )
    (folder / "own.py").write_text("raise SystemExit('ran')")
    with pytest.raises(CheckpointError, match="base: cannot be read as a base"):
        RespMLLM(on_base(mllm_config, folder))
    (folder / "config.json").write_text(json.dumps(config))
    torch.save({}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="base: cannot be read as a base"):
        RespMLLM(on_base(mllm_config, folder))


def test_pretraining_with_everything_asked_for(corpus: Corpus, store: FakeStore, tmp_path: Path) -> None:
    clips = [
        clip.model_copy(update={"events": [Event(kind="wheeze", start=0.1, end=0.3)]})
        for clip in corpus.clips
    ]
    size = {
        "base": str(make_base(tmp_path / "base", places=256)),
        "lora": {"rank": 2, "dropout": 0.1},
        "style": "average",
        "style_tokens": 3,
        "style_dropout": 0.1,
        "label_dropout": 0.1,
        "events": True,
    }
    config = GeneratorPretrainConfig.model_validate(
        {
            "codebook": CODEBOOK,
            "preprocess": {"seconds": 1.0},
            "mllm": size,
            "mllm_fit": {"steps": 3, "batch_size": 4, "eval_every": 2},
            "draw": {"disjoint_crop": 0.5, "valid_clips": 4},
        }
    )
    metrics = train_mllm([Corpus(corpus.folder, clips)], store, config, tmp_path / "mllm")
    assert metrics["steps"] == 3
    shutil.rmtree(tmp_path / "base")
    model = RespMLLM.from_pretrained(tmp_path / "mllm")
    assert model.provenance.notes["lora"]["rank"] == 2
    wish = torch.stack([model.text.ids("icbhi4", "wheeze", e) for e in (None, "3 wheeze")])
    given = {**prompt(batch(model, [5, 5])), "text": wish}
    drawn = model.sample(**given, uniforms=torch.rand(2, 16), label_guidance=2.0, style_guidance=1.5)
    assert drawn.shape == (2, 2, ROWS)
