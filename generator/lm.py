"""The language model inside a Resp-MLLM: a fresh one of given sizes, or a base from a folder, adapted by LoRA."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.pytorch_utils import Conv1D

from generator.config import Lora, MLLMConfig
from training.errors import CheckpointError, ConfigError

CURE = "give a folder with config.json, *.safetensors and tokenizer.json of a causal language model"

LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}

# Names of one size in the library's configs, where its own attribute_map does not know them.
ALIASES = {"intermediate_size": ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size")}


def fresh(config: MLLMConfig, vocabulary: int, places: int) -> PreTrainedModel:
    """A network of random weights.

    Args:
        config: architecture and sizes.
        vocabulary: words of the prompt.
        places: longest sequence.

    Raises:
        ConfigError: no such architecture, or it lacks one of the sizes.
    """
    name = config.architecture
    if name not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or name not in CONFIG_MAPPING:
        raise ConfigError(
            f"transformers knows no causal language model {name!r}",
            cure="set mllm.architecture to a model_type such as qwen3, llama or gpt_neox",
        )
    kind: Any = CONFIG_MAPPING[name]
    default = kind()
    sizes = {
        "vocab_size": vocabulary,
        "hidden_size": config.hidden,
        "intermediate_size": config.intermediate,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.hidden // config.heads,
        "max_position_embeddings": places,
    }
    if config.kv_heads == config.heads and not hasattr(default, "num_key_value_heads"):
        del sizes["num_key_value_heads"]  # what it cannot share, it need not be told
    if not hasattr(default, "head_dim") or isinstance(getattr(kind, "head_dim", None), property):
        del sizes["head_dim"]  # it is hidden / heads
    known: dict[str, Any] = {}
    for size, value in sizes.items():
        found = [alias for alias in ALIASES.get(size, (size,)) if hasattr(default, alias)]
        if not found:
            cure = "set mllm.kv_heads to mllm.heads" if "key_value" in size else "choose another architecture"
            raise ConfigError(f"{name} has no size {size}", cure=cure)
        known[kind.attribute_map.get(found[0], found[0])] = value
    known |= {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": None}
    return _build(kind(**known, tie_word_embeddings=True, use_cache=False))


def read_base(folder: Path) -> PreTrainedModel:
    """A causal language model from a local folder, in float32; safetensors alone, and no code of its own.

    Raises:
        CheckpointError: it is no such folder.
    """
    if not (folder / "config.json").is_file():
        raise CheckpointError("no config.json: this is no language model", path=folder, cure=CURE)
    how: dict[str, Any] = {"use_safetensors": True, "dtype": torch.float32, "output_loading_info": True}
    read: Any
    try:
        read = AutoModelForCausalLM.from_pretrained(folder, **how, **LOCAL)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"cannot be read as a base ({_line(error)})", path=folder, cure=CURE) from error
    lm: PreTrainedModel = read[0]
    told = read[1]
    wrong = sorted([*told["missing_keys"], *told["unexpected_keys"]])
    if wrong:
        raise CheckpointError(
            f"tensors missing or too many: {', '.join(wrong[:5])}", path=folder, cure="download it again"
        )
    return lm


def read_tokenizer(folder: Path) -> Any:
    """The tokenizer in a local folder.

    Raises:
        CheckpointError: there is none.
    """
    try:
        return AutoTokenizer.from_pretrained(folder, **LOCAL)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise CheckpointError(f"holds no tokenizer ({_line(error)})", path=folder, cure=CURE) from error


def from_record(record: dict[str, Any]) -> PreTrainedModel:
    """A network of random weights from a base's config, as :func:`to_record` wrote it."""
    return _build(CONFIG_MAPPING[record["model_type"]].from_dict(record))


def to_record(lm: PreTrainedModel) -> dict[str, Any]:
    """A network's config without the path that it was read from."""
    return {k: v for k, v in lm.config.to_diff_dict().items() if not k.startswith("_")}


def _line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


def _build(config: Any) -> PreTrainedModel:
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=False)


def body(lm: PreTrainedModel) -> PreTrainedModel:
    """The network without its head: vectors in, hidden states out."""
    inner: Any = lm.base_model
    return inner  # type: ignore[no-any-return]


def width(lm: PreTrainedModel) -> int:
    """Size of the vectors that it takes."""
    words: Any = lm.get_input_embeddings()
    return int(words.embedding_dim)


def bare(lm: PreTrainedModel, folder: Path | None = None) -> PreTrainedModel:
    """Take the head over words off where it has weights of its own: units have their own, and train no words.

    Raises:
        CheckpointError: the network cannot be fed with vectors as wide as its own, or hears what comes later.
    """
    words, head = lm.get_input_embeddings(), lm.get_output_embeddings()
    wide = lm.config.get_text_config().hidden_size
    if body(lm) is lm or width(lm) != wide:
        raise CheckpointError(
            f"a {lm.config.model_type} cannot be fed with units", path=folder, cure="choose another base"
        )
    inputs = torch.linspace(-1, 1, 2 * wide).square().view(1, 2, wide)
    with torch.no_grad():
        lm.eval()
        short, long = (body(lm)(inputs_embeds=x).last_hidden_state[:, 0] for x in (inputs[:, :1], inputs))
        lm.train()
    if not torch.allclose(short, long, atol=1e-4):
        raise CheckpointError(
            f"a {lm.config.model_type} is not causal: it hears what comes later", path=folder, cure=CURE
        )
    if head is not None and head.weight is not words.weight:
        (name,) = [name for name, module in lm.named_modules() if module is head]
        setattr(lm.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2], None)
    return lm


def adapt(lm: PreTrainedModel, lora: Lora) -> None:
    """Put adapters beside linear layers, in place, and freeze everything else.

    Raises:
        ConfigError: none of the targets is in the network.
    """
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]
        lora_dropout=lora.dropout,
        target_modules="all-linear" if lora.targets is None else list(lora.targets),
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in lm.modules()),
    )
    try:
        inject_adapter_in_model(config, lm)
    except ValueError as error:
        names = sorted({n.rpartition(".")[2] for n, m in lm.named_modules() if hasattr(m, "weight")})
        raise ConfigError(
            f"mllm.lora.targets cannot be adapted ({str(error).splitlines()[0]})",
            cure=f"choose linear layers among {', '.join(names)}",
        ) from error


def merged(state: dict[str, torch.Tensor], lm: PreTrainedModel, prefix: str) -> dict[str, torch.Tensor]:
    """A state without adapters: what they add is added to the layers they stand beside.

    Args:
        state: of the network that holds ``lm`` under ``prefix``; left as it is.
        lm: with adapters.
        prefix: such as ``lm.``.
    """
    plain = {k.replace(".base_layer.", "."): v for k, v in state.items() if ".lora_" not in k}
    for name, module in lm.named_modules():
        if isinstance(module, LoraLayer):
            key, layer = f"{prefix}{name}.weight", cast(Any, module)
            plain[key] = plain[key] + layer.get_delta_weight("default").detach().to(plain[key])
    return plain
