"""The data of a proof: the catalogues of a program's messages."""

from counterpoint.proofs.text.catalogues import parsed


def test_catalogues_give_what_is_translated_and_not_doubtful() -> None:
    catalogue = """
msgid ""
msgstr ""
"Content-Type: text/plain\\n"

#: models.py:3
msgid "one"
msgstr ""
"un "
"seul"

#, fuzzy
msgid "two"
msgstr "deux"

msgctxt "month"
msgid "May"
msgstr "mai"

msgid "%d day"
msgid_plural "%d days"
msgstr[0] "%d jour"
msgstr[1] "%d jours"

msgid "none"
msgstr ""
"""
    assert parsed(catalogue) == [("", "one", "un seul"), ("month", "May", "mai"), ("", "%d day", "%d jour")]
