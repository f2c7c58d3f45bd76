"""Fragments choose their reads, in one direction; the loss is the published one."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from counterpoint.data.rowset import Made
from counterpoint.encoders.dna import DnaTransformer, DnaTransformerConfig
from counterpoint.encoders.kmers import KmerBag, KmerBagConfig
from counterpoint.errors import ConfigError
from counterpoint.methods.structure.dna_esa import Config, DnaEsa
from counterpoint.modalities.dna import reverse_complement
from counterpoint.objectives.contrast import contrast

SMALL = {"fragment": (60, 100), "read": (20, 40)}


def rows(n=6, length=300, seed=0):
    rng = np.random.default_rng(seed)
    return [{"dna": "".join(rng.choice(list("ACGT"), length)), "row": i} for i in range(n)]


def build(seed=0, **settings):
    torch.manual_seed(seed)
    return DnaEsa(KmerBag(KmerBagConfig(dim=8, k=3, both_strands=False)), Config(**{**SMALL, **settings}))


def embeddings(method, batch):
    return (F.normalize(method.encoder(batch.one(role).data), dim=-1) for role in ("anchor", "positive"))


@pytest.mark.parametrize("both", [False, True])
def test_the_loss_written_out(both):
    method = build(both=both, temperature=0.1)
    batch = method.views(rows(), np.random.default_rng(1))
    f, r = embeddings(method, batch)
    scores = f @ r.T / 0.1
    expected = -scores.log_softmax(1).diagonal().mean()
    if both:
        expected = (expected - scores.T.log_softmax(1).diagonal().mean()) / 2
    (loss,) = method.losses(batch).values()
    torch.testing.assert_close(loss, expected)


def test_reads_are_no_candidates_of_reads_nor_fragments_of_fragments():
    # With all reads alike, one direction has the same softmax whatever the fragments are: log B, and no gradient at all
    # into the fragments (each gradient is a difference of equal reads).
    method = build()
    batch = method.views(rows(), np.random.default_rng(1))
    f, r = (z.detach() for z in embeddings(method, batch))
    f, r = f.requires_grad_(), r[:1].expand(6, -1)
    loss = contrast(f, r, scale=method.scale())
    torch.testing.assert_close(loss, F.cross_entropy(f @ r.T * method.scale(), torch.arange(6)))
    assert loss.item() == pytest.approx(np.log(6), abs=1e-5)
    (gradient,) = torch.autograd.grad(loss, f)
    assert gradient.abs().max() < 1e-5


def test_without_noise_a_read_is_a_part_of_its_fragment():
    seen = []

    class Spy(KmerBag):
        def collate(self, items, role=None):
            seen.append(list(items))
            return super().collate(items, role)

    method = DnaEsa(Spy(KmerBagConfig(dim=4, k=3)), Config(**SMALL, noisy=0.0))
    method.views(rows(40), np.random.default_rng(2))
    fragments, reads = seen
    assert all(read in fragment for fragment, read in zip(fragments, reads))
    assert all(fragment in row["dna"] for fragment, row in zip(fragments, rows(40)))
    assert min(map(len, fragments)) >= 60
    assert max(map(len, reads)) < 40


def test_the_share_of_noisy_reads_and_their_rate():
    method = build(noisy=0.4, substitutions=(0.01, 0.04))
    rng, text = np.random.default_rng(3), "ACGT" * 250
    noisy = [method.corrupted(text, rng) for _ in range(600)]
    apart = np.array([sum(a != b for a, b in zip(text, n)) for n in noisy])
    assert abs((apart > 0).mean() - 0.4) < 0.06
    assert 20 < apart[apart > 0].mean() < 30  # 2.5 % of 1,000
    assert all(len(n) == 1000 for n in noisy)


def test_with_shared_words_the_strand_of_the_reads_does_not_matter():
    torch.manual_seed(0)
    method = DnaEsa(KmerBag(KmerBagConfig(dim=8, k=3)), Config(**SMALL, noisy=0.0))
    batch = method.views(rows(), np.random.default_rng(1))
    turned = [{**r, "dna": reverse_complement(r["dna"])} for r in rows()]
    z = [method.encoder.encode([r["dna"] for r in some]) for some in (rows(), turned)]
    np.testing.assert_allclose(z[0], z[1], atol=1e-6)
    assert torch.isfinite(sum(method.losses(batch).values()))


def test_the_published_recipe_is_the_published_encoder():
    recipe = DnaEsa.recipe("published")
    assert isinstance(recipe.encoder, DnaTransformerConfig)
    assert (recipe.encoder.layers, recipe.encoder.width, recipe.encoder.heads, recipe.encoder.vocabulary) == (
        6,
        384,
        12,
        10_000,
    )
    assert recipe.config.temperature == 0.05
    tiny = replace(recipe.encoder, layers=1, width=24, heads=2, vocabulary=60)
    encoder = DnaTransformer.build(tiny, Made(rows(20, 1000)))
    method = DnaEsa(encoder, replace(recipe.config, **SMALL))
    (loss,) = method.losses(method.views(rows(), np.random.default_rng(0))).values()
    loss.backward()
    assert all(p.grad is not None for p in encoder.parameters() if p.requires_grad)


def test_impossible_settings_are_sentences():
    with pytest.raises(ConfigError, match="shortest fragment is shorter than the shortest read"):
        Config(fragment=(50, 100), read=(60, 80))
    with pytest.raises(ConfigError, match="the least before the largest"):
        Config(substitutions=(0.1, 0.0))
