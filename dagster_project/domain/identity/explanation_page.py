"""The page of an account: a graph of its records, how each pair comes to its weight, tables.

What belongs here: where things lie in the drawings, and what goes into ``explanation.html.jinja``. What does not: the
facts (``explanation``), sentences and masks (``explanation_words``), where the page is written, which is the command's
business.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, pi, sin
from pathlib import Path

import jinja2

from dagster_project.domain.identity import explanation_words as words
from dagster_project.domain.identity.explanation import AccountExplanation, Pair, Ref

_TEMPLATE = Path(__file__).with_name("explanation.html.jinja")

DRAWN_RECORDS = 60
DRAWN_PAIRS = 12
LISTED_PAIRS = 200
_WIDTH = 860
_WATERFALL_LEFT, _WATERFALL_WIDTH = 238, 184


def render_page(found: AccountExplanation, *, release_id: str) -> str:
    """The explanation as one HTML page that needs no network and no script."""
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {
        "number": words.FORMATS.number,
        "bits": words.bits,
        "odds": words.odds,
        "plain": words.plain,
        "day": words.FORMATS.day,
        "signed": lambda value: ("+" if value >= 0 else "") + words.FORMATS.number(value, 1),
        "person": lambda said: words.say_person(said, is_masked=found.is_masked),
        "reason": words.say_reason,
        "event": lambda event: words.say_event(event, found.account_id),
        "decision": words.say_decision,
    }
    weakest = found.weakest.pair if found.weakest else None
    pairs = sorted(found.pairs, key=lambda pair: pair.strength)
    weighed = [pair for pair in pairs if pair.weight is not None]
    shown = sorted(weighed, key=lambda pair: (pair != weakest, pair.strength, *pair.ends))[:DRAWN_PAIRS]
    others = [pair for pair in pairs if pair not in shown]
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        found=found,
        release_id=release_id,
        way=words.say_way(found),
        records_said=words.say_records(found),
        together=words.say_together(found),
        drawing=_draw(found),
        waterfalls=_waterfalls(shown),
        others=others[:LISTED_PAIRS],
        others_left_out=max(len(others) - LISTED_PAIRS, 0),
        numbers=_numbers(found),
        feed_words=words.FEED_WORDS,
        rule_words=words.RULE_WORDS,
        pair_words=words.PAIR_WORDS,
        household_words=words.HOUSEHOLD_WORDS,
    )


def _numbers(found: AccountExplanation) -> dict[Ref, int]:
    """The lines of the records in the table."""
    return {record.ref: place for place, record in enumerate(found.records, 1)}


@dataclass(frozen=True)
class _Node:
    """A record as drawn; ``number`` is its line in the table, None for a record of another account."""

    ref: Ref
    number: int | None
    x: float
    y: float
    is_voice: bool
    anchor: str = "middle"
    label_x: float = 0
    label_y: float = 0


@dataclass(frozen=True)
class _Line:
    """``kind``: ``leaf``, ``pair``, ``tree`` or ``weakest``, from the lowest to what is drawn on top."""

    one: _Node
    other: _Node
    weight: float | None
    kind: str


@dataclass(frozen=True)
class _Drawing:
    top: float
    width: int
    height: float
    nodes: list[_Node]
    lines: list[_Line]
    left_out: int


def _draw(found: AccountExplanation) -> _Drawing:
    """Records that speak on a ring, those that follow them outside of it."""
    numbers = _numbers(found)
    heads = [record.ref for record in found.records if record.parent is None]
    heads += sorted({end for pair in found.pairs for end in pair.ends} - set(heads))
    heads = _along(heads, [pair for pair in found.pairs if pair in found.tree])[:DRAWN_RECORDS]
    followers = [record for record in found.records if record.parent in heads and record.ref not in heads]
    leaves: dict[Ref | None, list[Ref]] = defaultdict(list)
    for record in followers[: DRAWN_RECORDS - len(heads)]:
        leaves[record.parent].append(record.ref)
    shares = [1 + len(leaves[ref]) * 0.42 for ref in heads]
    is_alone = len(heads) == 1
    ring = 0.0 if is_alone else min(150.0, 74 + 9 * len(heads))
    nodes: dict[Ref, _Node] = {}
    lines = []
    spent = 0.0
    for ref, share in zip(heads, shares, strict=True):
        middle = -pi / 2 + 2 * pi * (spent + share / 2) / sum(shares)
        spent += share
        x, y = _WIDTH / 2 + 1.5 * ring * cos(middle), ring * sin(middle)
        side = 0.0 if is_alone else cos(middle)
        # Beside the record; where others hang on it, towards the middle.
        anchor = "middle" if leaves[ref] or abs(side) <= 0.12 else "start" if side > 0 else "end"
        shift = {"start": 18, "end": -18, "middle": 0}[anchor]
        is_below = is_alone or (sin(middle) > 0) != bool(leaves[ref])
        below = 4 if shift else 28 if is_below else -19
        nodes[ref] = _Node(ref, numbers.get(ref), x, y, True, anchor, x + shift, y + below)
        span = 2 * pi if is_alone else min(2 * pi * share / sum(shares) * 1.1, pi * 0.9)
        for place, leaf in enumerate(leaves[ref]):
            turn = middle - span / 2 + span * (place + 0.5) / len(leaves[ref])
            reach = 66 + 16 * (place % 2 if len(leaves[ref]) > 7 else 0)
            nodes[leaf] = _Node(leaf, numbers[leaf], x + 1.35 * reach * cos(turn), y + reach * sin(turn), False)
            lines.append(_Line(nodes[ref], nodes[leaf], None, "leaf"))
    for pair in found.pairs:
        if pair.left in nodes and pair.right in nodes:
            is_weakest = found.weakest is not None and pair == found.weakest.pair
            kind = "weakest" if is_weakest else "tree" if pair in found.tree else "pair"
            lines.append(_Line(nodes[pair.left], nodes[pair.right], pair.weight, kind))
    lines.sort(key=lambda line: ("leaf", "pair", "tree", "weakest").index(line.kind))
    drawn = sum(node.number is not None for node in nodes.values())
    heights = [node.y for node in nodes.values()] or [0.0]
    top, height = min(heights) - 42, max(heights) - min(heights) + 84
    return _Drawing(top, _WIDTH, height, list(nodes.values()), lines, found.record_count - drawn)


def _along(refs: Sequence[Ref], tree: Sequence[Pair]) -> list[Ref]:
    """The records in an order in which neighbours of the tree stand together."""
    mates: dict[Ref, list[Ref]] = defaultdict(list)
    for pair in tree:
        mates[pair.left].append(pair.right)
        mates[pair.right].append(pair.left)
    known, order = set(refs), dict[Ref, None]()
    for start in refs:
        waiting = [start]
        while waiting:
            ref = waiting.pop()
            if ref in known and ref not in order:
                order[ref] = None
                waiting += reversed(mates[ref])
    return list(order)


@dataclass(frozen=True)
class _Bar:
    """A step of a waterfall: from ``x`` over ``width``, to ``end``, in the units of the drawing."""

    words: str
    value: float
    x: float
    width: float
    end: float


@dataclass(frozen=True)
class _Waterfall:
    pair: Pair
    bars: list[_Bar]
    zero: float
    height: int
    total: _Bar


def _waterfalls(pairs: Sequence[Pair]) -> list[_Waterfall]:
    """One scale for all, so that they can be compared."""
    runs = []
    for pair in pairs:
        steps = [0.0]
        for part in pair.parts:
            steps.append(steps[-1] + part.weight)
        runs.append(steps)
    low = min((min(steps) for steps in runs), default=0)
    high = max((max(steps) for steps in runs), default=1)

    def at(value: float) -> float:
        return _WATERFALL_LEFT + _WATERFALL_WIDTH * (value - low) / (high - low)

    def bar(said: str, value: float, start: float, end: float) -> _Bar:
        return _Bar(said, value, min(at(start), at(end)), max(abs(at(end) - at(start)), 1), at(end))

    drawn = []
    for pair, steps in zip(pairs, runs, strict=True):
        bars = [
            bar(part.words, part.weight, start, end)
            for part, start, end in zip(pair.parts, steps, steps[1:], strict=False)
        ]
        total = bar("in all", pair.strength, 0, pair.strength)
        drawn.append(_Waterfall(pair, bars, at(0), 22 * (len(bars) + 1) + 8, total))
    return drawn
