"""The decoder sees earlier tokens and real places alone; decoding through it gives what its logits say."""

import pytest
import torch

from counterpoint.decode.beam import beam
from counterpoint.decode.sample import greedy
from counterpoint.encoders.decoder import SequenceDecoder, Speaker
from counterpoint.errors import DataError


def build():
    torch.manual_seed(0)
    decoder = SequenceDecoder(9, 6, dim=8, depth=2, heads=2, places=7).eval()
    for p in decoder.parameters():  # as drawn they are too small to tell anything apart
        torch.nn.init.normal_(p, std=0.7)
    decoder.requires_grad_(False).out.bias[2] = -2.0  # which ends a text, else at once
    source, there = torch.randn(3, 4, 6), torch.ones(3, 4, dtype=torch.bool)
    there[0, 2:] = False
    return decoder, source, there


def test_no_token_sees_a_later_one_and_none_sees_padding():
    decoder, source, there = build()
    ids = torch.randint(9, (3, 5))
    found = decoder(ids, source, there)
    later = ids.clone()
    later[:, 3:] = (later[:, 3:] + 1) % 9
    other = decoder(later, source + (~there)[..., None] * 100.0, there)
    torch.testing.assert_close(found[:, :3], other[:, :3])
    assert not torch.allclose(found[:, 3:], other[:, 3:])
    assert not torch.allclose(found, decoder(ids, source + 1, there))


def test_greedy_decoding_is_what_the_logits_say():
    decoder, source, there = build()
    speaker = Speaker(decoder, source, there, begin=1, ends=(2,))
    written = greedy(speaker, [[1]] * 3, max_new=5)
    for i, tokens in enumerate(written):
        ids = [1]
        while len(ids) < 6:
            token = int(decoder(torch.tensor([ids]), source[i : i + 1], there[i : i + 1])[0, -1].argmax())
            if token == 2:
                break
            ids.append(token)
        assert ids[1:] == tokens
    assert len({tuple(t) for t in written}) > 1  # each is about its own source


def test_a_wide_beam_finds_the_most_probable_text():
    decoder, source, there = build()
    speaker = Speaker(decoder, source, there, begin=1, ends=(2,))
    [best] = beam(Speaker(decoder, source[:1], there[:1], begin=1, ends=(2,)), [[1]], max_new=2, width=81, length=0.0)
    assert beam(speaker, [[1]] * 3, max_new=2, width=81, length=0.0)[0] == best

    def log_p(tokens):
        ids = torch.tensor([[1, *tokens]])
        logits = decoder(ids, source[:1], there[:1]).log_softmax(-1)[0]
        return float(sum(logits[i, t] for i, t in enumerate(tokens)))

    every = [[2], *([a, b] for a in range(9) if a != 2 for b in range(9))]
    assert max(every, key=log_p) == best + [2] * (len(best) < 2)


def test_what_is_refused():
    decoder, source, there = build()
    with pytest.raises(DataError, match="8 tokens are more than the 7"):
        decoder(torch.zeros(3, 8, dtype=torch.long), source, there)
    with pytest.raises(DataError, match="several lengths"):
        greedy(Speaker(decoder, source, there, begin=1, ends=(2,)), [[1], [1, 3], [1]], max_new=2)
