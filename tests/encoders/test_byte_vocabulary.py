"""Any text is written in bytes and read back; what is no byte is passed over."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from counterpoint.encoders.byte_vocabulary import BEGIN, END, FIRST, PAD, WORDS, read, spelled


@given(st.text(max_size=40))
def test_a_text_comes_back(text: str) -> None:
    ids = spelled(text)
    assert read([BEGIN, WORDS + 7, *ids, END, PAD, PAD]) == text
    assert all(FIRST <= i < WORDS for i in ids)
    assert len({PAD, BEGIN, END, FIRST, WORDS}) == 5


def test_what_is_too_long_is_cut_between_bytes() -> None:
    assert read(spelled("né", longest=2)) == "n\ufffd"
    assert spelled("abc", longest=0) == []
