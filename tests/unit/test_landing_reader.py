"""One delivered file, as ugly as files are, becomes raw rows: what counts, what is refused, and on which line."""

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest

from dagster_project.domain.contract import feeds
from dagster_project.domain.landing.deliveries import Delivery, find
from dagster_project.domain.landing.intake import take_in
from dagster_project.domain.landing.reader import read_file

DAY = date(2020, 7, 10)
HEADER = b"session_id,event_id,event,occurred_at\n"


@dataclass(frozen=True)
class Read:
    """What a file gave: the delivery, its good rows ``(line, ...)`` and its refused ones ``(line, rule)``."""

    delivery: Delivery
    rows: list[dict[str, Any]]
    refused: list[tuple[int, str]]

    def ids(self, column: str) -> list[tuple[int, Any]]:
        return [(row["line"], row[column]) for row in self.rows]


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Read]:
    def read_bytes(content: bytes | Path, feed: str = "web_events", name: str = "a.csv") -> Read:
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        raw = tmp_path / "raw"
        raw.mkdir(exist_ok=True)
        with duckdb.connect() as connection:
            connection.execute("set TimeZone = 'Asia/Tokyo'")  # nobody's zone may matter
            found = Delivery(feed, f"{feed}/{DAY}/{name}", DAY, path.stat().st_size, path.stat().st_mtime_ns)
            delivery = read_file(connection, found, path, feeds()[feed], raw)
            target = raw / feed / f"{delivery.sha256}.parquet"
            if not target.exists():
                return Read(delivery, [], [])
            cursor = connection.execute(f"select * from read_parquet('{target}') order by line")
            names = [column[0] for column in cursor.description]
            rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        assert [row["line"] for row in rows] == list(range(1, len(rows) + 1)), "each row has its own line, none is lost"
        assert delivery.row_count == len(rows)
        refused = [(row["line"], row["_rule"]) for row in rows if row["_rule"]]
        assert delivery.rejected_row_count == len(refused)
        return Read(delivery, [row for row in rows if not row["_rule"]], refused)

    return read_bytes


def lines(*ids: str) -> bytes:
    return b"".join(f"V1,{name},visit,2020-07-09T10:00:00Z\n".encode() for name in ids)


@pytest.mark.parametrize(
    "content",
    [
        HEADER + lines("a", "b"),
        b"\xef\xbb\xbf" + HEADER + lines("a", "b"),
        (HEADER + lines("a", "b")).replace(b"\n", b"\r\n"),
        (HEADER + lines("a", "b")).rstrip(b"\n"),
        HEADER.replace(b"session_id", b" SESSION_ID ") + lines("a", "b"),
        HEADER + lines("a").replace(b"a,visit", b'"a","visit"') + lines("b"),
        HEADER + lines("a").replace(b"\n", b"\r\n") + lines("b"),
        HEADER.replace(b"\n", b"\r\n") + lines("a") + lines("b").replace(b"\n", b"\r\n"),
        HEADER + lines("a", "b") + b"\n",
        HEADER + lines("a", "b") + b"\n\n\n",
    ],
    ids=[
        "plain",
        "byte order mark",
        "CRLF",
        "no last line end",
        "header in capitals and blanks",
        "quoted",
        "CRLF then LF",
        "LF between CRLF",
        "a blank last line",
        "blank last lines",
    ],
)
def test_however_it_was_saved_the_rows_are_the_same(read: Any, content: bytes) -> None:
    found = read(content)
    assert found.ids("event_id") == [(1, "a"), (2, "b")]
    assert {row["event"] for row in found.rows} == {"visit"}
    assert {row["customer_id"] for row in found.rows} == {None}
    assert found.refused == []
    assert (found.delivery.status, found.delivery.unknown_columns) == ("loaded", "")
    assert found.delivery.missing_columns == "customer_id, product_id"


def test_a_quoted_line_end_belongs_to_its_value(read: Any) -> None:
    content = b'product_id,name,category,price\nP1,"Bowl\nof ""clay""",Home,3.00\nP2,Cup,Home,2.00\n'
    found = read(content, "products")
    assert found.ids("name") == [(1, 'Bowl\nof "clay"'), (2, "Cup")]
    assert found.refused == []


def test_a_stray_quote_in_the_middle_of_a_file_costs_one_line(read: Any) -> None:
    broken = b'V1,"bad,visit,2020-07-09T10:00:00Z\n'
    names = [f"e{n}" for n in range(300)]
    found = read(HEADER + lines(*names[:150]) + broken + lines(*names[150:]))
    assert found.refused == [(151, "broken_quoting")]
    assert [value for _, value in found.ids("event_id")] == names
    assert found.ids("event_id")[150] == (152, "e150")


def test_a_quote_that_closes_in_the_middle_of_its_value_costs_one_line(read: Any) -> None:
    """A till wrote such a line, and every row after it was lost without a word."""
    header = ";".join(("ticket_id", "store_id", "sold_at", "ticket_type", "total_amount"))
    good = [f"T{n};S1;09/07/2020 10:00:00;sale;{n},50" for n in range(1, 401)]
    bad = '"T9084"x;S1"x;09/07/2020 10:00:00"x;sale"x;'
    content = "\n".join([header, *good[:200], bad, *good[200:]]) + "\n"
    found = read(content.encode("latin-1"), "pos_tickets")
    assert [line for line, _ in found.refused] == [201]
    assert [value for _, value in found.ids("ticket_id")] == [row.split(";")[0] for row in good]
    assert found.ids("total_amount")[-1] == (401, "400,50")


def test_several_stray_quotes_cost_a_line_each(read: Any) -> None:
    broken = b'V1,"bad,visit,2020-07-09T10:00:00Z\n'
    found = read(HEADER + lines("a") + broken + lines("b", "c") + broken + lines("d") + broken)
    assert [line for line, _ in found.refused] == [2, 5, 7]
    assert found.ids("event_id") == [(1, "a"), (3, "b"), (4, "c"), (6, "d")]


def test_too_few_and_too_many_values_cost_their_line(read: Any) -> None:
    found = read(
        HEADER + lines("a") + b"V1,short\n" + lines("b") + b"V1,long,visit,2020-07-09T10:00:00Z,5,6\n" + lines("c")
    )
    assert found.refused == [(2, "wrong_column_count"), (4, "wrong_column_count")]
    assert found.ids("event_id") == [(1, "a"), (3, "b"), (5, "c")]


def test_bytes_that_are_not_utf8_cost_their_line(read: Any) -> None:
    found = read(HEADER + lines("a") + b"V1,caf\xe9,visit,2020-07-09T10:00:00Z\n" + lines("b"))
    assert found.refused == [(2, "invalid_encoding")]
    assert found.ids("event_id") == [(1, "a"), (3, "b")]


def test_blank_lines_are_no_rows_and_do_not_shift_the_errors_after_them(read: Any) -> None:
    """A line is counted in rows after the header, so that it is the same whatever blank lines an editor left."""
    found = read(HEADER + lines("a") + b"\n\n" + lines("b") + b"V1,short\n" + b"\n" + lines("c"))
    assert found.refused == [(3, "wrong_column_count")]
    assert found.ids("event_id") == [(1, "a"), (2, "b"), (4, "c")]


TILL = "ticket_id;store_id;sold_at;ticket_type;email;total_amount\n"


@pytest.mark.parametrize(
    ("encoding", "text"),
    [("latin-1", "Hélène"), ("cp1252", "L’œuvre à 5 €"), ("cp1252", "Žofie Š")],
)
def test_a_till_file_is_read_as_windows_wrote_it(read: Any, encoding: str, text: str) -> None:
    row = f"{text};S1;09/07/2020 10:00:00;sale;;1,50\n"
    found = read((TILL + row).encode(encoding), "pos_tickets")
    if encoding == "latin-1":
        assert found.ids("ticket_id") == [(1, text)]
    assert len(found.rows) == 1
    assert found.rows[0]["total_amount"] == "1,50"


def test_a_damaged_till_file_keeps_its_windows_characters(read: Any) -> None:
    rows = "".join(f"{ticket};S1;09/07/2020 10:00:00;sale;;1,50\n" for ticket in ("L’œuvre", '"T2', "É3"))
    found = read((TILL + rows).encode("cp1252"), "pos_tickets")
    assert found.ids("ticket_id") == [(1, "L’œuvre"), (3, "É3")]


def test_a_till_file_with_a_byte_order_mark_is_utf8(read: Any) -> None:
    row = "Hélène;S1;09/07/2020 10:00:00;sale;;1,50\n"
    found = read((TILL + row).encode("utf-8-sig"), "pos_tickets")
    assert found.ids("ticket_id") == [(1, "Hélène")]


def test_a_whole_archive_is_read_like_its_content(read: Any) -> None:
    found = read(gzip.compress(HEADER + lines("a", "b")), name="a.csv.gz")
    assert found.ids("event_id") == [(1, "a"), (2, "b")]
    assert found.delivery.status == "loaded"


def test_of_an_archive_that_is_cut_off_the_rows_before_the_cut_count(read: Any) -> None:
    names = [f"event-{n * 7919 % 100003}" for n in range(5000)]
    whole = gzip.compress(HEADER + lines(*names))
    found = read(whole[: len(whole) // 2], name="a.csv.gz")
    assert found.delivery.status == "cut_off"
    assert "cut" in found.delivery.message
    assert 1000 < len(found.rows) < 5000
    assert [value for _, value in found.ids("event_id")] == names[: len(found.rows)]
    assert [rule for _, rule in found.refused] in ([], ["cut_off"])
    assert found.refused in ([], [(len(found.rows) + 1, "cut_off")])


@pytest.mark.parametrize("content", [b"", b"\n", b"\xef\xbb\xbf", HEADER, HEADER.rstrip()])
def test_a_file_without_rows_is_empty_and_no_error(read: Any, content: bytes) -> None:
    found = read(content)
    assert found.delivery.status == "empty"
    assert found.delivery.row_count == 0
    assert found.rows == []


@pytest.mark.parametrize(
    ("content", "name", "words"),
    [
        (HEADER.replace(b",", b";") + b"V1;a;visit;2020-07-09T10:00:00Z\n", "a.csv", "separated by «;»"),
        (HEADER.replace(b",", b"\t"), "a.csv", "separated by tab"),
        (lines("a", "b"), "a.csv", "is not the header of web_events"),
        (b"event_id,event,event\na,visit,view\n", "a.csv", "names event twice"),
        (b"\x1f\x8b\x08\x00", "a.csv.gz", "damaged from its start"),
        (b"event_id," + b"\xe9" + b"\na,b\n", "a.csv", "not UTF-8"),
        (b"PAR1 is not all it takes", "a.parquet", "Parquet"),
    ],
    ids=["semicolon", "tab", "no header", "column twice", "archive", "latin-1 header", "parquet"],
)
def test_a_file_of_which_nothing_can_be_read_says_why(read: Any, content: bytes, name: str, words: str) -> None:
    found = read(content, name=name)
    assert found.delivery.status == "unreadable"
    assert words in found.delivery.message
    assert found.rows == []


def test_columns_may_stand_in_any_order_and_unknown_ones_are_told_and_never_loaded(read: Any) -> None:
    content = b"occurred_at,cashier,event,event_id,,session_id\n2020-07-09T10:00:00Z,Ann,visit,a,,V1\n"
    found = read(content)
    (row,) = found.rows
    assert (row["event_id"], row["session_id"], row["event"]) == ("a", "V1", "visit")
    assert found.delivery.unknown_columns == "cashier"
    assert "Ann" not in row.values()


def parquet(tmp_path: Path, select: str) -> Path:
    path = tmp_path / "a.parquet"
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'America/New_York'")
        connection.execute(f"copy ({select}) to '{path}' (format parquet)")
    return path


def test_parquet_brings_its_natural_types(read: Any, tmp_path: Path) -> None:
    path = parquet(
        tmp_path,
        """
        select 'O1' as order_id, timestamptz '2020-07-09 10:00:00+02:00' as ordered_at,
            12.50::decimal(18, 2) as total_amount, 12.5000::decimal(18, 4) as shipping_amount,
            0.1::double as discount_amount, '' as city, 'Ann' as cashier
        """,
    )
    found = read(path, "shop_orders", "a.parquet")
    (row,) = found.rows
    assert row["ordered_at"].startswith("2020-07-09T08:00:00") and row["ordered_at"].endswith("Z")
    assert (row["total_amount"], row["shipping_amount"], row["discount_amount"]) == ("12.50", "12.50", "0.1")
    assert row["city"] is None
    assert found.delivery.unknown_columns == "cashier"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("12::decimal(18, 0)", "12"),
        ("12.00::decimal(18, 2)", "12"),
        ("100::decimal(18, 2)", "100"),
        ("12.345::decimal(18, 3)", "12.345"),
        ("-7.90::decimal(18, 2)", "-7.90"),
        ("3.0::double", "3"),
        ("3.25::double", "3.25"),
        ("7::integer", "7"),
        ("'4.20'", "4.20"),
        ("null::double", None),
    ],
)
def test_a_number_of_parquet_keeps_its_value(read: Any, tmp_path: Path, value: str, text: str | None) -> None:
    path = parquet(tmp_path, f"select 'P1' as product_id, {value} as price")
    (row,) = read(path, "products", "a.parquet").rows
    if text is None or row["price"] is None:
        assert row["price"] == text
    else:
        assert float(row["price"]) == float(text)
        assert len(row["price"].partition(".")[2]) <= max(2, len(text.partition(".")[2]))


def test_parquet_of_the_tills_is_local_time_without_a_zone_and_universal_with_one(read: Any, tmp_path: Path) -> None:
    path = parquet(
        tmp_path,
        """
        select 'T1' as ticket_id, timestamp '2020-07-09 10:00:00' as sold_at
        """,
    )
    (row,) = read(path, "pos_tickets", "a.parquet").rows
    assert row["sold_at"] == "09/07/2020 10:00:00"
    path = parquet(tmp_path, "select 'T1' as ticket_id, timestamptz '2020-07-09 10:00:00+00' as sold_at")
    (row,) = read(path, "pos_tickets", "a.parquet").rows
    assert row["sold_at"].startswith("2020-07-09T10:00:00")


def put(landing: Path, file: str, content: bytes = HEADER + b"V1,a,visit,2020-07-09T10:00:00Z\n") -> Path:
    path = landing / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_what_is_still_being_written_or_no_delivery_is_left_alone(tmp_path: Path) -> None:
    landing = tmp_path / "landing"
    for file in (
        "web_events/2020-07-10/a.csv",
        "web_events/2020-07-10/b.csv.gz",
        "web_events/2020-07-10/c.parquet",
        "web_events/2020-07-10/.d.csv",
        "web_events/2020-07-10/_e.csv",
        "web_events/2020-07-10/f.csv.part",
        "web_events/2020-07-10/g.csv.tmp",
        "web_events/2020-07-10/h.xlsx",
        "web_events/2020-7-9/i.csv",
        "web_events/2020-02-30/j.csv",
        "gossip/2020-07-10/k.csv",
        "web_events/2020-07-11/l.csv",
    ):
        put(landing, file)
    (landing / "web_events" / "2020-07-10" / "m.csv").symlink_to(put(tmp_path, "secret.csv"))
    (landing / "shop_orders").symlink_to(landing / "web_events")
    found, strangers = find(landing, DAY)
    assert [delivery.file for delivery in found] == [
        f"web_events/2020-07-10/{name}" for name in ("a.csv", "b.csv.gz", "c.parquet")
    ]
    assert {stranger.path for stranger in strangers} == {
        "gossip",
        "shop_orders",
        "web_events/2020-02-30",
        "web_events/2020-07-10/h.xlsx",
        "web_events/2020-07-10/m.csv",
        "web_events/2020-7-9",
    }


def intake(home: Path) -> Any:
    return take_in(
        home / "landing",
        home / "raw",
        home / "raw" / "deliveries",
        as_of=DAY,
        connect=duckdb.connect,
        workers=1,
        progress=lambda done, of: None,
    )


def test_the_same_content_in_two_places_is_two_deliveries_and_one_raw_file(tmp_path: Path) -> None:
    put(tmp_path / "landing", "web_events/2020-07-09/a.csv")
    put(tmp_path / "landing", "web_events/2020-07-10/a_again.csv")
    found = intake(tmp_path)
    assert [(d.file, d.row_count, d.status) for d in found.deliveries] == [
        ("web_events/2020-07-09/a.csv", 1, "loaded"),
        ("web_events/2020-07-10/a_again.csv", 1, "loaded"),
    ]
    assert len(list((tmp_path / "raw" / "web_events").iterdir())) == 1


def test_a_file_is_read_once_and_again_only_when_it_changed(tmp_path: Path) -> None:
    path = put(tmp_path / "landing", "web_events/2020-07-10/a.csv")
    assert len(intake(tmp_path).new_files) == 1
    assert intake(tmp_path).new_files == ()
    path.write_bytes(HEADER + lines("a", "b"))
    again = intake(tmp_path)
    assert [(d.file, d.row_count) for d in again.deliveries] == [("web_events/2020-07-10/a.csv", 2)]


def test_a_file_that_is_gone_from_landing_is_not_forgotten(tmp_path: Path) -> None:
    put(tmp_path / "landing", "web_events/2020-07-10/a.csv")
    intake(tmp_path)
    (tmp_path / "landing" / "web_events" / "2020-07-10" / "a.csv").unlink()
    assert [d.row_count for d in intake(tmp_path).deliveries] == [1]
    # ... and a raw file that was lost is made again where its delivery is still there
    put(tmp_path / "landing", "web_events/2020-07-10/a.csv")
    for raw in (tmp_path / "raw" / "web_events").iterdir():
        raw.unlink()
    intake(tmp_path)
    assert len(list((tmp_path / "raw" / "web_events").iterdir())) == 1
