import numpy as np

from counterpoint.search.ngrams import hashed_ngrams


def test_like_spelling_lies_together():
    z = hashed_ngrams(["the quick fox", "the quick foxes", "unrelated words", "the quick fox"])
    assert z.shape == (4, 1024)
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(z[0], z[3])
    assert z[0] @ z[1] > 0.7 > 0.3 > z[0] @ z[2]


def test_no_text_has_no_vector_of_that_width():
    assert hashed_ngrams([], dim=64).shape == (0, 64)
