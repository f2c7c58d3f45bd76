"""Folders of sentence-transformers: each setting is followed, to 1e-5, or refused by its name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from counterpoint import load
from counterpoint.encoders import folder
from counterpoint.encoders.staged import Staged
from counterpoint.encoders.text import TextTransformer
from counterpoint.errors import CounterpointError, ModelError
from tests.encoders.samples import TEXTS, static, transformer

library = pytest.importorskip("sentence_transformers")
modules = pytest.importorskip("sentence_transformers.sentence_transformer.modules")
PROMPTS = {"query": "the dog ", "document": "a mat and ", "other": ""}
LONGER = [*TEXTS, " the CAT  on the mat ", "[MASK] dog [SEP] cat"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A transformer with mean pooling and prompts, as sentence-transformers alone would have written it."""
    encoder = transformer(prompts=PROMPTS)
    encoder.normalize = False
    path: Path = tmp_path_factory.mktemp("plain") / "m"
    folder.save(encoder, path)
    (path / "counterpoint.json").unlink()
    return path


def copied(source: Path, target: Path, **changes: dict[str, Any]) -> Path:
    """A copy in which some JSON files hold more, or otherwise; keys are their names with / as __ and without .json."""
    shutil.copytree(source, target)
    for name, values in changes.items():
        path = target / (name.replace("__", "/") + ".json")
        path.parent.mkdir(exist_ok=True)
        held = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({k: v for k, v in {**held, **values}.items() if v != "absent"}))
    return target


def theirs(path: Path) -> Any:
    return library.SentenceTransformer(str(path), device="cpu")


def agree(path: Path, again: Path) -> Any:
    """Both libraries give the same of the folder, for every role; and of what is saved and read again."""
    reference, encoder = theirs(path), load(path)
    folder.save(encoder, again)
    for name, ours in (("first", encoder), ("saved", load(again))):
        for role in (None, "query", "document", "other"):
            given = {} if role is None else {"prompt_name": role}
            if role is not None and role not in reference.prompts:
                continue
            expected = reference.encode(LONGER, **given)
            found = ours.encode(LONGER, role=role)
            assert found.shape == expected.shape
            assert abs(found - expected).max() <= 1e-5, (name, role)
    written = theirs(again)
    assert abs(written.encode(LONGER) - reference.encode(LONGER)).max() <= 1e-5
    assert written.default_prompt_name == reference.default_prompt_name
    assert {k: v for k, v in written.prompts.items() if v} == {k: v for k, v in reference.prompts.items() if v}
    assert written.similarity_fn_name == reference.similarity_fn_name
    return encoder


FLAGS = ("cls_token", "max_tokens", "mean_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
POOLINGS: dict[str, dict[str, Any]] = {
    **{f"flag {name}": {f"pooling_mode_{other}": other == name for other in FLAGS} for name in FLAGS},
    "two flags": {f"pooling_mode_{name}": name in ("cls_token", "mean_tokens") for name in FLAGS},
    "no flag": {f"pooling_mode_{name}": False for name in FLAGS},
    "named": {"pooling_mode": "max"},
    "listed": {"pooling_mode": ["mean", "cls", "mean_sqrt_len_tokens"]},
    "flags passed over": {"pooling_mode": "lasttoken", "pooling_mode_mean_tokens": True},
}


@pytest.mark.parametrize("name", POOLINGS)
@pytest.mark.parametrize("include_prompt", [True, False])
def test_every_pooling(plain: Path, tmp_path: Path, name: str, include_prompt: bool) -> None:
    said = POOLINGS[name] | {"include_prompt": include_prompt}
    path = copied(plain, tmp_path / "m", **{"1_Pooling__config": said})
    found = agree(path, tmp_path / "again")
    assert found.config.include_prompt == include_prompt


SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "default prompt": {"config_sentence_transformers": {"default_prompt_name": "document"}},
    "default prompt of the library": {
        "config_sentence_transformers": {"default_prompt_name": "query", "prompts": {"document": "the mat "}}
    },
    "truncation": {"config_sentence_transformers": {"truncate_dim": 7}},
    "wide truncation": {"config_sentence_transformers": {"truncate_dim": 700}},
    "euclidean": {"config_sentence_transformers": {"similarity_fn_name": "euclidean"}},
    "old file": {"config_sentence_transformers": {"default_prompt_name": "absent", "similarity_fn_name": "absent"}},
    "shorter": {"sentence_bert_config": {"max_seq_length": 9}},
    "longer than the tokenizer says": {
        "sentence_bert_config": {"max_seq_length": 20},
        "tokenizer_config": {"model_max_length": 6},
    },
    "as the tokenizer says": {
        "sentence_bert_config": {"max_seq_length": None},
        "tokenizer_config": {"model_max_length": 6},
    },
    "as the positions say": {
        "sentence_bert_config": {"max_seq_length": "absent"},
        "tokenizer_config": {"model_max_length": 10**30},
    },
    "cut on the left": {
        "sentence_bert_config": {"max_seq_length": None},
        "tokenizer_config": {"truncation_side": "left", "model_max_length": 6},
    },
    "cut on the left, said beside": {
        "sentence_bert_config": {"max_seq_length": 8, "tokenizer_args": {"truncation_side": "left"}}
    },
    "length of the tokenizer's arguments": {
        "sentence_bert_config": {"max_seq_length": None, "processor_kwargs": {"model_max_length": 7}}
    },
    "fewer layers": {"sentence_bert_config": {"config_args": {"num_hidden_layers": 1}}},
    "placement": {"sentence_bert_config": {"model_args": {"attn_implementation": "eager", "dtype": "float32"}}},
    "as it is written today": {
        "sentence_bert_config": {
            "transformer_task": "feature-extraction",
            "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
            "module_output_name": "token_embeddings",
            "unpad_inputs": False,
        }
    },
}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.filterwarnings("ignore:The embeddings of")
def test_every_setting_that_is_followed(plain: Path, tmp_path: Path, name: str) -> None:
    path = copied(plain, tmp_path / "m", **SETTINGS[name])
    encoder = agree(path, tmp_path / "again")
    if name.startswith("cut on the left"):
        other = load(copied(plain, tmp_path / "right", sentence_bert_config={"max_seq_length": encoder.max_length}))
        assert abs(encoder.encode(TEXTS) - other.encode(TEXTS)).max() > 1e-3


def test_case_is_folded_where_the_folder_says_so(tmp_path: Path) -> None:
    encoder = TextTransformer.from_texts(["The CAT the cat Dog dog mat"] * 5, small(lowercase=False))
    folder.save(encoder.eval(), tmp_path / "m")
    (tmp_path / "m/counterpoint.json").unlink()
    path = copied(tmp_path / "m", tmp_path / "lower", sentence_bert_config={"do_lower_case": True})
    found = agree(path, tmp_path / "again")
    assert abs(found.encode("The CAT") - found.encode("the cat")).max() == 0
    assert abs(load(tmp_path / "m").encode("The CAT") - load(tmp_path / "m").encode("the cat")).max() > 1e-3


def small(**settings: Any) -> Any:
    from counterpoint.encoders.text import TextTransformerConfig

    return TextTransformerConfig(layers=1, width=16, heads=2, max_length=32, vocabulary=200, **settings)


def test_the_settings_lie_under_older_names_too(plain: Path, tmp_path: Path) -> None:
    path = copied(plain, tmp_path / "m")
    (path / "sentence_bert_config.json").rename(path / "sentence_roberta_config.json")
    (path / "sentence_roberta_config.json").write_text('{"max_seq_length": 5, "do_lower_case": false}')
    assert agree(path, tmp_path / "again").max_length == 5


# --- modules behind the pooling --------------------------------------------------------------------------------


def dense(wide: int, narrow: int, **settings: Any) -> Any:
    torch.manual_seed(wide + narrow)
    return modules.Dense(wide, narrow, **settings)


def norm(width: int) -> Any:
    module = modules.LayerNorm(width)
    torch.nn.init.normal_(module.norm.weight)
    torch.nn.init.normal_(module.norm.bias)
    return module


CHAINS: dict[str, Callable[[], list[Any]]] = {
    "normalize": lambda: [modules.Normalize()],
    "dense": lambda: [dense(32, 10)],
    "dense, identity, without bias": lambda: [dense(32, 10, bias=False, activation_function=torch.nn.Identity())],
    "dense, gelu": lambda: [dense(32, 10, activation_function=torch.nn.GELU())],
    "residual": lambda: [dense(32, 32, use_residual=True), dense(32, 9, use_residual=True)],
    "normalize, then dense": lambda: [modules.Normalize(), dense(32, 10)],
    "dense, then normalize": lambda: [dense(32, 48, activation_function=torch.nn.ReLU()), modules.Normalize()],
    "norm and dropout": lambda: [norm(32), modules.Dropout(0.3), dense(32, 6), norm(6)],
}


CUT = ("normalize", "dense, then normalize", "norm and dropout")


@pytest.mark.parametrize(("name", "truncate"), [*((name, None) for name in CHAINS), *((name, 5) for name in CUT)])
def test_modules_behind_the_pooling(plain: Path, tmp_path: Path, name: str, truncate: int | None) -> None:
    model = library.SentenceTransformer(modules=[*theirs(plain), *CHAINS[name]()], prompts=PROMPTS, device="cpu")
    model.default_prompt_name, model.truncate_dim = "query", truncate
    model.eval().save(str(tmp_path / "m"))
    encoder = agree(tmp_path / "m", tmp_path / "again")
    assert encoder.dim == model.get_embedding_dimension()
    assert encoder.encode("a dog").shape == (encoder.dim,)
    if truncate is not None and "normalize" in name:  # cut afterwards, without unit length
        assert np.linalg.norm(encoder.encode("the cat")) < 0.999


def test_what_stands_behind_the_pooling_learns(plain: Path, tmp_path: Path) -> None:
    library.SentenceTransformer(modules=[*theirs(plain), dense(32, 10)], device="cpu").eval().save(str(tmp_path / "m"))
    encoder = load(tmp_path / "m")
    assert isinstance(encoder, Staged)
    encoder(encoder.collate(TEXTS)).square().sum().backward()
    assert encoder.stages[0].linear.weight.grad.abs().max() > 0  # type: ignore[union-attr]
    assert next(encoder.encoder.parameters()).grad is not None


def test_a_transformer_alone_refuses_what_stands_behind_it(plain: Path, tmp_path: Path) -> None:
    library.SentenceTransformer(modules=[*theirs(plain), dense(32, 10)], device="cpu").save(str(tmp_path / "m"))
    with pytest.raises(ModelError, match=r"further modules .*Dense.*counterpoint\.load"):
        TextTransformer.from_pretrained(tmp_path / "m")


# --- tables of subwords ----------------------------------------------------------------------------------------


def test_static_embeddings_with_all_that_follows(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {word: i for i, word in enumerate(("the", "cat", "dog", "[PAD]", "mat", "a", "[UNK]"))}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(["[PAD]", "[UNK]"])
    tokenizer.enable_truncation(6, direction="left")
    first = modules.StaticEmbedding(tokenizer, embedding_weights=torch.randn(7, 12))
    texts = [*TEXTS, "the", "the [PAD] cat", "[PAD]"]  # a token of number 0, and one that other tokenizers pad with
    for name, rest in {"bare": [], "dense": [dense(12, 5), modules.Normalize()]}.items():
        model = library.SentenceTransformer(modules=[first, *rest], prompts=PROMPTS, device="cpu").eval()
        model.default_prompt_name, model.truncate_dim = "document", 4 if rest else None
        model.save(str(tmp_path / name))
        encoder = load(tmp_path / name)
        folder.save(encoder, tmp_path / f"{name}-2")
        for ours in (encoder, load(tmp_path / f"{name}-2"), theirs(tmp_path / f"{name}-2")):
            assert abs(ours.encode(texts) - model.encode(texts)).max() <= 1e-5


@pytest.mark.parametrize("weights", [None, "positive", "any"])
@pytest.mark.parametrize("mapped", [False, True])
def test_tables_of_model2vec(tmp_path: Path, weights: str | None, mapped: bool) -> None:
    from safetensors.torch import load_file, save_file

    folder.save(static(weights="uniform"), tmp_path / "m")
    (tmp_path / "m/counterpoint.json").unlink()
    table = load_file(tmp_path / "m/model.safetensors")["embedding.weight"]
    held = {"embeddings": table[:9].contiguous() if mapped else table}
    if mapped:
        held["mapping"] = torch.arange(len(table)) % 9
    if weights is not None:
        held["weights"] = torch.randn(len(table)) if weights == "any" else torch.rand(len(table)) + 0.1
    save_file(held, tmp_path / "m/model.safetensors")
    agree(tmp_path / "m", tmp_path / "again")


# --- what is refused -------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[dict[str, dict[str, Any]], str]] = {
    "kind of model": ({"config_sentence_transformers": {"model_type": "CrossEncoder"}}, "model_type='CrossEncoder'"),
    "sparse": ({"config_sentence_transformers": {"model_type": "SparseEncoder"}}, "model_type='SparseEncoder'"),
    "no such prompt": (
        {"config_sentence_transformers": {"default_prompt_name": "qurey"}},
        "default_prompt_name='qurey'",
    ),
    "prompt of no text": ({"config_sentence_transformers": {"prompts": {"query": 3}}}, "the prompt 'query'"),
    "similarity": ({"config_sentence_transformers": {"similarity_fn_name": "maxsim"}}, "similarity_fn_name='maxsim'"),
    "no dimensions": ({"config_sentence_transformers": {"truncate_dim": 0}}, "truncate_dim"),
    "half a dimension": ({"config_sentence_transformers": {"truncate_dim": 1.5}}, "truncate_dim"),
    "requirements": ({"config_sentence_transformers": {"requirements": ["transformers>=99"]}}, "transformers>=99"),
    "pooling": ({"1_Pooling__config": {"pooling_mode": "median"}}, "median"),
    "pooling that is new": ({"1_Pooling__config": {"sigma": 2}}, "sigma=2"),
    "another width": ({"1_Pooling__config": {"word_embedding_dimension": 5}}, "5 wide"),
    "task": ({"sentence_bert_config": {"transformer_task": "fill-mask"}}, "transformer_task='fill-mask'"),
    "modality": (
        {"sentence_bert_config": {"modality_config": {"text": {"method": "get", "method_output_name": "x"}}}},
        "modality_config",
    ),
    "output": ({"sentence_bert_config": {"module_output_name": "sentence_embedding"}}, "module_output_name"),
    "length of a query": ({"sentence_bert_config": {"query_length": 3}}, "query_length=3"),
    "expansion": ({"sentence_bert_config": {"query_expansion": {"strategy": "min", "length": 9}}}, "query_expansion"),
    "processing": ({"sentence_bert_config": {"processing_kwargs": {"text": {"padding": False}}}}, "processing_kwargs"),
    "arguments of the model": (
        {"sentence_bert_config": {"model_args": {"default_task": "x"}}},
        "model_args.default_task",
    ),
    "arguments of the tokenizer": (
        {"sentence_bert_config": {"tokenizer_args": {"bos_token": "x"}}},
        "tokenizer_args.bos_token",
    ),
    "configuration": ({"sentence_bert_config": {"config_args": {"no_such_thing": 1}}}, "no_such_thing"),
    "length": ({"sentence_bert_config": {"max_seq_length": -1}}, "max_seq_length=-1"),
    "something new": ({"sentence_bert_config": {"rope": "long"}}, "rope='long'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_settings_that_are_not_followed_are_refused_by_name(plain: Path, tmp_path: Path, name: str) -> None:
    changes, said = REFUSED[name]
    with pytest.raises(ModelError) as caught:
        load(copied(plain, tmp_path / "m", **changes))
    assert said in str(caught.value)
    assert str(tmp_path / "m") in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "settings", "said"),
    [
        ("Dense", {"activation_function": "own.Swish"}, "activation_function='own.Swish'"),
        ("Dense", {"activation_function": "torch.nn.functional.gelu"}, "activation_function"),
        ("Dense", {"module_input_name": "token_embeddings"}, "module_input_name='token_embeddings'"),
        ("Dense", {"in_features": 30}, "weights|30 wide"),
        ("Dense", {"scale": 2.0}, "scale=2.0"),
        ("Normalize", {"module_input_name": "token_embeddings"}, "module_input_name"),
    ],
)
def test_settings_of_modules_that_are_not_followed(
    plain: Path, tmp_path: Path, kind: str, settings: dict[str, Any], said: str
) -> None:
    module = dense(32, 10) if kind == "Dense" else modules.Normalize()
    library.SentenceTransformer(modules=[*theirs(plain), module], device="cpu").save(str(tmp_path / "m"))
    with pytest.raises(ModelError, match=said):
        load(copied(tmp_path / "m", tmp_path / "n", **{f"2_{kind}__config": settings}))


def listing(path: Path, *rows: dict[str, Any] | str) -> None:
    """Rewrite modules.json: a string is the name of a module behind the transformer, in a folder of its own."""
    known = json.loads((path / "modules.json").read_text())
    made = [
        row if isinstance(row, dict) else {"type": f"sentence_transformers.models.{row}", "path": row} for row in rows
    ]
    (path / "modules.json").write_text(json.dumps([*known, *made]))


@pytest.mark.parametrize("name", ["WordWeights", "CNN", "LSTM", "Router", "WeightedLayerPooling", "Asym", "Pooling"])
def test_other_modules_are_refused_by_name(plain: Path, tmp_path: Path, name: str) -> None:
    path = copied(plain, tmp_path / "m")
    listing(path, name)
    with pytest.raises(ModelError, match=name):
        load(path)


def test_code_of_a_folder_is_refused(plain: Path, tmp_path: Path) -> None:
    path = copied(plain, tmp_path / "m")
    listing(path, {"type": "custom_st.Normalize", "path": ""})
    with pytest.raises(ModelError, match=r"custom_st\.Normalize.*never runs code"):
        load(path)
    listing(
        copied(plain, tmp_path / "n"),
        {"type": "sentence_transformers.models.Normalize", "path": "", "kwargs": ["task"]},
    )
    with pytest.raises(ModelError, match="task"):
        load(tmp_path / "n")


def test_incomplete_folders_are_refused(plain: Path, tmp_path: Path) -> None:
    path = copied(plain, tmp_path / "m")
    (path / "modules.json").unlink()
    with pytest.raises(ModelError, match=r"no modules\.json"):
        load(path)
    rows = json.loads((plain / "modules.json").read_text())
    for i, short in enumerate(([], rows[:1], rows[1:])):
        path = copied(plain, tmp_path / str(i))
        (path / "modules.json").write_text(json.dumps(short))
        with pytest.raises(ModelError, match=r"modules\.json|made of the modules"):
            load(path)
    path = copied(plain, tmp_path / "adapters", adapter_config={"peft_type": "LORA"})
    with pytest.raises(ModelError, match="adapter_config"):
        load(path)


def test_what_nobody_follows_is_told(plain: Path, tmp_path: Path) -> None:
    path = copied(plain, tmp_path / "m", config_sentence_transformers={"query_prefix": "[Q] ", "nothing": None})
    with pytest.warns(UserWarning, match=r"query_prefix='\[Q\] '"):
        load(path)
    path = copied(plain, tmp_path / "n", config_sentence_transformers={"prompts": {"query": "q ", "passage": "p "}})
    with pytest.warns(UserWarning, match="has a prompt 'passage' and none for 'document'"):
        encoder = load(path)
    assert abs(encoder.encode(TEXTS, role="document") - theirs(path).encode_document(TEXTS)).max() <= 1e-5
    assert abs(encoder.encode(TEXTS, role="passage") - theirs(path).encode(TEXTS, prompt_name="passage")).max() <= 1e-5
    path = copied(plain, tmp_path / "o", config_sentence_transformers={"similarity_fn_name": "dot"})
    with pytest.warns(UserWarning, match="compared by dot"):
        load(path)


def test_no_prompt_can_be_asked_for(plain: Path, tmp_path: Path) -> None:
    path = copied(plain, tmp_path / "m", config_sentence_transformers={"default_prompt_name": "query"})
    encoder = load(path)
    assert abs(encoder.encode(TEXTS, role="none") - theirs(path).encode(TEXTS, prompt="")).max() <= 1e-5
    assert abs(encoder.encode(TEXTS) - encoder.encode(TEXTS, role="query")).max() == 0
    with pytest.raises(CounterpointError, match="role='none'"):
        load(plain).encode(TEXTS, role="none")
