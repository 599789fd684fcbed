"""A text inside a SQL statement, where a statement takes no parameter (attach, copy, comment, views, lists)."""

from collections.abc import Iterable


def literal(text: object) -> str:
    """The text in single quotes, those inside it doubled."""
    return "'" + str(text).replace("'", "''") + "'"


def literals(texts: Iterable[object]) -> str:
    """Several of them, with commas between, as ``in (...)`` takes them."""
    return ", ".join(map(literal, texts))
