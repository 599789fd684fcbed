"""Finding many words in texts at once: each text is read once, however many words there are.

Here belong the automaton and what counts as a word of its own. Not which words, nor in which files: ``search``; nor
what follows from a find: ``resolution``.
"""

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from ahocorasick_rs import BytesAhoCorasick

Places = npt.NDArray[np.int64]


def _bytes_among(letters: bytes) -> npt.NDArray[np.bool_]:
    found = np.zeros(256, dtype=bool)
    found[list(letters)] = True
    return found


_IS_LETTER = _bytes_among(b"0123456789abcdefghijklmnopqrstuvwxyz")
# What an e-mail may go on with: to the left, and to the right where a letter follows.
_BEFORE_EMAIL = _IS_LETTER | _bytes_among(b"._+%-")
_WITHIN_DOMAIN = _bytes_among(b".-")


class Words:
    """Words to be found, in small letters. Memory grows with their letters: a million of 40 take a gigabyte."""

    def __init__(self, words: Collection[str]) -> None:
        spelt = {(word, spelling) for word in words for spelling in (word, word.upper(), word.title())}
        # As they stand in bytes of which the letters A to Z were made small: in UTF-8 and in latin-1.
        forms = {spelling.encode("utf-8").lower(): word for word, spelling in spelt}
        forms |= {
            spelling.encode("latin-1", "replace").lower(): word for word, spelling in spelt if not spelling.isascii()
        }
        self._words = [forms[form] for form in sorted(forms)]
        self._finder = BytesAhoCorasick(sorted(forms))
        self._is_email = np.array(["@" in word for word in self._words], dtype=bool)
        self.longest = max(map(len, forms), default=0)

    def __len__(self) -> int:
        return len(self._words)

    def among(self, words: Collection[str]) -> npt.NDArray[np.bool_]:
        """Of each word, by the number that ``places`` gives it, whether it is one of ``words``."""
        return np.array([word in words for word in self._words], dtype=bool)

    def places(self, text: Any) -> tuple[Places, Places, Places]:
        """Which words begin and end where in a buffer of bytes in small letters, one inside another too."""
        found = self._finder.find_matches_as_indexes(text, overlapping=True) if self._words else []
        places = np.array(found, dtype=np.int64).reshape(-1, 3)
        return places[:, 0], places[:, 1], places[:, 2]

    def are_alone(
        self, text: npt.NDArray[np.uint8], which: Places, begins: Places, ends: Places, first: Any, last: Any
    ) -> npt.NDArray[np.bool_]:
        """Whether words that begin and end there are words of their own in the text between ``first`` and ``last``: no
        letter and no digit beside them. An e-mail is none inside a longer one: ``lea@mail.example`` in
        ``anne.lea@mail.example``, who is somebody else.
        """

        def is_at(letters: npt.NDArray[np.bool_], at: Places) -> npt.NDArray[np.bool_]:
            is_there = (at >= first) & (at < last)
            return is_there & letters[text[np.where(is_there, at, 0)]]

        goes_on = is_at(_BEFORE_EMAIL, begins - 1) | (is_at(_WITHIN_DOMAIN, ends) & is_at(_IS_LETTER, ends + 1))
        return ~(is_at(_IS_LETTER, begins - 1) | is_at(_IS_LETTER, ends) | (goes_on & self._is_email[which]))

    def in_cells(self, texts: pa.StringArray) -> tuple[Places, Places, set[str]]:
        """Positions of the texts (in small letters) in which a word stands on its own, of those that only hold one
        inside another, and the words that stand on their own.
        """
        none = np.zeros(0, dtype=np.int64)
        _, offsets, data = texts.buffers()
        if not self._words or data is None or not data.size:
            return none, none, set()
        borders = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
        text = np.frombuffer(data, np.uint8)[borders[0] : borders[-1]]
        borders -= borders[0]
        which, begins, ends = self.places(text)
        cells = np.searchsorted(borders, begins, side="right") - 1
        is_within = ends <= borders[cells + 1]
        which, begins, ends, cells = which[is_within], begins[is_within], ends[is_within], cells[is_within]
        is_alone = self.are_alone(text, which, begins, ends, borders[cells], borders[cells + 1])
        alone = np.unique(cells[is_alone])
        return alone, np.setdiff1d(cells, alone), {self._words[n] for n in np.unique(which[is_alone])}
