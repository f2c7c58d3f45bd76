"""K-mers by hand; both strands share an embedding; pieces are learned the same way each time."""

import numpy as np
import pytest
import torch

from counterpoint.encoders import folder
from counterpoint.encoders.dna import DnaTransformer, DnaTransformerConfig, sinusoids, train_pieces
from counterpoint.encoders.kmers import KmerBag, KmerBagConfig
from counterpoint.errors import ConfigError, DataError
from counterpoint.modalities.dna import codes, counts, reverse_complement, strandless


def sequence(n=200, seed=0):
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), n))


def test_codes_by_hand():
    assert codes("AAC", 2).tolist() == [0, 1]
    assert codes("TNTT", 2).tolist() == [-1, -1, 15]
    assert codes("A", 2).tolist() == []


def test_a_word_and_its_reverse_complement_are_one():
    number, size = strandless(6)
    assert size == 2080
    for word in ("ACGTTG", "AAAAAA", "GATTCA"):
        other = reverse_complement(word)
        assert number[codes(word, 6)] == number[codes(other, 6)]
    assert np.array_equal(counts([sequence()], 6), counts([reverse_complement(sequence())], 6))


def test_the_bag_is_the_mean_of_its_words():
    torch.manual_seed(0)
    encoder = KmerBag(KmerBagConfig(dim=5, k=2, both_strands=False))
    z = encoder(encoder.collate(["ACCN", "aCgt", "NNN"]))
    with torch.no_grad():
        expected = encoder.table[[1, 5]].mean(0)
    torch.testing.assert_close(z[0], expected)
    torch.testing.assert_close(z[1], encoder(encoder.collate(["ACGU"]))[0])
    assert not z[2].any()
    assert not encoder.strandless


def test_with_an_identity_as_its_table_the_bag_counts():
    encoder = KmerBag(KmerBagConfig(dim=2080))
    with torch.no_grad():
        encoder.table.copy_(torch.eye(2080))
    some = sequence()
    got = encoder.encode([some, reverse_complement(some)], normalize=False)
    np.testing.assert_allclose(got[0], counts([some], 6)[0] / 195, atol=1e-6)
    np.testing.assert_array_equal(got[0], got[1])


@pytest.mark.parametrize("tokens", ["bpe", "kmers"])
def test_tokens_of_a_transformer_spell_the_sequence(tokens, tmp_path):
    config = DnaTransformerConfig(layers=1, width=16, heads=2, tokens=tokens, k=3, vocabulary=40, max_length=256)
    encoder = DnaTransformer.from_texts([sequence(3000)], config)
    some = sequence(60, seed=1)
    (ids,) = encoder.ids([some.lower()])
    spelled = encoder.tokenizer.convert_ids_to_tokens(ids)
    if tokens == "bpe":
        assert "".join(spelled) == some
        assert len(spelled) < len(some)
    else:
        assert spelled == [some[i : i + 3] for i in range(58)]
    folder.save(encoder, tmp_path / "m")
    assert (tmp_path / "m" / "modules.json").exists() is (tokens == "bpe")
    np.testing.assert_allclose(folder.load(tmp_path / "m").encode([some]), encoder.encode([some]), atol=1e-6)


def test_the_same_sequences_give_the_same_pieces():
    texts = [sequence(4000, seed) for seed in range(3)]
    first, second = (train_pieces(texts, vocabulary=100, max_length=64).get_vocab() for _ in range(2))
    assert first == second
    assert set("".join(first)) - set("[]PADUNKCLSEPMASK") <= set("ACGT")


def test_unknown_bases_are_one_token_and_no_dna_is_refused():
    encoder = DnaTransformer.from_texts(
        [sequence(2000)], DnaTransformerConfig(layers=1, width=16, heads=2, vocabulary=40)
    )
    (ids,) = encoder.ids(["ACGT" + "N" * 50 + "ACGT"])
    assert ids.count(encoder.tokenizer.unk_token_id) == 1
    with pytest.raises(DataError, match="no letter of DNA"):
        encoder.ids(["a text"])
    with pytest.raises(DataError, match="without a known base"):
        train_pieces(["NNNN"], vocabulary=40, max_length=64)


def test_positions_are_fixed_and_can_be_none():
    for positions in ("sinusoidal", "none"):
        config = DnaTransformerConfig(layers=1, width=16, heads=2, vocabulary=40, max_length=32, positions=positions)
        encoder = DnaTransformer.from_texts([sequence(2000)], config)
        places = encoder.transformer.embeddings.position_embeddings.weight
        assert not places.requires_grad
        assert bool(places.any()) is (positions == "sinusoidal")
    assert sinusoids(4, 6)[0].tolist() == pytest.approx([0, 0.02] * 3)
    with pytest.raises(ConfigError, match="type bpe or kmers"):
        DnaTransformerConfig(tokens="words")


def test_the_bag_as_onnx_gives_the_same(tmp_path):
    pytest.importorskip("onnxruntime")
    from counterpoint.encoders.export import onnx

    torch.manual_seed(0)
    assert onnx(KmerBag(KmerBagConfig(dim=8, k=3)), tmp_path / "bag.onnx") < 1e-6
