"""What a gate says: statements about measures, and what came of judging them. Not for how they are judged: gate."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from dagster_project.domain.sql_literal import literal, literals

Severity = Literal["stop", "warn"]


@dataclass(frozen=True)
class Statement:
    """One thing that must hold on a seam, measured by one SQL query.

    ``measure`` yields rows ``(scope, observed)``: what was looked at (a feed, a file, a day; never a person) and a
    number. The statement holds where every observed number lies between ``least`` and ``most``. ``advice`` is what a
    tired engineer should do. A statement that protects people's rights or a file's integrity cannot be accepted.
    """

    name: str
    measure: str
    advice: str
    least: float | None = None
    most: float | None = None
    severity: Severity = "stop"
    is_acceptable: bool = True

    @property
    def expected(self) -> str:
        """The bounds in words."""
        if self.least is not None and self.most is not None:
            return f"{self.least:g}" if self.least == self.most else f"{self.least:g} to {self.most:g}"
        return f"at least {self.least:g}" if self.least is not None else f"at most {self.most:g}"


# Where a measure says it, the condition on which feeds a statement is about is put in.
JUDGED_FEEDS = "{judged feeds}"


def for_each_feed(statement: Statement, own: Mapping[str, float]) -> tuple[Statement, ...]:
    """A statement for all feeds but those in ``own``, and one for each of these, named ``<name>_of_<feed>``.

    A feed's own limit stands in place of the statement's bound. The measure names ``JUDGED_FEEDS`` as a condition.
    """
    others = f"feed not in ({literals(own)})" if own else "true"
    return (
        replace(statement, measure=statement.measure.replace(JUDGED_FEEDS, others)),
        *(
            replace(
                statement,
                name=f"{statement.name}_of_{feed}",
                measure=statement.measure.replace(JUDGED_FEEDS, f"feed = {literal(feed)}"),
                least=None if statement.least is None else limit,
                most=None if statement.most is None else limit,
            )
            for feed, limit in own.items()
        ),
    )


@dataclass(frozen=True)
class Suite:
    """The statements of one gate; ``stage`` names the seam, ``asset`` the table that the next stage waits for."""

    stage: str
    asset: str
    statements: tuple[Statement, ...]


@dataclass(frozen=True)
class Judgement:
    """What came of one statement: the number furthest out of its bounds, and up to ten scopes that failed."""

    stage: str
    statement: Statement
    is_passed: bool
    observed: float | None
    failed_scopes: tuple[str, ...] = field(default=())
    scope_count: int = 0
    because: str | None = None

    @property
    def is_stopping(self) -> bool:
        return not self.is_passed and self.statement.severity == "stop" and self.because is None

    @property
    def sentence(self) -> str:
        """The judgement in words: which gate, what it found, what to do."""
        where = f" ({', '.join(self.failed_scopes)})" if self.failed_scopes else ""
        observed = "nothing" if self.observed is None else f"{self.observed:,.6g}".replace(",", " ")
        return (
            f"{self.stage}.{self.statement.name}: found {observed}, expected {self.statement.expected}{where}. "
            f"{self.statement.advice}"
        )
