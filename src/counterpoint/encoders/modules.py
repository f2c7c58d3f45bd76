"""What a sentence-transformers folder says: every setting is followed, or refused by its name.

``modules.json`` lists modules, each with a configuration of its own; ``config_sentence_transformers.json`` holds what
concerns all of them. Settings that only say where and how quickly something is computed are passed over.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from counterpoint.encoders.border import expect, read_json, read_object, shortened
from counterpoint.encoders.layout import Stage, write_json
from counterpoint.encoders.pooling import JOINT
from counterpoint.errors import ModelError

LISTING, SETTINGS = "modules.json", "config_sentence_transformers.json"

POOLINGS = {
    "cls": "cls",
    "max": "max",
    "mean": "mean",
    "mean_sqrt": "mean_sqrt_len_tokens",
    "weighted": "weightedmean",
    "last": "lasttoken",
}
"""Ours -> that of their Pooling module, in the order in which several stand side by side where flags name them."""

FLAGS = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt": "pooling_mode_mean_sqrt_len_tokens",
    "weighted": "pooling_mode_weightedmean_tokens",
    "last": "pooling_mode_lasttoken",
}
"""Ours -> the flag by which all versions of the library know it."""

ACTIVATIONS = {
    f"{cls.__module__}.{cls.__name__}": cls
    for cls in (
        nn.Identity, nn.Tanh, nn.ReLU, nn.ReLU6, nn.GELU, nn.SiLU, nn.Sigmoid, nn.ELU, nn.SELU, nn.CELU, nn.LeakyReLU,
        nn.Mish, nn.Softplus, nn.Softsign, nn.Tanhshrink, nn.LogSigmoid, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid,
    )
}  # fmt: skip
"""The activations of a Dense module that are known, by the name in its configuration."""

SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")

_FAMILIES = ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
_TRANSFORMER_FILES = tuple(f"sentence_{family}_config.json" for family in _FAMILIES)
_PLACEMENT = {
    "attn_implementation", "cache_dir", "device_map", "dtype", "force_download", "local_files_only",
    "low_cpu_mem_usage", "revision", "token", "torch_dtype", "trust_remote_code", "use_auth_token", "use_safetensors",
}  # fmt: skip
"""How a model is fetched and held; Counterpoint computes in float32 and never runs remote code, whatever they say."""
_TOKENIZER = {
    "add_prefix_space", "clean_up_tokenization_spaces", "do_lower_case", "model_max_length", "padding_side",
    "strip_accents", "tokenize_chinese_chars", "truncation_side",
}  # fmt: skip
"""Settings of a tokenizer that are passed on to it."""
_TEXT = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}


@dataclass(frozen=True, kw_only=True)
class Said:
    """What the files say.

    first: the folder of the first module. static: whether it is a table of subwords, not a transformer. max_length:
    tokens (None: as the tokenizer and the model have it). lowercase: fold case before the tokenizer. tokenizer, config:
    settings that replace those in the transformer's own files. width: of the token embeddings (None: it does not say).
    pooling, include_prompt: see `TextTransformerConfig`. stages: what follows, see `counterpoint.encoders.staged`.
    prompts, default_prompt, similarity: as of `Encoder`.
    """

    first: Path
    static: bool = False
    max_length: int | None = None
    lowercase: bool = False
    tokenizer: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    width: int | None = None
    pooling: str = "mean"
    include_prompt: bool = True
    stages: tuple[dict[str, Any], ...] = ()
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    similarity: str = "cosine"


def read(folder: Path) -> Said:
    """The settings of a sentence-transformers folder; `ModelError` names the file and the one that is not followed."""
    modules = listed(folder)
    names = [name for name, _ in modules]
    known = {"Dense", "Normalize", "LayerNorm", "Dropout"}
    poolings = names[1:2] == ["Pooling"]
    rest = modules[2:] if poolings else modules[1:]
    if names[0] not in ("Transformer", "StaticEmbedding") or any(name not in known for name, _ in rest):
        raise ModelError(
            f"{folder} is made of the modules {', '.join(names)}. Counterpoint reads Transformer and Pooling, or "
            f"StaticEmbedding, followed by any of {', '.join(sorted(known))}. Models with other modules can be used "
            "through sentence-transformers itself."
        )
    static = names[0] == "StaticEmbedding"
    if static == poolings:
        raise ModelError(
            f"{folder / LISTING} lists {', '.join(names)}: a Transformer needs a Pooling behind it, a StaticEmbedding "
            "none. The list is incomplete: copy or download the model again."
        )
    stages = [stage for name, path in rest if (stage := _stage(name, path)) is not None]
    said = {"first": modules[0][1], "static": static, **_general(folder, stages)}
    if not static:
        said |= _transformer(modules[0][1]) | _pooling(modules[1][1] / "config.json")
    return Said(**said)


def listed(folder: Path) -> list[tuple[str, Path]]:
    """(class name, its folder) of each module, in order. Code of the folder's own is never run: it is refused."""
    path = folder / LISTING
    found = []
    for i, row in enumerate(expect(read_json(path), list, str(path))):
        row = expect(row, dict, f"{path}, entry {i},")
        kind, where = (expect(row.get(key), str, f"{path}, entry {i}, {key!r}") for key in ("type", "path"))
        at = (folder / where).resolve()
        if not at.is_relative_to(folder.resolve()):
            raise ModelError(f"{path} names a path outside the folder: {where!r}.")
        if not kind.startswith("sentence_transformers."):
            raise ModelError(
                f"{path} names the module {kind!r}, code of its own that sentence-transformers does not hold. "
                "Counterpoint never runs code of a model folder."
            )
        if row.get("kwargs"):
            raise ModelError(
                f"{path}, entry {i}, hands the settings {shortened(row['kwargs'])} to {kind}, which Counterpoint does "
                "not follow. Such models can be used through sentence-transformers itself."
            )
        found.append((kind.rpartition(".")[2], at))
    if not found:
        raise ModelError(f"{path} lists no module. The model folder is incomplete: copy or download it again.")
    return found


# --- config_sentence_transformers.json -------------------------------------------------------------------------


def _general(folder: Path, stages: list[dict[str, Any]]) -> dict[str, Any]:
    """What concerns the whole model; a truncation becomes the last stage."""
    path = folder / SETTINGS
    held = read_object(path) if path.exists() else {}
    kind = held.get("model_type") or "SentenceTransformer"
    if kind != "SentenceTransformer":
        raise ModelError(
            f"{path} says model_type={shortened(kind)}: it holds no encoder that gives one embedding per text. Use it "
            "through sentence-transformers itself."
        )
    prompts = expect(held.get("prompts") or {}, dict, f"{path}, 'prompts',")
    prompts = {name: expect(text or "", str, f"{path}, the prompt {name!r},") for name, text in prompts.items()}
    default = held.get("default_prompt_name")
    if default is not None and default not in {*prompts, "query", "document"}:
        raise ModelError(
            f"{path} says default_prompt_name={shortened(default)}, and the prompts are {', '.join(prompts) or 'none'}."
            " Correct the name, or set it to null."
        )
    similarity = held.get("similarity_fn_name") or "cosine"
    if similarity not in SIMILARITIES:
        raise ModelError(
            f"{path} says similarity_fn_name={shortened(similarity)}, which is none of {', '.join(SIMILARITIES)}."
        )
    if (dim := held.get("truncate_dim")) is not None:
        if expect(dim, int, f"{path}, 'truncate_dim',") < 1:
            raise ModelError(f"{path} says truncate_dim={dim}: at least one dimension is kept.")
        stages.append({"type": "Truncate", "dim": dim})
    followed = {
        "__version__", "model_type", "prompts", "default_prompt_name", "similarity_fn_name", "truncate_dim",
        "requirements",
    }  # fmt: skip
    _tell(path, held, followed)
    _requirements(path, held.get("requirements"))
    if not prompts.get("document") and (other := next((n for n in ("passage", "corpus") if prompts.get(n)), None)):
        warnings.warn(
            f"{path} has a prompt {other!r} and none for 'document', so documents get none, as in sentence-transformers"
            f" itself. To use it: encode(..., role={other!r}), or encoder.prompts = "
            f"{{**encoder.prompts, 'document': encoder.prompts[{other!r}]}} and save the encoder.",
            stacklevel=2,
        )
    return {"prompts": prompts, "default_prompt": default, "similarity": similarity, "stages": tuple(stages)}


def _tell(path: Path, held: Mapping[str, Any], followed: Collection[str]) -> None:
    """Name the settings that nobody follows: sentence-transformers passes over them too."""
    if unknown := sorted(name for name, value in held.items() if name not in followed and _set(value)):
        told = ", ".join(f"{name}={shortened(held[name])}" for name in unknown)
        warnings.warn(
            f"{path} says {told}. Neither sentence-transformers' encoders nor Counterpoint follow that: embeddings are "
            "made without it.",
            stacklevel=2,
        )


def _requirements(path: Path, needed: Any) -> None:
    if not needed:
        return
    from transformers.utils.versions import require_version

    rows = [f"{name}{version}" for name, version in needed.items()] if isinstance(needed, dict) else needed
    for row in [rows] if isinstance(rows, str) else expect(rows, list, f"{path}, 'requirements',"):
        try:
            require_version(str(row))
        except Exception as error:  # not installed, too old, or no requirement at all
            raise ModelError(
                f"{path} requires {shortened(row)}, which is not installed here. Install it, or use another model."
            ) from error


# --- the transformer -------------------------------------------------------------------------------------------


def _beside(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The file beside a transformer that says how it is used, and what stands in it; the first name where none is."""
    path = next((folder / name for name in _TRANSFORMER_FILES if (folder / name).exists()), None)
    return (folder / _TRANSFORMER_FILES[0], {}) if path is None else (path, read_object(path))


def max_length(folder: Path) -> int | None:
    """The longest text in tokens that the file beside a transformer names; None where it names none.

    folder: of the transformer.
    """
    path, held = _beside(folder)
    length = held.get("max_seq_length")
    if length is not None and expect(length, int, f"{path}, 'max_seq_length',") < 1:
        raise ModelError(f"{path} says max_seq_length={length}: at least one token is read.")
    return length


def _transformer(folder: Path) -> dict[str, Any]:
    path, held = _beside(folder)
    for old, new in (
        ("model_args", "model_kwargs"),
        ("tokenizer_args", "processor_kwargs"),
        ("config_args", "config_kwargs"),
    ):
        held[new] = expect(held.pop(old, None) or held.get(new) or {}, dict, f"{path}, {new!r},")
    lower = expect(held.get("do_lower_case") or False, bool, f"{path}, 'do_lower_case',")
    _refuse(path, held["model_kwargs"], _PLACEMENT | {"add_pooling_layer"}, within="model_args")
    _refuse(path, held["processor_kwargs"], _PLACEMENT | _TOKENIZER | {"use_fast"}, within="tokenizer_args")
    expected = {
        "transformer_task": "feature-extraction",
        "modality_config": _TEXT,
        "module_output_name": "token_embeddings",
    }
    for name, value in expected.items():
        if held.get(name, value) != value:
            raise ModelError(
                f"{path} says {name}={shortened(held[name])}; Counterpoint follows {json.dumps(value)} alone. Such "
                "models can be used through sentence-transformers itself."
            )
    used = {"max_seq_length", "do_lower_case", "model_kwargs", "processor_kwargs", "config_kwargs", "unpad_inputs"}
    _refuse(path, held, used | set(expected))
    return {
        "max_length": max_length(folder),
        "lowercase": lower,
        "tokenizer": {k: v for k, v in held["processor_kwargs"].items() if k in _TOKENIZER},
        "config": {k: v for k, v in held["config_kwargs"].items() if k not in _PLACEMENT},
    }


def _pooling(path: Path) -> dict[str, Any]:
    held = read_object(path)
    flagged = [mine for mine, flag in FLAGS.items() if held.get(flag)]
    if "pooling_mode" in held:
        given = held["pooling_mode"]
        theirs = [given] if isinstance(given, str) else expect(given, list, f"{path}, 'pooling_mode',")
        modes = [next((mine for mine, one in POOLINGS.items() if one == mode), None) for mode in theirs]
        if not modes or None in modes:
            raise ModelError(
                f"{path} asks for the pooling {shortened(given)}; Counterpoint pools with any of "
                f"{', '.join(POOLINGS.values())}."
            )
    else:
        modes = flagged or ["mean"]
    width = held.get("embedding_dimension", held.get("word_embedding_dimension"))
    if width is not None:
        expect(width, int, f"{path}, the width,")
    prompt = expect(held.get("include_prompt", True), bool, f"{path}, 'include_prompt',")
    widths = {"embedding_dimension", "word_embedding_dimension"}
    _refuse(path, held, widths | {"pooling_mode", "include_prompt"} | set(FLAGS.values()))
    return {"pooling": JOINT.join(map(str, modes)), "include_prompt": prompt, "width": width}


# --- what follows the pooling ----------------------------------------------------------------------------------


def _stage(name: str, folder: Path) -> dict[str, Any] | None:
    """A module behind the pooling as `counterpoint.encoders.staged` takes it."""
    path = folder / "config.json"
    held = read_object(path) if path.exists() or name != "Normalize" else {}
    for key in ("module_input_name", "module_output_name"):
        if held.get(key) not in (None, "sentence_embedding"):
            raise ModelError(
                f"{path} says {key}={shortened(held[key])}; Counterpoint follows modules that read and write the "
                "embedding of a whole text (sentence_embedding)."
            )
    places = {"module_input_name", "module_output_name"}
    if name == "Normalize":
        _refuse(path, held, places)
        return {"type": name}
    if name == "Dropout":
        _refuse(path, held, places | {"dropout"})
        share = held.get("dropout", 0.2)
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < 1:
            raise ModelError(f"{path} says dropout={shortened(share)}: expected a share from 0 to below 1.")
        return {"type": name, "dropout": float(share)}
    if name == "LayerNorm":
        _refuse(path, held, places | {"dimension"})
        return {"type": name, "dim": expect(held.get("dimension"), int, f"{path}, 'dimension',"), "from": str(folder)}
    wide, narrow = (expect(held.get(key), int, f"{path}, {key!r},") for key in ("in_features", "out_features"))
    activation = held.get("activation_function", "torch.nn.modules.activation.Tanh")
    if activation not in ACTIVATIONS:
        raise ModelError(
            f"{path} says activation_function={shortened(activation)}; Counterpoint follows "
            f"{', '.join(sorted(cls.__name__ for cls in ACTIVATIONS.values()))} of torch.nn."
        )
    flags = {key: expect(held.get(key, key == "bias"), bool, f"{path}, {key!r},") for key in ("bias", "use_residual")}
    _refuse(path, held, places | {"in_features", "out_features", "activation_function", *flags})
    return {"type": name, "in": wide, "dim": narrow, "activation": activation, **flags, "from": str(folder)}


def _set(value: Any) -> bool:
    """Whether a setting says anything: null, false and nothing at all do not."""
    return value is not None and value is not False and value not in ("", {}, [])


def _refuse(path: Path, held: Mapping[str, Any], followed: Iterable[str], *, within: str = "") -> None:
    """Refuse settings that are not followed, by their names."""
    if unknown := sorted(set(map(str, held)) - set(followed)):
        told = [
            f"{within + '.' if within else ''}{name}={shortened(held[name])}" for name in unknown if _set(held[name])
        ]
        if told:
            raise ModelError(
                f"{path} says {', '.join(told)}, which Counterpoint does not follow, so its embeddings would be others "
                "than those that are meant. Such models can be used through sentence-transformers itself."
            )


# --- writing ---------------------------------------------------------------------------------------------------


def write(
    folder: Path, stages: Sequence[Stage], *, prompts: Mapping[str, str], default_prompt: str | None, similarity: str
) -> None:
    """``modules.json`` and ``config_sentence_transformers.json``.

    folder: of the model. stages: in their order. prompts: role -> text. default_prompt: the role where none is asked
    for. similarity: cosine, dot, euclidean or manhattan.
    """
    rows = [{"idx": i, "name": str(i), "path": s.path, "type": s.type} for i, s in enumerate(stages)]
    write_json(folder / LISTING, rows)
    said = {"prompts": dict(prompts), "default_prompt_name": default_prompt, "similarity_fn_name": similarity}
    write_json(folder / SETTINGS, said)


def pooling_config(pooling: str, dim: int, *, include_prompt: bool) -> dict[str, Any]:
    """sentence-transformers' Pooling configuration, in the keys that all its versions read where these can say it.

    pooling: the mode, or several with ``+`` between them. dim: width of a token. include_prompt: whether tokens of the
    prompt are pooled too.
    """
    modes = pooling.split(JOINT)
    flags = {flag: mine in modes for mine, flag in FLAGS.items()}
    said: dict[str, Any] = {"word_embedding_dimension": dim, **flags, "include_prompt": include_prompt}
    if modes != [mine for mine in FLAGS if mine in modes]:  # flags have one order and count nothing twice
        said["pooling_mode"] = [POOLINGS[mine] for mine in modes]
    return said
