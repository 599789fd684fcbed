"""Compares a warehouse with the truth: every row has its one fate, every euro its place, every refusal its sentence.

Here belongs reading the pipeline's tables. What they must hold is ``truth``.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import duckdb
from faults.truth import FeedTruth, Place, Row, Truth, comparable, ledger

from dagster_project.domain.contract import Feed, feeds

# What may stand in a sentence that says what to do.
_ADVICE = re.compile(r"deliver|write|correct|must be|look for|ask for|send|rename|remove|counts as soon as")
# Types whose standard form is not what was delivered; others must be read as they are.
_STANDARDISED = {"email", "phone", "country", "postal_code", "key_value"}


def _rows(connection: duckdb.DuckDBPyConnection, sql: str) -> list[dict[str, Any]]:
    cursor = connection.execute(sql)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


class Books:
    """The tables of a warehouse after a night, held against the truth. ``complaints`` are what differs, in words."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, truth: Truth) -> None:
        self._connection = connection
        self._truth = truth
        self.complaints: list[str] = []
        self._current: dict[str, list[Row]] = {}
        self._check_files()
        quarantine: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in _rows(connection, "select * from staging.quarantine"):
            quarantine[row["feed"]].append(row)
        counts = {row["feed"]: row for row in _rows(connection, "select * from staging.row_counts")}
        for shape in feeds().values():
            fates = truth.feeds[shape.name]
            self._check_delivered(shape, fates)
            found = self._check_current(shape, fates)
            self._check_quarantine(shape, fates, quarantine[shape.name])
            self._check_counts(shape, fates, found, counts.get(shape.name))

    def _complain(self, night_of: str, defect: str, what: str) -> None:
        by = f" [{defect}]" if defect else ""
        self.complaints.append(f"night {self._truth.night}, {night_of}{by}: {what}")

    def _check_files(self) -> None:
        found = {row["file"]: row for row in _rows(self._connection, "select * from landing.files")}
        for path, file in self._truth.files.items():
            if path not in found:
                self._complain(path, file.defect, "the file is in no register")
                continue
            told = found.pop(path)
            rows = file.rows_on(self._truth.night)
            if told["row_count"] != len(rows):
                self._complain(path, file.defect, f"{told['row_count']} rows were read, {len(rows)} are in it")
            if told["status"] not in file.statuses:
                self._complain(path, file.defect, f"the file is «{told['status']}», not one of {file.statuses}")
            said = f"{told['message']} {told['unknown_columns']} {told['missing_columns']}"
            for word in file.words:
                if word not in said:
                    self._complain(path, file.defect, f"«{word}» is not in what is said of it: «{said}»")
        for path, told in found.items():
            # What lies there and is no file may be told, with what to do; nothing of it may be read.
            if told["row_count"] or told["status"] != "unreadable" or not _ADVICE.search(told["message"]):
                self._complain(path, "", f"this is no delivery, and was read, or not explained: «{told['message']}»")

    def _check_delivered(self, shape: Feed, fates: FeedTruth) -> None:
        places: list[Place] = list(fates)  # type: ignore[call-overload]
        assert len(places) == len(set(places)), "the truth gives a row two fates"
        found = self._connection.execute(f"select file, line from landing.{shape.name}").fetchall()
        for place, count in Counter(found).items():
            if count > 1:
                self._complain(f"{place}", "", f"delivered once, read {count} times")
        for place in set(places) - set(found):
            self._complain(f"{place}", "", "delivered and not read")
        for place in set(found) - set(places):
            self._complain(f"{place}", "", "read and not delivered")

    def _check_current(
        self, shape: Feed, fates: FeedTruth
    ) -> dict[tuple[Any, ...], tuple[Place, tuple[int, int, int]]]:
        rows = _rows(
            self._connection,
            f"select stg.*, files.file from staging.stg_{shape.name} as stg "
            f"join landing.files as files on files.feed = '{shape.name}' and files.file_no = stg.file_no",
        )
        found, self._current[shape.name] = {}, []
        for told in rows:
            key = tuple(told[name] for name in shape.key)
            place = (told["file"], told["line"])
            contest = fates.contests.get(key)
            if contest is None:
                self._complain(f"{place}", "", f"{shape.name} {key} counts and must not")
                continue
            if key in found:
                self._complain(f"{place}", "", f"{shape.name} {key} counts twice")
            row = contest.accepted.get(place)
            if row is None or place not in contest.winners:
                row = next(iter(contest.winners.values()))
                self._complain(
                    f"{place}", row.defect, f"{shape.name} {key} is taken from there, not {[*contest.winners]}"
                )
                continue
            self._current[shape.name].append(row)
            counts = tuple(
                told[name] for name in ("identical_row_count", "superseded_row_count", "conflicting_row_count")
            )
            found[key] = (place, counts)
            if counts != contest.beside(place):
                expected = contest.beside(place)
                self._complain(
                    f"{place}", row.defect, f"identical, superseded, conflicting are {counts}, not {expected}"
                )
            for column in shape.columns:
                if column.type not in _STANDARDISED:
                    value, expected = comparable(told[column.name]), comparable(row.values.get(column.name))
                    if value != expected:
                        shown = f"{value!r}"[:60], f"{expected!r}"[:60]
                        self._complain(
                            f"{place}", row.defect, f"{column.name} was read as {shown[0]}, it says {shown[1]}"
                        )
        for key, contest in fates.contests.items():
            if key not in found:
                place, row = next(iter(contest.winners.items()))
                self._complain(f"{place}", row.defect, f"{shape.name} {key} does not count and must")
        return found

    def _check_quarantine(self, shape: Feed, fates: FeedTruth, told: list[dict[str, Any]]) -> None:
        found: dict[Place, dict[str, Any]] = {}
        for row in told:
            place = (row["file"], row["line"])
            if place in found:
                self._complain(f"{place}", "", "refused twice")
            found[place] = row
        for place, (row, rules) in fates.refused.items():
            if place not in found:
                self._complain(f"{place}", row.defect, f"not in quarantine, must be there for {' or '.join(rules)}")
                continue
            told_row = found.pop(place)
            message = told_row["message"] or ""
            if told_row["rule"] not in rules:
                self._complain(f"{place}", row.defect, f"refused for {told_row['rule']}, not {' or '.join(rules)}")
            if not _ADVICE.search(message):
                self._complain(f"{place}", row.defect, f"«{message}» does not say what to do")
            if row.column and row.column not in message:
                self._complain(f"{place}", row.defect, f"«{message}» does not name {row.column}")
            for column in shape.columns:
                for value in (row.values.get(column.name), row.texts.get(column.name)):
                    if column.personal and isinstance(value, str) and len(value) > 3:
                        shown = f"{message} {told_row['record_id']}"
                        if value.lower() in shown.lower():
                            self._complain(f"{place}", row.defect, f"the message shows the person's {column.name}")
            is_personal = any(column.personal for column in shape.columns if column.name in shape.key)
            if row.key and all(part is not None for part in row.key) and not is_personal:
                expected = "|".join(str(part) for part in row.key)
                texts = "|".join(row.texts.get(name, str(part)) for name, part in zip(shape.key, row.key, strict=True))
                if told_row["record_id"] not in (expected, texts):
                    self._complain(f"{place}", row.defect, f"record_id is {told_row['record_id']}, not {expected}")
        for place, told_row in found.items():
            defect = next((row.defect for where, row in fates.corrected.items() if where == place), "")
            why = (
                "is still in quarantine, but was followed by the row that counts"
                if place in fates.corrected
                else "refused"
            )
            self._complain(f"{place}", defect, f"{why} ({told_row['rule']}), and must not be")

    def _check_counts(self, shape: Feed, fates: FeedTruth, found: Any, told: dict[str, Any] | None) -> None:
        delivered = sum(len(f.rows_on(self._truth.night)) for f in self._truth.files.values() if f.feed == shape.name)
        if told is None:
            if delivered:
                self._complain(shape.name, "", "staging.row_counts says nothing of it")
            return
        beside = [fates.contests[key].beside(place) for key, (place, _) in found.items()]
        # What was refused and then followed by the row that counts is superseded, like what a whole table replaced.
        others = sum(other for _, other, _ in beside)
        expected = {
            "delivered": delivered,
            "current": len(fates.contests),
            "identical": sum(same for same, _, _ in beside),
            "superseded": others + len(fates.corrected) + len(fates.replaced),
            "conflicting": sum(contrary for _, _, contrary in beside),
            "refused": len(fates.refused),
            "replaced": len(fates.replaced),
        }
        for name, count in expected.items():
            if told[f"{name}_row_count"] != count:
                self._complain(shape.name, "", f"{told[f'{name}_row_count']} {name} rows, there are {count}")
        total = sum(told[f"{name}_row_count"] for name in ("current", "identical", "superseded", "refused"))
        if total != told["delivered_row_count"]:
            self._complain(shape.name, "", f"{told['delivered_row_count']} delivered rows have {total} fates")
        self._check_amounts(shape, fates, told)

    def _check_amounts(self, shape: Feed, fates: FeedTruth, told: dict[str, Any]) -> None:
        amount = next((name for name in ("total_amount", "amount") if name in shape.column_names), None)
        if amount is None:
            return

        def worth(rows: Iterable[Row]) -> Decimal:
            """What the rows whose amount can be read are about."""
            readable = (row for row in rows if row.line is None and row.column != amount)
            return sum((row.values[amount] for row in readable), Decimal(0))

        accepted = [row for contest in fates.contests.values() for row in contest.accepted.values()]
        refused = worth(row for row, _ in fates.refused.values())
        expected = {
            "delivered": worth([*accepted, *fates.corrected.values(), *fates.replaced.values()]) + refused,
            "current": worth(self._current[shape.name]),
            "refused": refused,
        }
        for name, euros in expected.items():
            if told[f"{name}_amount"] != euros:
                self._complain(shape.name, "", f"{told[f'{name}_amount']} euros {name}, there are {euros}")
        total = sum(told[f"{name}_amount"] for name in ("current", "identical", "superseded", "refused"))
        if total != told["delivered_amount"]:
            self._complain(shape.name, "", f"{told['delivered_amount']} delivered euros have {total} fates")

    def check_ledger(self, has_accounts: bool = True) -> None:
        """The ledger, the days and channels, and the flags, from the rows in force."""
        expected = ledger(self._current)
        defects = {
            (row.feed, str(row.key[0])): row.defect for rows in self._current.values() for row in rows if row.key
        }
        booked = {
            (row["feed"], row["record_id"]): row
            for row in _rows(self._connection, "select * from account.transactions")
        }
        for what in booked.keys() ^ expected.keys():
            self._complain(f"{what}", defects.get(what, ""), "in the ledger or in staging, not in both")
        stores = {row.values["store_id"] for row in self._current["stores"]}
        products = {row.values["product_id"] for row in self._current["products"]}
        lines: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
        for shape in feeds().values():
            for row in self._current[shape.name] if shape.header else ():
                lines[shape.header or "", row.values[shape.key[0]]] += row.values["amount"]
        headers = {
            (row.feed, str(row.key[0])): row.values for rows in self._current.values() for row in rows if row.key
        }
        for what in booked.keys() & expected.keys():
            told, booking = booked[what], expected[what]
            seen = tuple(told[name] for name in ("channel", "kind", "business_on", "amount", "counted_amount"))
            must = (booking.channel, booking.kind, booking.business_on, booking.amount, booking.counted_amount)
            if seen != must or (told["exclusion"] is not None) != booking.is_excluded:
                self._complain(f"{what}", defects.get(what, ""), f"booked as {seen}, not {must}")
            values = headers[what]
            store = values.get("store_id") or values.get("pickup_store_id")
            if store and told["is_known_store"] != (store in stores):
                self._complain(f"{what}", defects.get(what, ""), f"is_known_store is {told['is_known_store']}")
            extra = (values.get("shipping_amount") or 0) - (values.get("discount_amount") or 0)
            if booking.kind in ("sale", "return") and told["is_balanced"] != (lines[what] + extra == booking.amount):
                self._complain(f"{what}", defects.get(what, ""), f"is_balanced is {told['is_balanced']}")
        for told in _rows(self._connection, "select product_id, is_known_product from account.transaction_lines"):
            if told["is_known_product"] != (told["product_id"] in products):
                self._complain(told["product_id"], "", f"is_known_product is {told['is_known_product']}")
        self._check_days(expected)
        if has_accounts:
            ((ledger_sum, of_accounts, anonymous),) = self._connection.execute(
                """
                select (select sum(counted_amount) from account.reconciliation),
                    (select sum(counted_amount) from account.accounts),
                    (select coalesce(sum(counted_amount), 0) from account.transactions where account_id is null)
                """
            ).fetchall()
            truth = sum((booking.counted_amount for booking in expected.values()), Decimal(0))
            if not ledger_sum == of_accounts + anonymous == truth:
                self._complain(
                    "all", "", f"{ledger_sum} in the days, {of_accounts} + {anonymous} in accounts, not {truth}"
                )

    def _check_days(self, expected: Any) -> None:
        days: dict[tuple[str, Any], list[Decimal]] = defaultdict(lambda: [Decimal(0)] * 3)
        for booking in expected.values():
            sums = days[booking.channel, booking.business_on]
            added = (booking.amount, booking.counted_amount, booking.amount - booking.counted_amount)
            sums[:] = [one + other for one, other in zip(sums, added, strict=True)]
        found = {
            (row["channel"], row["business_on"]): [
                row[f"{name}_amount"] for name in ("delivered", "counted", "excluded")
            ]
            for row in _rows(self._connection, "select * from account.reconciliation")
        }
        for day in found.keys() | days.keys():
            if found.get(day) != days.get(day):
                self._complain(f"{day}", "", f"{found.get(day)} delivered, counted, excluded; not {days.get(day)}")
