"""Subword vocabularies learned from the user's own texts, in the files of `tokenizers` and `transformers`."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from counterpoint.errors import ConfigError, DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}

# getHTTPResponse_v2 -> get HTTP Response v2
_WITHIN_IDENTIFIERS = Regex(r"(?<=[\p{Ll}\p{N}])(?=\p{Lu})|(?<=\p{Lu})(?=\p{Lu}\p{Ll})|_+")
_WORD_OR_DIGIT = Regex(r"[\p{L}\p{M}]+|\p{N}")
_ALPHABET = 1000

SETTINGS = ("vocabulary", "model", "lowercase", "identifiers", "min_frequency", "max_length")


def subwords(config: Any) -> dict[str, Any]:
    """What an encoder's configuration says of its subwords, for `train_tokenizer`.

    config: of an encoder of texts.
    """
    return {name: getattr(config, name) for name in SETTINGS if hasattr(config, name)}


def train_tokenizer(
    texts: Iterable[str],
    *,
    vocabulary: int = 30_000,
    model: Literal["wordpiece", "bpe"] = "wordpiece",
    lowercase: bool = True,
    identifiers: bool = False,
    min_frequency: int = 2,
    max_length: int = 512,
    sample: int = 200_000,
    seed: int = 0,
) -> PreTrainedTokenizerFast:
    """Learn a subword vocabulary. Texts read as ``[CLS] ... [SEP]``.

    vocabulary: most entries, special tokens included. lowercase: fold case, and accents with it. identifiers: for code:
    snake_case and camelCase are split into their words, and all punctuation is dropped. min_frequency: of a subword.
    max_length: in tokens, written into the files for other libraries. sample: most texts used, drawn evenly (reservoir)
    from however many there are; seed: of that draw. texts: read once. vocabulary, model: size and kind (wordpiece, or
    byte-level bpe).

    >>> tokenizer = train_tokenizer(["a cat sat", "a cat ran"] * 5, vocabulary=50)
    >>> tokenizer.convert_ids_to_tokens(tokenizer("a cat")["input_ids"])
    ['[CLS]', 'a', 'cat', '[SEP]']
    """
    kept = reservoir(texts, sample, seed=seed)
    if not any(text.strip() for text in kept):
        raise DataError(
            f"A vocabulary cannot be learned from {len(kept)} texts without a word in them. Give some text."
        )
    if vocabulary < len(SPECIAL) + 1:
        raise ConfigError(f"vocabulary={vocabulary}: it must hold more than the {len(SPECIAL)} special tokens.")
    words: Any = pre_tokenizers.BertPreTokenizer()
    if identifiers:
        words = pre_tokenizers.Split(_WORD_OR_DIGIT, behavior="removed", invert=True)
    tokenizer = _trained(kept, model, vocabulary, min_frequency, _normalizer(lowercase, identifiers), words)
    ids = [(token, tokenizer.token_to_id(token)) for token in (SPECIAL["cls_token"], SPECIAL["sep_token"])]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ids
    )
    from transformers import PreTrainedTokenizerFast  # here: importing transformers takes a second

    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=max_length, **SPECIAL)


def reservoir(texts: Iterable[str], size: int, *, seed: int = 0) -> list[str]:
    """At most ``size`` of the texts, each with the same chance, in one pass (Vitter 1985, algorithm R).

    seed: of the draw. texts: read once. size: the most.

    >>> len(reservoir((f"text {i}" for i in range(1_000)), 5))
    5
    """
    rng = random.Random(seed)
    kept: list[str] = []
    for i, text in enumerate(texts):
        if i < size:
            kept.append(text)
        elif (j := rng.randrange(i + 1)) < size:
            kept[j] = text
    return kept


def _normalizer(lowercase: bool, identifiers: bool) -> Any:
    steps: list[Any] = [normalizers.NFKC()]
    if identifiers:  # before the case is folded: it is what separates the words
        steps.append(normalizers.Replace(_WITHIN_IDENTIFIERS, " "))
    if lowercase:
        steps += [normalizers.Lowercase(), normalizers.NFD(), normalizers.StripAccents(), normalizers.NFC()]
    return normalizers.Sequence(steps)


def _trained(
    texts: list[str], model: str, vocabulary: int, min_frequency: int, normalizer: Any, words: Any
) -> Tokenizer:
    """A tokenizer with the vocabulary of these texts; the same texts always give the same one."""
    if model not in ("wordpiece", "bpe"):
        raise ConfigError(f"There is no subword model {model!r}. Type wordpiece or bpe.")
    characters = sorted(set(normalizer.normalize_str(" ".join(sorted(set().union(*texts))))))
    # WordPiece's trainer numbers the continuations ("##a") in the order of a hash map that differs from run to run, and
    # breaks ties between merges by these numbers. Named as special tokens they get their numbers first, in our order.
    continuations = [f"##{c}" for c in characters] if model == "wordpiece" else []
    empty = models.WordPiece if model == "wordpiece" else models.BPE
    trainer = (trainers.WordPieceTrainer if model == "wordpiece" else trainers.BpeTrainer)(
        vocab_size=vocabulary + max(0, len(continuations) - _ALPHABET),
        min_frequency=min_frequency,
        limit_alphabet=_ALPHABET,  # rare characters become [UNK] instead of filling the vocabulary
        special_tokens=[*SPECIAL.values(), *continuations],
        show_progress=False,
    )
    learned = Tokenizer(empty(unk_token=SPECIAL["unk_token"]))
    learned.normalizer, learned.pre_tokenizer = normalizer, words
    learned.train_from_iterator(texts, trainer, length=len(texts))
    if model == "bpe":
        return learned
    # A fresh model, in which the continuations are ordinary entries again, less those of characters that were left out.
    found = sorted(learned.get_vocab().items(), key=lambda item: item[1])
    held = {token for token, _ in found}
    kept = [t for t, _ in found if not (t.startswith("##") and len(t) == 3 and t[2] not in held)]
    tokenizer = Tokenizer(models.WordPiece({t: i for i, t in enumerate(kept)}, unk_token=SPECIAL["unk_token"]))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, words
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(list(SPECIAL.values()))
    return tokenizer
