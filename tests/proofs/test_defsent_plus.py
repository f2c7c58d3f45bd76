"""The data of a proof: names whose definitions are learned from, and those that are held out."""

from __future__ import annotations

import re

from counterpoint.proofs.text.defsent_plus import glossary


def test_nothing_of_a_held_out_name_is_learned_from() -> None:
    rows, held = glossary(10, smoke=True)
    learned = {" ".join(re.findall(r"\w+", rows[i]["positive"].lower())) for i in range(len(rows))}
    tested = [" ".join(re.findall(r"\w+", r[side].lower())) for r in held for side in ("anchor", "positive")]
    assert len(held) == 40
    assert len(set(tested)) == 80
    assert not learned & set(tested)
    again, same = glossary(10, smoke=True)
    assert same == held
    assert again[5] == rows[5]
    assert glossary(11, smoke=True)[1] != held
