"""Folders of models with an encoder and a decoder, as `transformers` writes them: tiny, with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tests.conformance.rows import texts


def made(path: Path, model: str = "t5", **generation: Any) -> Path:
    """model: t5, or bart, which has a table of positions. Weights are wide enough that what is read decides what is
    written. generation: settings of the generation configuration."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import (
        BartConfig,
        BartForConditionalGeneration,
        PreTrainedTokenizerFast,
        T5Config,
        T5ForConditionalGeneration,
    )

    learned = Tokenizer(models.BPE(unk_token="<unk>"))
    learned.pre_tokenizer, learned.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    learned.train_from_iterator(
        texts(), trainers.BpeTrainer(vocab_size=200, special_tokens=["<pad>", "</s>", "<unk>"], show_progress=False)
    )
    learned.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    learned.enable_padding(length=50)  # as a saved tokenizer may say; nothing here wants it
    PreTrainedTokenizerFast(
        tokenizer_object=learned, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(path)
    torch.manual_seed(0)
    if model == "t5":
        config = T5Config(vocab_size=200, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2,
                          decoder_start_token_id=0)  # fmt: skip
        whole = T5ForConditionalGeneration(config)
        factor = 4.0
    else:
        sides = {f"{side}_{what}": n for side in ("encoder", "decoder")
                 for what, n in (("layers", 2), ("attention_heads", 2), ("ffn_dim", 32))}  # fmt: skip
        tokens = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 1, "decoder_start_token_id": 1}
        whole = BartForConditionalGeneration(
            BartConfig(vocab_size=200, d_model=16, max_position_embeddings=40, **sides, **tokens)
        )
        factor = 20.0
    with torch.no_grad():
        for p in whole.parameters():
            p.mul_(factor)
    whole.generation_config.update(**generation)
    whole.save_pretrained(path)
    return path
