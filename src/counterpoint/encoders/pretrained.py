"""Published text models: folders of transformers and sentence-transformers, and hub ids. No pickles, no remote code."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from tokenizers.normalizers import Lowercase
from tokenizers.normalizers import Sequence as Normalizers

from counterpoint.encoders import modules
from counterpoint.encoders.border import check_tokens, read_object, reading, shortened
from counterpoint.encoders.layout import Stage, bounded, refuse_pickles, write_json
from counterpoint.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*/config.json", "*/model.safetensors"]
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")

UNLIMITED = 1_000_000
"""The longest text in tokens where neither the folder nor the model has a limit."""
_DEEPEST = 10_000
_DEPTHS = ("num_hidden_layers", "num_layers", "n_layer", "n_layers", "num_attention_heads", "n_head", "n_heads")
"""Of a transformer's configuration: what is made so many times. More than `_DEEPEST` is damage."""


@dataclass(kw_only=True)
class Found:
    """What a folder holds. said: the settings of a sentence-transformers folder (None: a folder of transformers).
    max_length: tokens of the longest text. lowercase: whether the tokenizer folds case.

    model: of transformers. tokenizer: of its vocabulary.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    max_length: int
    lowercase: bool = False
    said: modules.Said | None = None


def read(source: str | Path) -> Found:
    """The transformer of a folder, or of a hub id where there is no such folder, with all that is said of its use.

    source: its path or id.
    """
    folder = locate(source)
    said = None
    if (folder / modules.LISTING).exists():
        said = modules.read(folder)
        if said.static:
            raise ModelError(f"{source} holds a static encoder. Load it with counterpoint.load(FOLDER).")
    elif (folder / modules.SETTINGS).exists():
        raise ModelError(
            f"{folder} holds {modules.SETTINGS} and no {modules.LISTING}: the sentence-transformers folder is "
            "incomplete. Copy or download it again."
        )
    at = folder if said is None else said.first
    network, tokens = model(at, settings=said.config if said else {}), tokenizer(at, said.tokenizer if said else {})
    if said is not None:
        _check_said(said, network, tokens, folder)
    length = modules.max_length(at) if said is None else said.max_length
    return Found(
        model=network,
        tokenizer=tokens,
        max_length=longest(network, tokens, length, otherwise=UNLIMITED),
        lowercase=bool(getattr(tokens, "do_lower_case", False)),
        said=said,
    )


def _check_said(said: modules.Said, network: PreTrainedModel, tokens: PreTrainedTokenizerFast, folder: Path) -> None:
    if said.lowercase:
        backend = tokens.backend_tokenizer
        backend.normalizer = Normalizers([Lowercase(), *([backend.normalizer] if backend.normalizer else [])])
    if said.width not in (None, network.config.hidden_size):
        raise ModelError(
            f"{folder}: the pooling is of embeddings {said.width} wide, and the transformer gives "
            f"{network.config.hidden_size}. The modules do not belong together: copy or download the folder again."
        )
    if "token_type_ids" in tokens.model_input_names and any(tokens.backend_tokenizer.encode("a").type_ids):
        raise ModelError(
            f"{said.first}: its tokenizer numbers the parts of a single text (token types), which Counterpoint does "
            "not follow. Such models can be used through sentence-transformers itself."
        )


def locate(source: str | Path) -> Path:
    """A folder as it is; a hub id downloaded (or found in the hub's cache on this machine).

    source: its path or id.
    """
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


def model(folder: Path, *, kind: Kind = "AutoModel", settings: Mapping[str, Any] | None = None) -> PreTrainedModel:
    """The transformer of a folder, in float32, in eval mode as `transformers` leaves it.

    kind: with which head. settings: of its configuration, in place of those in ``config.json``.
    """
    path = folder / "config.json"
    if not path.exists():
        raise ModelError(f"{folder} is no model folder: it holds no config.json.")
    refuse_pickles(folder)
    _check_config(folder)
    import transformers
    from transformers import AutoConfig

    with reading(path, "the configuration of a transformer"):
        config, unused = AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, return_unused_kwargs=True, **(settings or {})
        )
    if unused := {name for name in unused if name in (settings or {})}:
        raise ModelError(
            f"{folder}: the settings of sentence-transformers name {', '.join(sorted(unused))}, which the model's "
            "configuration does not have. Correct the config_args."
        )
    if config.is_encoder_decoder and kind != "AutoModelForSeq2SeqLM":
        wanted = "a causal language model" if kind == "AutoModelForCausalLM" else "an encoder alone"
        raise ModelError(f"{folder} holds a {config.model_type}, an encoder with a decoder; give {wanted}.")
    # Code shipped inside a model folder is never run.
    with reading(folder, f"the {config.model_type} that its config.json describes"), bounded(folder), quiet():
        found: PreTrainedModel = getattr(transformers, kind).from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
        )
    return found


def _check_config(folder: Path) -> None:
    """Refuse what `transformers` would follow silently: adapters, and sizes that no model has."""
    if (folder / "adapter_config.json").exists():
        raise ModelError(
            f"{folder} holds adapters (adapter_config.json) of another model. Merge them into it with peft "
            "(merge_and_unload) and load what that saves."
        )
    held = read_object(folder / "config.json")
    for name in _DEPTHS:
        if isinstance(held.get(name), int) and held[name] > _DEEPEST:
            raise ModelError(
                f"{folder / 'config.json'} says {name}={shortened(held[name])}, which no model has. It is damaged: "
                "copy or download the model again."
            )


def writes_apart(folder: Path) -> bool:
    """Whether a folder's model reads with an encoder and writes with a decoder; False where no model is."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception:  # whoever reads the model says it
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
    """What a configuration of ours says of a model that was read: its size, its vocabulary, its own configuration.

    model: of transformers. tokenizer: of its vocabulary.
    """
    found = model.config
    return {
        "layers": getattr(found, "num_hidden_layers", 0),
        "width": found.hidden_size,
        "heads": getattr(found, "num_attention_heads", 1),
        "vocabulary": len(tokenizer),
        "architecture": found.to_diff_dict() | {"model_type": found.model_type},
    }


def tokenizer(folder: Path, settings: Mapping[str, Any] | None = None) -> PreTrainedTokenizerFast:
    """The fast tokenizer of a folder. settings: of it, in place of those in its own files."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    path = folder / "tokenizer.json"
    if path.exists():
        check_tokens(path)
    for name in ("tokenizer_config.json", "special_tokens_map.json"):  # their own errors would not name them
        if (folder / name).exists():
            read_object(folder / name)
    with reading(path if path.exists() else folder, "a tokenizer"):
        found = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, **(settings or {})
        )
    if not isinstance(found, PreTrainedTokenizerFast):
        raise ModelError(f"{folder} has a {type(found).__name__}; only tokenizers with a tokenizer.json are read.")
    return found


def write(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    *,
    pooling: str | None,
    include_prompt: bool = True,
) -> list[Stage]:
    """A model, its tokenizer (whose ``model_max_length`` is the longest text) and a pooling, as sentence-transformers
    reads them; returns its modules. pooling: None is one that sentence-transformers lacks: no modules then.

    folder: of the model. include_prompt: whether tokens of the prompt are pooled too.
    """
    with quiet():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    settings = {"max_seq_length": tokenizer.model_max_length, "do_lower_case": False}
    write_json(folder / "sentence_bert_config.json", settings)
    if pooling is None:
        return []
    (folder / "1_Pooling").mkdir()
    said = modules.pooling_config(pooling, model.config.hidden_size, include_prompt=include_prompt)
    write_json(folder / "1_Pooling/config.json", said)
    names = (("Transformer", ""), ("Pooling", "1_Pooling"))
    return [Stage(type=f"sentence_transformers.models.{name}", path=path) for name, path in names]


def places(config: Any) -> int | None:
    """The tokens a model has positions for; None: it has no table of them.

    config: of transformers.
    """
    count = getattr(config, "max_position_embeddings", None)
    if count and config.model_type in ("roberta", "xlm-roberta", "camembert"):
        count -= config.pad_token_id + 1  # positions up to the padding id are not used
    return count or None


def check_length(max_length: int, config: Any) -> None:
    """Refuse a longest text for which a model has no positions.

    max_length: in tokens. config: of transformers.
    """
    if (count := places(config)) and max_length > count:
        raise ConfigError(f"max_length={max_length}: this model has positions for {count} tokens at most.")


def longest(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, said: int | None = None, *, otherwise: int = 512
) -> int:
    """The longest text in tokens: what the folder says, else what the tokenizer says, within the positions there are.

    said: by the folder (None: nothing). otherwise: where nothing limits it. model: of transformers. tokenizer: of its
    vocabulary.
    """
    limits = [n for n in (said or tokenizer.model_max_length, places(model.config)) if n and 0 < n < UNLIMITED]
    return int(min(limits, default=otherwise))
