"""Models with an encoder and a decoder: every decoder writes with them as `transformers` itself would."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from counterpoint.decode.beam import beam
from counterpoint.decode.generate import generate
from counterpoint.decode.generator import Local, Prompt
from counterpoint.decode.prefix_contrast import opposed
from counterpoint.decode.sample import greedy
from counterpoint.decode.search import contrastive_search
from counterpoint.decode.seq2seq import Seq2SeqLM
from counterpoint.errors import ConfigError, ModelError
from counterpoint.workflow.models import language_model, writer
from tests.decode.folders import made

PREFIXES = ["the quick brown fox", "birds", "seven bright birds sing near an old stone bridge"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("t5"))


@pytest.fixture(scope="module")
def lm(folder: Path) -> Seq2SeqLM:
    return Seq2SeqLM.from_pretrained(folder)


def theirs(model: Seq2SeqLM, ids: list[int], **settings: Any) -> list[int]:
    out = model.transformer.generate(torch.tensor([ids]), max_new_tokens=8, **settings)[0].tolist()[1:]
    return out[: out.index(1)] if 1 in out else out


def test_greedy_decoding_is_that_of_transformers(lm: Seq2SeqLM) -> None:
    prefixes = lm.prefix(PREFIXES)
    assert [p[-1] for p in prefixes] == [1, 1, 1]
    found = greedy(lm, prefixes, max_new=8)
    assert found == [theirs(lm, p, do_sample=False, num_beams=1) for p in prefixes]
    assert found[0] != found[1] != found[2]  # what is read decides
    assert found == [greedy(lm, [p], max_new=8)[0] for p in prefixes]


def test_beams_are_those_of_transformers(lm: Seq2SeqLM) -> None:
    """Also where open continuations change places in the cache."""
    for p in lm.prefix(PREFIXES):
        ours = beam(lm, [p], max_new=8, width=3)[0]
        assert ours == theirs(lm, p, do_sample=False, num_beams=3, early_stopping="never", length_penalty=1.0)


def test_positions_are_counted_from_the_first_real_token(tmp_path: Path) -> None:
    """A model with a table of positions: shorter prefixes of a batch are read as they are alone."""
    model = Seq2SeqLM.from_pretrained(made(tmp_path / "bart", "bart", forced_bos_token_id=2))
    prefixes = model.prefix(PREFIXES)
    found = greedy(model, prefixes, max_new=6)
    assert found == [greedy(model, [p], max_new=6)[0] for p in prefixes]
    # The forced token is what the decoder begins with; transformers counts it as written.
    assert [[2, *new] for new in found] == [theirs(model, p, do_sample=False, num_beams=1)[:7] for p in prefixes]


def test_each_side_has_places_of_its_own(tmp_path: Path) -> None:
    model = Seq2SeqLM.from_pretrained(made(tmp_path / "bart", "bart"))
    assert model.places == 39  # 40 less the token that the decoder begins with
    word = model.prefix(["birds"])[0][0]
    assert len(greedy(model, [[word] * 39], max_new=39)[0]) <= 39
    with pytest.raises(ConfigError, match="at most 39 new tokens"):
        greedy(model, [[word] * 39], max_new=40)
    with pytest.raises(ConfigError, match="at most 0 new tokens"):
        greedy(model, [[word] * 41], max_new=1)
    long, short = (dict(Local(model, "tiny").answers([Prompt("the cat " * 60), Prompt("a dog")], max_new=6))[i]
                   for i in range(2))  # fmt: skip
    assert (long.text, short.text is None) == (None, False)


def test_opposed_decoding_by_hand(lm: Seq2SeqLM) -> None:
    """Both prefixes, read whole by the encoder, with the whole new text read again for every token."""
    wanted, adverse = (lm.prefix(PREFIXES[:2])[::s] for s in (1, -1))
    found = opposed(lm, wanted, adverse, max_new=6, alpha=0.7, plausible=0.05)

    def log_p(prefix: list[int], new: list[int]) -> torch.Tensor:
        ids = torch.tensor([[0, *new]])
        with torch.no_grad():
            return lm.transformer(torch.tensor([prefix]), decoder_input_ids=ids).logits[0, -1].log_softmax(-1)

    for w, a, ours in zip(wanted, adverse, found):
        new: list[int] = []
        while len(new) < 6:
            yes, no = log_p(w, new), log_p(a, new)
            token = int((yes - 0.7 * no).masked_fill(yes < yes.max() + torch.tensor(0.05).log(), -torch.inf).argmax())
            if token == 1:
                break
            new.append(token)
        assert ours == new
    assert opposed(lm, wanted, adverse, max_new=6, alpha=0.0) == greedy(lm, wanted, max_new=6) != found


def test_contrastive_search_looks_at_what_was_written_alone(lm: Seq2SeqLM) -> None:
    prefix, k, alpha = lm.prefix(PREFIXES[:1])[0], 4, 0.6
    new: list[int] = []
    while len(new) < 6:

        def read(more: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
            out = lm.transformer(
                torch.tensor([prefix]), decoder_input_ids=torch.tensor([[0, *new, *more]]), output_hidden_states=True
            )
            return out.logits[0, -1].softmax(-1), F.normalize(out.decoder_hidden_states[-1][0], dim=-1)

        with torch.no_grad():
            p = read([])[0]
            score = {}
            for v in p.argsort(descending=True)[:k].tolist():
                states = read([v])[1][1:]  # without that of the token it begins with
                score[v] = float((1 - alpha) * p[v] - alpha * ((states[:-1] @ states[-1]).max() if new else 0))
        if (token := max(score, key=score.__getitem__)) == 1:
            break
        new.append(token)
    whole = contrastive_search(lm, lm.prefix(PREFIXES), max_new=6, k=k, alpha=alpha)
    assert whole[0] == new
    assert whole[0] != greedy(lm, [prefix], max_new=6)[0]


def test_texts_in_texts_out(lm: Seq2SeqLM) -> None:
    found = generate(lm, [*PREFIXES, ""], greedy, max_new=8, batch=2)
    assert [one.prefix for one in found] == [*PREFIXES, ""]
    assert [one.tokens for one in found[:3]] == greedy(lm, lm.prefix(PREFIXES), max_new=8)
    for one in found:
        assert "</s>" not in one.text
        assert not one.text.startswith(one.prefix or "</s>")
    answers = dict(Local(lm, "tiny", batch=2).answers([Prompt(p) for p in PREFIXES], max_new=8))
    assert [answers[i].text for i in range(3)] == [one.text for one in found[:3]]
    assert answers[0].read == len(lm.prefix(PREFIXES)[0])


def test_the_folder_says_which_kind_it_is(folder: Path, tmp_path: Path) -> None:
    assert isinstance(writer(folder), Seq2SeqLM)
    with pytest.raises(ModelError, match="holds a t5, an encoder with a decoder; give a causal language model"):
        language_model(folder)
    with pytest.raises(ModelError, match=r"no config\.json"):
        writer(tmp_path)
    other = made(tmp_path / "no-start")
    for name in ("config.json", "generation_config.json"):
        said = json.loads((other / name).read_text())
        (other / name).write_text(json.dumps({k: v for k, v in said.items() if k != "decoder_start_token_id"}))
    with pytest.raises(ModelError, match="has no decoder_start_token_id"):
        writer(other)
