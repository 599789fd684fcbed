"""Many words found at once are those that each alone would be found as."""

import re

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_project.domain.privacy.words import Words

PIECES = st.sampled_from(["a", "b1", "@", ".", "-", " ", "é", "ß", "zoé@m.fr", "a@b", "rue", "|", "İ"])
TEXTS = st.lists(PIECES, max_size=8).map("".join)
WORDS = st.lists(PIECES, min_size=1, max_size=3).map("".join).map(str.lower)


def is_alone(word: str, text: str) -> bool:
    before, after = ("[0-9a-z._+%-]", "[0-9a-z]|[.-][0-9a-z]") if "@" in word else ("[0-9a-z]", "[0-9a-z]")
    return re.search(f"(?<!{before}){re.escape(word)}(?!{after})", text) is not None


@given(words=st.sets(WORDS, max_size=6), texts=st.lists(TEXTS.map(str.lower) | st.none(), max_size=6))
@settings(max_examples=150, derandomize=True, deadline=None)
def test_a_text_holds_a_word_alone_inside_another_or_not_at_all(words: set[str], texts: list[str | None]) -> None:
    alone, inside, found = Words(words).in_cells(pa.array(texts, pa.string()))
    cells = [text or "" for text in texts]
    assert set(alone) == {n for n, text in enumerate(cells) if any(is_alone(word, text) for word in words)}
    held = {n for n, text in enumerate(cells) if any(word in text for word in words)}
    assert set(inside) == held - set(alone)
    assert found == {word for word in words if any(is_alone(word, text) for text in cells)}
