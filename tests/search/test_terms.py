import pytest

from counterpoint.search.terms import Vocabulary, code, words


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("parse_iso_date", ["parse", "iso", "date"]),
        ("parseISODate", ["parse", "iso", "date"]),
        ("HTTPServer", ["http", "server"]),
        ("__init__", ["init"]),
        ("utf8", ["utf", "8"]),
        ("MAX_SIZE", ["max", "size"]),
        ("x.y(z)", ["x", "y", "z"]),
        ("größe_Straße", ["größe", "straße"]),
        ("", []),
        ("__", []),
    ],
)
def test_identifiers_fall_into_their_parts(text, parts):
    assert code(text) == parts


def test_words_keep_identifiers_whole():
    assert words("Call parse_iso2, twice!") == ["call", "parse_iso2", "twice"]


def test_vocabulary_numbers_in_order_and_skips_the_unknown():
    v = Vocabulary()
    assert v.learn(["b", "a", "b"]) == [0, 1, 0]
    assert v.known(["a", "zzz", "b"]) == [1, 0]
    assert len(v) == 2
