"""Published text models: folders of transformers and sentence-transformers, and hub ids. No pickles, no remote code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from counterpoint.encoders.layout import Stage, read_json, read_modules, read_prompts, refuse_pickles, write_json
from counterpoint.encoders.pooling import Pooling
from counterpoint.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

# Ours -> that of sentence-transformers' Pooling module.
_POOLINGS: dict[Pooling, str] = {
    "cls": "cls",
    "mean": "mean",
    "max": "max",
    "weighted": "weightedmean",
    "last": "lasttoken",
}
_LEGACY = {
    "cls": "cls_token",
    "mean": "mean_tokens",
    "max": "max_tokens",
    "weightedmean": "weightedmean_tokens",
}
_LEGACY["lasttoken"] = "lasttoken"

_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*/config.json", "*/model.safetensors"]
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


@dataclass(kw_only=True)
class Found:
    """What a folder holds."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    max_length: int
    pooling: Pooling = "mean"
    normalize: bool = True
    lowercase: bool = False
    prompts: dict[str, str] = field(default_factory=dict)


def read(source: str | Path) -> Found:
    """The model of a folder, or of a hub id where there is no such folder."""
    folder = locate(source)
    modules = read_modules(folder) or [("Transformer", folder)]
    names = [name for name, _ in modules]
    if names[0] != "Transformer" or any(name not in ("Pooling", "Normalize") for name in names[1:]):
        raise ModelError(
            f"{source} is made of the modules {', '.join(names)}; Counterpoint reads Transformer, Pooling and "
            "Normalize. Models with other modules can be used through sentence-transformers itself."
        )
    at = modules[0][1]
    found = Found(model=model(at), tokenizer=tokenizer(at), max_length=0, prompts=read_prompts(folder))
    for name, path in modules:
        if name == "Pooling":
            found.pooling = _pooling(path)
    # A transformers folder says nothing about unit length; a sentence-transformers folder without Normalize means it.
    found.normalize = "Normalize" in names or len(names) == 1
    said = at / "sentence_bert_config.json"
    settings = read_json(said) if said.exists() else {}
    found.max_length = longest(found.model, found.tokenizer, settings.get("max_seq_length"))
    found.lowercase = bool(getattr(found.tokenizer, "do_lower_case", False))
    return found


def locate(source: str | Path) -> Path:
    """A folder as it is; a hub id downloaded (or found in the hub's cache on this machine)."""
    path = Path(source)
    if path.is_dir():
        return path
    if isinstance(source, Path) or not _HUB_ID.fullmatch(source):
        raise ModelError(f"There is no folder {source}. Give a model folder, or a hub id such as organisation/name.")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(source, allow_patterns=_FILES, ignore_patterns=["onnx/*", "openvino/*"], etag_timeout=5)
        )
    except LocalEntryNotFoundError as error:
        raise ModelError(
            f"There is no folder {source!r}, the hub cannot be reached, and no copy of the hub's {source!r} is on this "
            "machine. Check the network, or give the path of a model folder."
        ) from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise ModelError(f"There is no folder {source!r}, and the hub does not give it: {error}") from error


Kind = Literal["AutoModel", "AutoModelForCausalLM", "AutoModelForSeq2SeqLM", "AutoModelForSequenceClassification"]


def model(folder: Path, *, kind: Kind = "AutoModel") -> PreTrainedModel:
    """The transformer of a folder, in float32, in eval mode as `transformers` leaves it. kind: with which head."""
    if not (folder / "config.json").exists():
        raise ModelError(f"{folder} is no model folder: it holds no config.json.")
    refuse_pickles(folder)
    import transformers
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        if config.is_encoder_decoder and kind != "AutoModelForSeq2SeqLM":
            wanted = "a causal language model" if kind == "AutoModelForCausalLM" else "an encoder alone"
            raise ModelError(f"{folder} holds a {config.model_type}, an encoder with a decoder; give {wanted}.")
        with quiet():
            return getattr(transformers, kind).from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
            )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(
            f"No model can be read from {folder}: {error} (Code shipped inside a model folder is never run.)"
        ) from error


def writes_apart(folder: Path) -> bool:
    """Whether a folder's model reads with an encoder and writes with a decoder; False where no model is."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError):  # whoever reads the model says it
        return False
    return bool(config.is_encoder_decoder)


@contextmanager
def quiet() -> Iterator[None]:
    """`transformers` without progress bars, and without its report on layers we do not use (BERT's pooler)."""
    from transformers.utils import logging

    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def shape(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """What a configuration of ours says of a model that was read: its size, its vocabulary, its own configuration."""
    found = model.config
    return {
        "layers": getattr(found, "num_hidden_layers", 0),
        "width": found.hidden_size,
        "heads": getattr(found, "num_attention_heads", 1),
        "vocabulary": len(tokenizer),
        "architecture": found.to_diff_dict() | {"model_type": found.model_type},
    }


def tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The fast tokenizer of a folder."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    try:
        found = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"No tokenizer can be read from {folder}: {error}") from error
    if not isinstance(found, PreTrainedTokenizerFast):
        raise ModelError(f"{folder} has a {type(found).__name__}; only tokenizers with a tokenizer.json are read.")
    return found


def write(
    folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, *, pooling: Pooling | None
) -> list[Stage]:
    """A model, its tokenizer (whose ``model_max_length`` is the longest text) and a pooling, as sentence-transformers
    reads them; returns its modules. pooling: None is one that sentence-transformers lacks: no modules then."""
    with quiet():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    settings = {"max_seq_length": tokenizer.model_max_length, "do_lower_case": False}
    write_json(folder / "sentence_bert_config.json", settings)
    if pooling is None:
        return []
    (folder / "1_Pooling").mkdir()
    write_json(folder / "1_Pooling/config.json", pooling_config(pooling, model.config.hidden_size))
    names = (("Transformer", ""), ("Pooling", "1_Pooling"))
    return [Stage(type=f"sentence_transformers.models.{name}", path=path) for name, path in names]


def pooling_config(pooling: Pooling, dim: int) -> dict[str, Any]:
    """sentence-transformers' Pooling configuration, in the keys that all its versions read."""
    flags = {f"pooling_mode_{key}": name == _POOLINGS[pooling] for name, key in _LEGACY.items()}
    return {"word_embedding_dimension": dim, **flags, "include_prompt": True}


def _pooling(folder: Path) -> Pooling:
    said = read_json(folder / "config.json")
    modes = said.get("pooling_mode") or [name for name, key in _LEGACY.items() if said.get(f"pooling_mode_{key}")]
    modes = [modes] if isinstance(modes, str) else list(modes)
    ours = [mine for mine, theirs in _POOLINGS.items() if [theirs] == modes]
    if not ours or said.get("pooling_mode_mean_sqrt_len_tokens"):
        raise ModelError(
            f"{folder}/config.json asks for the pooling {', '.join(modes) or 'mean_sqrt_len'}; Counterpoint pools with "
            f"one of {', '.join(_POOLINGS.values())}."
        )
    if not said.get("include_prompt", True):
        raise ModelError(f"{folder}/config.json leaves the prompt out of the pooling, which Counterpoint does not do.")
    return ours[0]


def places(config: Any) -> int | None:
    """The tokens a model has positions for; None: it has no table of them."""
    count = getattr(config, "max_position_embeddings", None)
    if count and config.model_type in ("roberta", "xlm-roberta", "camembert"):
        count -= config.pad_token_id + 1  # positions up to the padding id are not used
    return count or None


def check_length(max_length: int, config: Any) -> None:
    """Refuse a longest text for which a model has no positions."""
    if (count := places(config)) and max_length > count:
        raise ConfigError(f"max_length={max_length}: this model has positions for {count} tokens at most.")


def longest(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, said: int | None = None) -> int:
    """The longest text in tokens: what the folder says, within what the tokenizer and the positions allow."""
    limits = [n for n in (said, places(model.config), tokenizer.model_max_length) if n and 0 < n < 1_000_000]
    return int(min(limits, default=512))
