"""Subword vocabularies learned from the user's own texts, in the files of `tokenizers` and `transformers`."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any, Literal

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from counterpoint.errors import ConfigError, DataError

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


def train_tokenizer(
    texts: Iterable[str],
    *,
    vocabulary: int = 30_000,
    model: Literal["wordpiece", "bpe", "unigram"] = "wordpiece",
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
    max_length: in tokens, written into the files for other libraries. sample: most texts used, drawn evenly
    (reservoir) from however many there are; seed: of that draw.
    """
    kept = reservoir(texts, sample, seed=seed)
    if not any(text.strip() for text in kept):
        raise DataError(
            f"A vocabulary cannot be learned from {len(kept)} texts without a word in them. Give some text."
        )
    if vocabulary < len(SPECIAL) + 1:
        raise ConfigError(
            f"vocabulary={vocabulary}: it must hold more than the {len(SPECIAL)} special tokens."
        )
    tokenizer, trainer = _untrained(model, vocabulary, min_frequency)
    tokenizer.normalizer = _normalizer(lowercase, identifiers)
    if identifiers:
        words = pre_tokenizers.Split(_WORD_OR_DIGIT, behavior="removed", invert=True)
    elif model == "unigram":
        words = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()])
    else:
        words = pre_tokenizers.BertPreTokenizer()
    tokenizer.pre_tokenizer = words
    tokenizer.train_from_iterator(kept, trainer, length=len(kept))
    ids = [(token, tokenizer.token_to_id(token)) for token in (SPECIAL["cls_token"], SPECIAL["sep_token"])]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ids
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=max_length, **SPECIAL)


def reservoir(texts: Iterable[str], size: int, *, seed: int = 0) -> list[str]:
    """At most ``size`` of the texts, each with the same chance, in one pass (Vitter 1985, algorithm R)."""
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


def _untrained(model: str, vocabulary: int, min_frequency: int) -> tuple[Tokenizer, Any]:
    # limit_alphabet: rare characters become [UNK] instead of filling the vocabulary.
    shared = {"vocab_size": vocabulary, "special_tokens": list(SPECIAL.values()), "show_progress": False}
    if model == "wordpiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token=SPECIAL["unk_token"]))
        tokenizer.decoder = decoders.WordPiece()
        return tokenizer, trainers.WordPieceTrainer(
            min_frequency=min_frequency, limit_alphabet=1000, **shared
        )
    if model == "bpe":
        tokenizer = Tokenizer(models.BPE(unk_token=SPECIAL["unk_token"]))
        return tokenizer, trainers.BpeTrainer(min_frequency=min_frequency, limit_alphabet=1000, **shared)
    if model == "unigram":
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.decoder = decoders.Metaspace()
        return tokenizer, trainers.UnigramTrainer(unk_token=SPECIAL["unk_token"], **shared)
    raise ConfigError(f"There is no subword model {model!r}. Type wordpiece, bpe or unigram.")
