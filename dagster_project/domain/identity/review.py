"""Review: the pairs that a data steward should look at, as a sheet to fill in, and the filled sheet as a delivery.

What belongs here: which pairs are worth a person's minute, the sheet, and what a delivery of ``identity_decisions``
must be so that the night takes it. What does not: what a decision does (``identifiers.py``, ``clustering.py``). The
moment at which something is decided is given: nothing here looks at the clock.

A sheet holds personal data and stays with the steward. What goes into landing holds record numbers and verdicts only.
"""

import csv
import hashlib
import io
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb

from dagster_project.domain.contract import feeds
from dagster_project.domain.identity.model import COMPARISONS
from dagster_project.domain.landing.deliveries import Delivery, find, is_unchanged, read_register
from dagster_project.domain.landing.reader import read_file
from dagster_project.domain.sql_literal import literals

FEED = "identity_decisions"
CONTRACT_COLUMNS = feeds()[FEED].column_names
AUDIENCE_STAKE = 100
NEARNESS_BITS = 2
_GUARD_BITS = 1
_CONTRADICTION_BITS = 6
_REASON_OF_GUARD = ("could_be_two_people", "conflict_inside", "weak_bridge")

IN_WORDS = {
    "too_little_evidence": "too little agrees to join them, too much to pass over them",
    "could_be_two_people": "one of them fits two people who exclude each other",
    "conflict_inside": "they agree, but records already joined with them contradict each other",
    "weak_bridge": "they would be the only link between two groups of records, and a weak one",
    "given_name": "their given names differ, all else says one person",
    "birth_date": "their birth dates differ, all else says one person",
    "household_only": "all that agrees is a household's, and the given name of one of them is only begun",
}
"""The reasons of ``identity.edges`` that a steward can settle, as the sheet says them."""

_SIDE = ("name", "email", "phone", "birth_date", "address", "account_id")
EYE_COLUMNS = (
    "usefulness",
    "weight",
    "evidence",
    "refusal",
    *(f"{side}_{column}" for column in _SIDE for side in ("left", "right")),
    "stake",
    "in_audience",
)
"""The columns of the sheet after those of the contract: for the eye, never read back."""

_FORMULA = re.compile(r"^[=+\-@\t\r\n]")
_EMAIL = re.compile(r"[^\s@]+@[^\s@]+\.[^\s@]+")
_PHONE = re.compile(r"(?:\+\d|\b0\d)[\d .\-/()]{6,}")
_PARIS = ZoneInfo("Europe/Paris")
_MOST_PROBLEMS = 20


class DecisionError(Exception):
    """A sheet or a decision cannot be delivered; the message is one sentence a line, each naming line and column."""


def decision_id(left: tuple[str, str], right: tuple[str, str]) -> str:
    """The number of the decision about two records (feed, key): the same whichever comes first, on every night."""
    text = "\n".join("|".join(record) for record in sorted((left, right)))
    return "R" + hashlib.sha256(text.encode()).hexdigest()[:15].upper()


def _gammas(comparison: str, *levels: str) -> str:
    (found,) = (each for each in COMPARISONS if each.name == comparison)
    return ", ".join(str(found.gamma(level)) for level in levels)


def useful_pairs(
    connection: duckdb.DuckDBPyConnection,
    *,
    analysts: str,
    restricted: str,
    accept_weight: float,
    most: int,
    decided: Collection[tuple[str, str, str, str]] = (),
) -> list[dict[str, Any]]:
    """The pairs a steward should see, most useful first, as rows of the sheet by column name; at most ``most``.

    ``analysts`` and ``restricted`` name the attached databases of a release; ``decided`` holds pairs of records (left
    feed and key, right feed and key) that somebody has decided since. Candidates are the pairs that are undecided, and
    those refused by a guard (``could_be_two_people``, ``conflict_inside``, ``weak_bridge``) or for a given name or a
    birth date although all else weighs enough: a name that nobody bears, two names and one birth date, a household with
    an initial. Left out are pairs within one account, and pairs of accounts of which a steward has decided any pair. Of
    a pair of accounts only its most useful pair of records is shown.

    usefulness = nearness * stake

    * nearness = 2 ** (-distance / 2), so that it halves every 2 bits. distance is the bits between the pair's weight
      and the threshold; 1 where a guard refused, whatever the weight, for then the weights do not settle it; 6 where
      names or dates contradict each other or a name is only begun, for there the machine is mostly right.
    * stake = counted revenue of both accounts (never less than nought each) + 100 if one of them is in an audience + 1.

    Ties are broken by the records' feeds and keys. Keys that a spreadsheet would take for a formula are left out.
    """
    own_pairs = list(dict.fromkeys(decided))
    connection.execute(
        "create or replace temp table review_decided "
        "(left_feed varchar, left_record_id varchar, right_feed varchar, right_record_id varchar)"
    )
    if own_pairs:
        connection.executemany("insert into review_decided values (?, ?, ?, ?)", own_pairs)
    sides = {
        side: f"""
            {side}s.contact_id as {side}_contact_id,
            coalesce({side}_links.account_id, {side}_feed || '|' || {side}_record_id) as {side}_key,
            {side}_links.account_id as {side}_account_id"""
        for side in ("left", "right")
    }
    joins = " ".join(
        f"""
        left join {restricted}.identity.records as {side}s
            on {side}s.feed = pairs.{side}_feed and {side}s.record_id = pairs.{side}_record_id
        left join {analysts}.identity.account_links as {side}_links
            on {side}_links.feed = pairs.{side}_feed and {side}_links.record_id = pairs.{side}_record_id"""
        for side in ("left", "right")
    )
    shown = ", ".join(
        f"""
        nullif(concat_ws(' ', {side}s.first_name, {side}s.last_name), '') as {side}_name,
        {side}s.email as {side}_email, {side}s.phone as {side}_phone, {side}s.birth_date::varchar as {side}_birth_date,
        nullif(concat_ws(', ', {side}s.address_line1,
            nullif(concat_ws(' ', {side}s.postal_code, {side}s.city), '')), '') as {side}_address,
        chosen.{side}_account_id"""
        for side in ("left", "right")
    )
    cursor = connection.execute(
        f"""
        with pairs as (
            select pairs.*, {sides["left"]}, {sides["right"]}
            from {restricted}.identity.edges as pairs {joins}
        ),
        settled as (
            select left_key as one, right_key as other from pairs where rule = 'decision'
            union all
            select left_key, right_key
            from (select {sides["left"]}, {sides["right"]} from review_decided as pairs {joins})
        ),
        settled_pairs as (
            select distinct least(one, other) as one, greatest(one, other) as other from settled
        ),
        distances as (
            select *,
                least(left_key, right_key) as one, greatest(left_key, right_key) as other,
                case
                    when reason in ({literals(_REASON_OF_GUARD)}) then {_GUARD_BITS}
                    when reason = 'too_little_evidence' then abs({accept_weight} - weight)
                    when weight < {accept_weight} then null
                    when reason = 'birth_date' then {_CONTRADICTION_BITS}
                    when reason = 'given_name' and (
                        gamma_given_name in ({_gammas("given_name", "unlike")})
                        or gamma_birth_date in ({_gammas("birth_date", "exact", "swapped", "close")})
                    ) then {_CONTRADICTION_BITS}
                    when reason = 'household_only' and gamma_given_name in ({_gammas("given_name", "initial")})
                        then {_CONTRADICTION_BITS}
                end as distance
            from pairs
            where decision <> 'accepted' and rule <> 'decision' and left_key <> right_key
        ),
        in_audience as (select distinct account_id from {analysts}.audience.members),
        weighed as (
            select distances.*,
                greatest(coalesce(left_accounts.counted_amount, 0), 0)
                    + greatest(coalesce(right_accounts.counted_amount, 0), 0)
                    + case when left_in.account_id is null and right_in.account_id is null then 0
                        else {AUDIENCE_STAKE} end
                    + 1 as stake,
                left_in.account_id is not null or right_in.account_id is not null as in_audience
            from distances
            left join {analysts}.account.accounts as left_accounts on left_accounts.account_id = left_account_id
            left join {analysts}.account.accounts as right_accounts on right_accounts.account_id = right_account_id
            left join in_audience as left_in on left_in.account_id = left_account_id
            left join in_audience as right_in on right_in.account_id = right_account_id
            where distance is not null
                and not regexp_matches(left_record_id, '^[=+\\-@\\t\\r\\n]')
                and not regexp_matches(right_record_id, '^[=+\\-@\\t\\r\\n]')
        ),
        chosen as (
            select weighed.*,
                round(cast(stake as double) * pow(2, -cast(distance as double) / {NEARNESS_BITS}), 2) as usefulness
            from weighed anti join settled_pairs using (one, other)
            qualify row_number() over (
                partition by one, other
                order by usefulness desc, left_feed, left_record_id, right_feed, right_record_id
            ) = 1
        )
        select chosen.left_feed, chosen.left_record_id as left_id, chosen.right_feed,
            chosen.right_record_id as right_id, chosen.reason as refusal, chosen.weight, chosen.evidence,
            chosen.usefulness, chosen.stake, chosen.in_audience, {shown}
        from chosen
        left join {restricted}.identity.contacts as lefts on lefts.contact_id = chosen.left_contact_id
        left join {restricted}.identity.contacts as rights on rights.contact_id = chosen.right_contact_id
        order by usefulness desc, chosen.left_feed, left_id, chosen.right_feed, right_id
        limit {most}
        """
    )
    names = [column[0] for column in cursor.description]
    rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    connection.execute("drop table review_decided")
    return [_as_written(row) for row in rows]


def _as_written(row: dict[str, Any]) -> dict[str, Any]:
    return {
        **row,
        "decision_id": decision_id((row["left_feed"], row["left_id"]), (row["right_feed"], row["right_id"])),
        "refusal": IN_WORDS.get(row["refusal"], row["refusal"]),
        "weight": f"{row['weight']:.1f}",
        "usefulness": f"{row['usefulness']:.2f}",
        "stake": f"{row['stake']:.2f}",
        "in_audience": "yes" if row["in_audience"] else "no",
    }


def without_formula(text: str) -> str:
    """The text with an apostrophe before it, where a spreadsheet would take it for a formula."""
    return "'" + text if _FORMULA.match(text) else text


def write_sheet(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write the sheet, which only its owner may read: CSV, UTF-8 with a mark that spreadsheets know it by, comma.

    Raises FileExistsError where the file is there: it may be a sheet that somebody has filled in.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.fchmod(descriptor, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8-sig", newline="") as out:
        writer = csv.writer(out, lineterminator="\r\n")
        writer.writerow([*CONTRACT_COLUMNS, *EYE_COLUMNS])
        for row in rows:
            contract = [row.get(name) or "" for name in CONTRACT_COLUMNS]
            eye = [without_formula(str(row.get(name) or "")) for name in EYE_COLUMNS]
            writer.writerow([*contract, *eye])


@dataclass(frozen=True)
class Decision:
    """One row of the feed, every value as the file has it; ``line`` is that of the sheet (the header is 1), 0 = none.

    ``delivered_on`` and ``file`` are known of a decision that was delivered.
    """

    decision_id: str
    left_feed: str
    left_id: str
    right_feed: str
    right_id: str
    decision: str
    decided_by: str
    decided_at: str
    reason: str = ""
    revoked_at: str = ""
    line: int = 0
    delivered_on: date | None = None
    file: str = ""

    @property
    def records(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """The two records (feed, key), the smaller first."""
        one, other = sorted(((self.left_feed, self.left_id), (self.right_feed, self.right_id)))
        return one, other

    @property
    def rank(self) -> tuple[date, str, str]:
        """Of several deliveries of one decision the one with the greatest rank counts."""
        return self.delivered_on or date.min, self.file.rsplit("/", 1)[-1], self.file


def _decision(values: Mapping[str, str]) -> Decision:
    given: dict[str, Any] = {name: values.get(name, "") for name in CONTRACT_COLUMNS}
    return Decision(**given)


def read_sheet(path: Path) -> tuple[list[Decision], int]:
    """The rows of a filled sheet that hold a decision, and how many do not. Values are trimmed and not checked.

    A spreadsheet may have saved it with semicolons or in a Windows encoding. Raises DecisionError where it is no sheet.
    """
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1252", "replace")
    first = text.split("\n", 1)[0]
    wanted = [name for name in CONTRACT_COLUMNS if name not in ("reason", "revoked_at")]
    delimiter = max(",;\t", key=first.count)
    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    header = [name.strip().lower() for name in rows[0]] if rows else []
    missing = [name for name in wanted if name not in header]
    if missing:
        raise DecisionError(
            f"{path.name} is no sheet of decisions: its first line does not name the columns {', '.join(missing)}. "
            "Save the sheet as CSV, with its first line as it was."
        )
    twice = sorted({name for name in CONTRACT_COLUMNS if header.count(name) > 1})
    if twice:
        raise DecisionError(f"{path.name}, line 1: the columns {', '.join(twice)} are there twice; leave one of each.")
    places = {name: header.index(name) for name in CONTRACT_COLUMNS if name in header}
    decisions, empty = [], 0
    for line, row in enumerate(rows[1:], start=2):
        values = {name: row[place].strip() if place < len(row) else "" for name, place in places.items()}
        if values["decision"]:
            decisions.append(replace(_decision(values), decision=values["decision"].lower(), line=line))
        elif any(values.values()):
            empty += 1
    return decisions, empty


def stamp(now: datetime, delivered_on: date) -> datetime:
    """The moment to write for what is decided now and delivered under that day: never after the day, which would be
    refused, and no later than now.
    """
    return min(now.astimezone(UTC).replace(microsecond=0), datetime.combine(delivered_on, time(23, 59, 59), UTC))


def _moment(text: str) -> datetime | None:
    """A moment as a person or a spreadsheet writes it; one without a zone is of Paris. None if it is none."""
    french = re.fullmatch(r"(\d{1,2})/(\d{1,2})/(\d{4})(?:[ T](\d{1,2}:\d{2}(?::\d{2})?))?", text)
    if french:
        day, month, year, clock = french.groups()
        text = f"{year}-{month:0>2}-{day:0>2}T{(clock or '00:00').rjust(5 if (clock or '').count(':') < 2 else 8, '0')}"
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=_PARIS)).astimezone(UTC)


def _written(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _holds_personal_data(text: str) -> bool:
    return bool(_EMAIL.search(text)) or any(
        sum(letter.isdigit() for letter in found) >= 9 for found in _PHONE.findall(text)
    )


def checked(
    decisions: Sequence[Decision],
    *,
    known_records: Collection[tuple[str, str]],
    delivered: Mapping[str, Decision],
    delivered_on: date,
    now: datetime,
    by: str | None,
) -> tuple[list[Decision], int]:
    """The decisions as they are to be delivered, and how many of the sheet were delivered before just so.

    ``known_records`` are those of the decisions' records (feed, key) that the release has. Who decided and when is
    filled in where the sheet does not say. Raises DecisionError with a sentence per problem.
    """
    problems: list[str] = []
    good: list[Decision] = []
    for decision in decisions:
        found, whole = _check_row(decision, known_records, delivered_on, stamp(now, delivered_on), by)
        before = delivered.get(decision.decision_id)
        if before is not None and before.records != decision.records:
            found.append(
                f"line {decision.line}, column decision_id: {decision.decision_id} was delivered for other records; "
                "take the number that the sheet had, or another one."
            )
        problems += found
        if not found:
            good.append(whole)
    problems += _contradictions(good)
    if problems:
        more = len(problems) - _MOST_PROBLEMS
        raise DecisionError("\n".join(problems[:_MOST_PROBLEMS] + ([f"... and {more} more."] if more > 0 else [])))
    once = {decision.decision_id: decision for decision in good}.values()
    fresh = [decision for decision in once if not _is_in_force(decision, delivered.get(decision.decision_id))]
    return fresh, len(once) - len(fresh)


def _is_in_force(decision: Decision, before: Decision | None) -> bool:
    """Whether just this was delivered already, and not taken back; to take it back in a sheet is something new."""
    return (
        before is not None
        and not before.revoked_at
        and not decision.revoked_at
        and before.decision == decision.decision
    )


def _check_row(
    decision: Decision,
    known_records: Collection[tuple[str, str]],
    delivered_on: date,
    moment: datetime,
    by: str | None,
) -> tuple[list[str], Decision]:
    problems = []

    def complain(column: str, sentence: str) -> None:
        problems.append(f"line {decision.line}, column {column}: {sentence}")

    for column in ("decision_id", "left_feed", "left_id", "right_feed", "right_id"):
        if not getattr(decision, column):
            complain(column, "is empty; leave it as the sheet had it.")
    if decision.decision not in ("same", "different"):
        complain("decision", f"«{decision.decision[:20]}» is neither same nor different.")
    for side in ("left", "right"):
        record = (getattr(decision, f"{side}_feed"), getattr(decision, f"{side}_id"))
        if all(record) and record not in known_records:
            complain(
                f"{side}_id",
                f"the release knows no record {record[1][:40]} of {record[0][:40]}; if a spreadsheet rewrote the "
                "number, open the sheet with its columns as text.",
            )
    if decision.left_id and decision.records[0] == decision.records[1]:
        complain("right_id", "a record is compared with itself.")
    decided_by = decision.decided_by or (by or "").strip()
    if not decided_by:
        complain("decided_by", "nobody is named; write who decided, or use --by.")
    for column, text in (("decided_by", decided_by), ("reason", decision.reason)):
        if _holds_personal_data(text):
            complain(column, "holds an e-mail address or a phone number; say it without.")
    moments: dict[str, str] = {}
    for column, text in (("decided_at", decision.decided_at), ("revoked_at", decision.revoked_at)):
        at = _moment(text) if text else moment if column == "decided_at" else None
        if text and at is None:
            complain(column, "is not a moment; write it as 2020-07-15T16:30:00Z, or leave it empty.")
        elif at is not None and at >= datetime.combine(delivered_on + timedelta(days=1), time(), UTC):
            complain(column, f"lies after the day of delivery, {delivered_on}.")
        moments[column] = _written(at) if at else ""
    return problems, replace(
        decision, decided_by=decided_by, decided_at=moments["decided_at"], revoked_at=moments["revoked_at"]
    )


def _contradictions(decisions: Sequence[Decision]) -> list[str]:
    """What the sheet says against itself: of one pair, of one number, or in a roundabout way."""
    problems = []
    by_pair: dict[Any, Decision] = {}
    by_number: dict[str, Decision] = {}
    group: dict[tuple[str, str], tuple[str, str]] = {}

    def root(record: tuple[str, str]) -> tuple[str, str]:
        while group.get(record, record) != record:
            record = group[record]
        return record

    for decision in decisions:
        first = by_pair.setdefault(decision.records, decision)
        if first.decision != decision.decision:
            problems.append(
                f"line {decision.line}, column decision: says {decision.decision}, line {first.line} says "
                f"{first.decision} of the same two records; keep one of them."
            )
        first = by_number.setdefault(decision.decision_id, decision)
        if first.records != decision.records:
            problems.append(
                f"line {decision.line}, column decision_id: line {first.line} has the same number for other records."
            )
        if decision.decision == "same" and not decision.revoked_at:
            one, other = decision.records
            group[root(one)] = root(other)
    if problems:
        return problems
    return [
        f"line {decision.line}, column decision: says different, but other lines, taken together, say that the two are "
        "the same."
        for decision in decisions
        if decision.decision == "different" and not decision.revoked_at and len({*map(root, decision.records)}) == 1
    ]


def revoked(number: str, delivered: Mapping[str, Decision], *, delivered_on: date, now: datetime) -> Decision:
    """The delivered decision of that number, as it is delivered again to revoke it. Raises DecisionError."""
    decision = delivered.get(number)
    if decision is None:
        raise DecisionError(f"No decision {number[:40]} was ever delivered to this home.")
    if decision.revoked_at:
        raise DecisionError(f"The decision {number} is revoked already.")
    return replace(decision, revoked_at=_written(stamp(now, delivered_on)))


def known_records(
    connection: duckdb.DuckDBPyConnection, restricted: str, decisions: Iterable[Decision]
) -> set[tuple[str, str]]:
    """Those of the decisions' records that the release in the database ``restricted`` has."""
    asked = sorted({record for decision in decisions for record in decision.records})
    if not asked:
        return set()
    return set(
        connection.execute(
            f"""
            select records.feed, records.record_id
            from {restricted}.identity.records as records
            semi join (select unnest($1::varchar[]) as feed, unnest($2::varchar[]) as record_id) as asked
                using (feed, record_id)
            """,
            [[feed for feed, _ in asked], [record_id for _, record_id in asked]],
        ).fetchall()
    )


def delivered_decisions(
    connection: duckdb.DuckDBPyConnection,
    *,
    landing: Path,
    raw: Path,
    register: Path,
    released: Collection[tuple[str, str]],
    scratch: Path,
) -> dict[str, Decision]:
    """Every decision that was delivered, by its number, in the version that counts.

    No release holds the decisions themselves, so they are read as a night would: the raw files of what the register
    knows (of a file that is gone from landing only if it was ``released``: path under landing, hash), and the files in
    landing that no night has read yet, by way of the empty folder ``scratch``. Rows that lack something are left out.
    """
    feed = feeds()[FEED]
    lying = find(landing)[0]
    is_landing_empty = not lying
    found = [each for each in lying if each.feed == FEED]
    known = {path: each for path, each in read_register(register).items() if each.feed == FEED}
    here = {each.file for each in found}
    sources: list[tuple[Delivery, Path]] = [
        (each, raw)
        for each in known.values()
        if each.file not in here and (is_landing_empty or (each.file, each.sha256) in released)
    ]
    for each in found:
        before = known.get(each.file)
        is_read = before is not None and is_unchanged(each, before)
        if before is not None and is_read:
            sources.append((before, raw))
        else:
            sources.append((read_file(connection, each, landing / each.file, feed, scratch), scratch))
    decisions: dict[str, Decision] = {}
    mandatory = " and ".join(f"{column.name} is not null" for column in feed.columns if column.mandatory)
    columns = ", ".join(f"coalesce(trim({name}), '')" for name in CONTRACT_COLUMNS)
    for delivery, folder in sources:
        path = folder / FEED / f"{delivery.sha256}.parquet"
        if not delivery.row_count or not path.exists():
            continue
        rows = connection.execute(
            f"select {columns} from read_parquet($1) where _rule is null and {mandatory} order by line", [str(path)]
        ).fetchall()
        for row in rows:
            decision = replace(
                _decision(dict(zip(CONTRACT_COLUMNS, row, strict=True))),
                delivered_on=delivery.delivered_on,
                file=delivery.file,
            )
            counted = decisions.get(decision.decision_id)
            if counted is None or counted.rank <= decision.rank:
                decisions[decision.decision_id] = decision
    return decisions


def deliver(
    decisions: Sequence[Decision], landing: Path, delivered_on: date, delivered: Mapping[str, Decision]
) -> Path:
    """Write a delivery of the decisions into landing; returns its path. It appears whole or not at all.

    Within a day the last file by name counts, so files are numbered. Raises DecisionError where another delivery of one
    of the decisions would still count after this one.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CONTRACT_COLUMNS)
    for decision in decisions:
        writer.writerow([getattr(decision, name) for name in CONTRACT_COLUMNS])
    content = text.getvalue().encode()
    folder = landing / FEED / delivered_on.isoformat()
    names = [path.name for path in folder.glob("steward_*")] if folder.is_dir() else []
    names += [each.rank[1] for each in delivered.values() if each.delivered_on == delivered_on]
    numbers = [int(match[1]) for name in names if (match := re.match(r"steward_(\d{4})_", name))]
    name = f"steward_{max(numbers, default=0) + 1:04d}_{hashlib.sha256(content).hexdigest()[:16]}.csv"
    file = f"{FEED}/{delivered_on.isoformat()}/{name}"
    for decision in decisions:
        before = delivered.get(decision.decision_id)
        if before is not None and before.rank >= (delivered_on, name, file):
            raise DecisionError(
                f"{before.file} holds the decision {decision.decision_id} and counts after this delivery: "
                "name a later day with --delivered-on."
            )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    unfinished = path.with_name(path.name + ".part")
    with unfinished.open("wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    unfinished.replace(path)
    return path
