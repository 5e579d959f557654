"""The words that a small model knows, and how a client is told of those that it does not."""

import difflib
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

# At least two letters that no digit joins: "4k" and "35mm" are no words that anybody looks for in a picture.
_WORD: Final = re.compile(r"(?<!\w)[^\W\d_]{2,}(?!\w)")
_PLURALS: Final = ("", "s", "es")
# How much alike two spellings are at least, from 0 to 1: "mountian" and "mountain" are .88.
_ALIKE: Final = 0.8
_NAMED: Final = 8
_LONGEST: Final = 24


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The words that a model knows.

    Attributes:
        words: in lower case.
        nearest: for some words that it does not know, the known one that means most nearly the same.
        torn: words that it knows, for things that it draws badly.
    """

    words: frozenset[str]
    nearest: Mapping[str, str]
    torn: frozenset[str]

    @classmethod
    def read(cls, data: bytes) -> Self:
        """From the JSON of a file `vocabulary.json`: `{"words": [...], "nearest": {...}, "torn": [...]}`."""
        content = json.loads(data)
        return cls(frozenset(content["words"]), content["nearest"], frozenset(content["torn"]))

    def unknown(self, text: str) -> list[str]:
        """The words of a text that are not known: in lower case, each once, in the order of the text."""
        return [word for word in _words_of(text) if word not in self.words]

    def nearest_to(self, word: str) -> str | None:
        """The known word nearest to an unknown one: by meaning, else by spelling; None where none is near."""
        for ending in _PLURALS:
            known = self.nearest.get(word.removesuffix(ending))
            if known is not None:
                return known
        alike = difflib.get_close_matches(word, sorted(self.words), n=1, cutoff=_ALIKE)
        return alike[0] if alike else None

    def warnings(self, what: str, text: str) -> Iterator[str]:
        """The sentences that tell a client which words of a text are not known, and which are drawn badly.

        Args:
            what: name of the field on the wire.
            text: its value.
        """
        unknown = self.unknown(text)
        if unknown:
            yield self._unknown_warning(what, unknown)
        torn = [word for word in _words_of(text) if word in self.torn]
        if torn:
            yield f"{what} asks for what this small model knows but draws with torn outlines: {', '.join(torn)}."

    def _unknown_warning(self, what: str, unknown: Sequence[str]) -> str:
        named, more = unknown[:_NAMED], len(unknown) - _NAMED
        near = {word: known for word in named if (known := self.nearest_to(word))}
        words = ", ".join(map(_short, named)) + (f" and {more} more" if more > 0 else "")
        nearest = "; nearest: " + ", ".join(f"{known} for {_short(word)}" for word, known in near.items())
        return f"{what} has words that this small model does not know: {words}{nearest if near else ''}."


def _words_of(text: str) -> Iterable[str]:
    """In lower case, each once, in the order of the text."""
    return dict.fromkeys(_WORD.findall(unicodedata.normalize("NFKC", text).lower()))


def _short(word: str) -> str:
    return word if len(word) <= _LONGEST else word[:_LONGEST] + "..."
