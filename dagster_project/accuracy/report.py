"""What was measured, as Markdown tables, and their place in a page.

What belongs here: how figures are shown. What does not: the figures.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dagster_project.domain.identity.evaluation import Attribution, Clustering, Estimate, Evaluation

BEGIN, END = "<!-- measured: make accuracy -->", "<!-- end of what was measured -->"

NAMES = {"cocanal": "Cocanal", "exact_keys": "exact keys, connected components", "splink": "Splink by its tutorials"}


@dataclass(frozen=True)
class Measured:
    """One method on the retailer's staged tables: wall seconds of the stage, peak memory of its process in MiB.

    ``threshold`` is the match weight that the truth liked best, for a method that has one.
    """

    evaluation: Evaluation
    seconds: float
    peak_mib: float
    threshold: float | None = None


@dataclass(frozen=True)
class OnFile:
    """One method on a file of people: what it is called, what it found, wall seconds."""

    file: str
    method: str
    clustering: Clustering
    seconds: float


def retailer_tables(measured: Mapping[str, Measured]) -> str:
    """The three methods on the generated retailer, and Cocanal scenario by scenario."""
    names = {name: NAMES[name] for name in measured}
    people: list[tuple[str, ...]] = []
    attribution: list[tuple[str, ...]] = []
    cost: list[tuple[str, ...]] = []
    for name, found in measured.items():
        people.append((names[name], *_people(found.evaluation)))
        attribution += _attributions(names[name], found.evaluation)
        cost.append(
            (
                names[name],
                f"{found.seconds:.1f}",
                f"{found.peak_mib:,.0f}".replace(",", " "),
                "–" if found.threshold is None else f"{found.threshold:g}",
            )
        )
    return "\n\n".join(
        (
            "**Is one person one account?** Web accounts and cards.",
            _table(
                ("method", "records", "precision", "recall", "F1", "B-cubed F1", "household pairs merged",
                 "largest account / largest person"),
                people,
            ),
            "**Whose account did transactions with a key go to?**",
            _table(("method", "channel", "transactions", "right", "wrong", "none"), attribution),
            "**What it costs.**",
            _table(("method", "seconds", "peak MiB", "threshold (match weight)"), cost),
            "**Cocanal by scenario.**",
            _table(("scenario", "records", "precision", "recall", "F1", "wrong attribution"),
                   _scenarios(measured["cocanal"].evaluation)),
        )
    )  # fmt: skip


def file_table(found: Sequence[OnFile]) -> str:
    """Methods on files of people, a row each."""
    return _table(
        ("file", "method", "records", "persons", "precision", "recall", "F1", "seconds"),
        [
            (
                each.file,
                each.method,
                str(each.clustering.records),
                str(each.clustering.persons),
                *(_share(share) for share in _of_pairs(each.clustering)),
                f"{each.seconds:.1f}",
            )
            for each in found
        ],
    )


def write_between_marks(page: Path, text: str) -> None:
    """Put ``text`` between the marks of a page. Raises ValueError where it has none."""
    before = page.read_text(encoding="utf-8")
    pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if not pattern.search(before):
        raise ValueError(f"{page} has no place for the tables: «{BEGIN}» and «{END}».")
    page.write_text(pattern.sub(lambda _: f"{BEGIN}\n\n{text}\n\n{END}", before), encoding="utf-8")


def _people(evaluation: Evaluation) -> tuple[str, ...]:
    people, households = evaluation.people, evaluation.households
    assert people is not None  # a generated retailer has web accounts and cards
    return (
        str(people.records),
        *(_share(share) for share in _of_pairs(people)),
        _share(people.bcubed_f1),
        _share(households.merged_share) if households else "–",
        f"{people.largest_account} / {people.largest_person}",
    )


def _attributions(name: str, evaluation: Evaluation) -> list[tuple[str, ...]]:
    parts = {"all": evaluation.attribution, **evaluation.attribution_by_channel}
    return [(name, channel, *_attribution(found)) for channel, found in parts.items() if found]


def _attribution(found: Attribution) -> tuple[str, ...]:
    shares = (found.right_share, found.wrong_share, found.none_share)
    return str(found.transactions), *(_share(share) for share in shares)


def _scenarios(evaluation: Evaluation) -> list[tuple[str, ...]]:
    nothing = Estimate(None, None, None)
    return [
        (
            name,
            str(found.records),
            *(
                _share(share)
                for share in (
                    (found.pairs.precision, found.pairs.recall, found.pairs.f1) if found.pairs else [nothing] * 3
                )
            ),
            _share(found.attribution.wrong_share if found.attribution else nothing),
        )
        for name, found in evaluation.scenarios.items()
    ]


def _of_pairs(clustering: Clustering) -> tuple[Estimate, ...]:
    return clustering.pairs.precision, clustering.pairs.recall, clustering.pairs.f1


def _share(found: Estimate) -> str:
    """A share in percent with its 95 % interval; never rounded to a perfect hundred or nought that it is not."""
    if found.value is None or found.low is None or found.high is None:
        return "–"
    return f"{_percent(found.value)} ({_percent(found.low)}–{_percent(found.high)})"


def _percent(share: float) -> str:
    shown = f"{100 * share:.2f}"
    if shown == "100.00" and share < 1:
        return "99.99"
    return "0.01" if shown == "0.00" and share > 0 else shown


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
