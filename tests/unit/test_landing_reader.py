"""One delivered file, as ugly as files are, becomes raw rows: what counts, what is refused, and on which line."""

import gzip
import io
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dagster_project.domain.contract import feeds
from dagster_project.domain.landing.deliveries import Delivery
from dagster_project.domain.landing.reader import OPEN_END, read_file

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
    def read_bytes(
        content: bytes | Path, feed: str = "web_events", name: str = "a.csv", most_unpacked_bytes: int = 10**9
    ) -> Read:
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        raw = tmp_path / "raw"
        raw.mkdir(exist_ok=True)
        with duckdb.connect() as connection:
            connection.execute("set TimeZone = 'Asia/Tokyo'")  # nobody's zone may matter
            found = Delivery(feed, f"{feed}/{DAY}/{name}", DAY, path.stat().st_size, path.stat().st_mtime_ns)
            delivery = read_file(connection, found, path, feeds()[feed], raw, most_unpacked_bytes=most_unpacked_bytes)
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
        (HEADER + lines("a", "b")).replace(b"\n", b"\r"),
        b"\n\n" + HEADER + lines("a", "b"),
        b"\r\n" + (HEADER + lines("a", "b")).replace(b"\n", b"\r\n"),
        HEADER + lines("a", "b") + b"\x1a",
        HEADER.replace(b"event_id", b'"event_id"') + lines("a", "b"),
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
        "CR",
        "blank first lines",
        "a blank first line with CRLF",
        "the end mark of DOS",
        "a quoted name",
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


@pytest.mark.parametrize("between", [[], ["x"], ["x", "y", "z"]])
def test_two_stray_quotes_do_not_make_one_row_of_many(read: Any, between: list[str]) -> None:
    """What stands between them is well quoted, has the right number of values, and swallows every row inside."""
    opening = b'V1,one,"visit,2020-07-09T10:00:00Z\n'
    closing = b'V1,two,visit",2020-07-09T10:00:00Z\n'
    found = read(HEADER + lines("a") + opening + lines(*between) + closing + lines("b"))
    assert [line for line, _ in found.refused] == [2, 3 + len(between)]
    assert [value for _, value in found.ids("event_id")] == ["a", *between, "b"]


def test_a_letter_of_several_lines_is_one_value(read: Any) -> None:
    content = b'product_id,name,category,price\nP1,"Dear, all\n\nthree, commas, here\n",Home,3.00\nP2,Cup,Home,2.00\n'
    found = read(content, "products")
    assert found.ids("product_id") == [(1, "P1"), (2, "P2")]


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
        (b"\x1f\x8b\x08\x00", "a.csv.gz", "cut off before its first row"),
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
    assert (row["total_amount"], row["shipping_amount"], row["discount_amount"]) == ("12.50", "12.50", "0.10")
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


MANY = [f"event-{n * 7919 % 100003}" for n in range(5000)]


def zipped(content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.csv", content)
    return out.getvalue()


@pytest.mark.parametrize(
    ("content", "name", "words"),
    [
        (zipped(HEADER), "a.csv.gz", "it is a zip archive"),
        (zipped(HEADER), "a.csv", "it is a zip archive"),
        (HEADER + lines("a"), "a.csv.gz", "it is not gzip; let its name end with .csv"),
        (gzip.compress(HEADER + lines("a"), mtime=0), "a.csv", "let its name end with .csv.gz"),
        (gzip.compress(gzip.compress(HEADER, mtime=0), mtime=0), "a.csv.gz", "pack it once"),
        (gzip.compress(HEADER + lines("a"), mtime=0)[:-8] + b"\0" * 8, "a.csv.gz", "its bytes changed on the way"),
        ((HEADER + lines("a")).decode().encode("utf-16"), "a.csv", "it is UTF-16; write it in UTF-8"),
        ((HEADER + lines("a")).decode().encode("utf-16-le"), "a.csv", "binary or UTF-16"),
        (b"\0" * 4096 + HEADER + lines("a"), "a.csv", "binary or UTF-16"),
        (b"   \n" + HEADER + lines("a"), "a.csv", "its first row is blank"),
        (HEADER.replace(b"event_id", b"Event_ID,event_id"), "a.csv", "names event_id twice"),
        (b"session_id,event\nV1,visit\n", "a.csv", "it names none of event_id"),
        (b"x" * 3_000_000, "a.csv", "is not the header"),
        (b"", "a.parquet", "it is empty"),
        (HEADER, "a.parquet", "it is not Parquet; let its name end with what it is"),
        (b"PAR1" + HEADER + b"PAR1", "a.parquet", "cut off or damaged"),
        (b"PAR1" + HEADER, "a.csv", "let its name end with .parquet"),
    ],
)
def test_a_file_in_disguise_is_told_what_it_is(read: Any, content: bytes, name: str, words: str) -> None:
    found = read(content, name=name)
    assert found.delivery.status == "unreadable"
    assert words in found.delivery.message
    assert found.rows == []


def test_an_archive_of_several_members_is_read_to_its_end(read: Any) -> None:
    found = read(gzip.compress(HEADER + lines("a")) + gzip.compress(lines("b")) + b"\0" * 512, name="a.csv.gz")
    assert found.ids("event_id") == [(1, "a"), (2, "b")]
    assert (found.delivery.status, found.delivery.message) == ("loaded", "")


def test_what_stands_behind_an_archive_is_told_and_costs_no_row(read: Any) -> None:
    found = read(gzip.compress(HEADER + lines(*MANY)) + b"rubbish", name="a.csv.gz")
    assert [value for _, value in found.ids("event_id")] == MANY
    assert found.delivery.status == "loaded"
    assert "behind the archive's end" in found.delivery.message


def test_a_short_archive_that_is_cut_off_keeps_the_rows_before_the_cut(read: Any) -> None:
    found = read(gzip.compress(HEADER + lines("a", "b"))[:-8], name="a.csv.gz")
    assert found.delivery.status == "cut_off"
    assert found.ids("event_id") == [(1, "a"), (2, "b")]


def test_a_file_that_ends_in_the_middle_of_a_row_is_cut_off(read: Any) -> None:
    found = read(HEADER + lines("a", "b") + b"V1,c,vis")
    assert found.delivery.status == "cut_off"
    assert "ends in the middle of a row" in found.delivery.message
    assert found.ids("event_id") == [(1, "a"), (2, "b")]
    assert found.refused == [(3, "wrong_column_count")]


def test_a_last_row_without_a_line_end_counts_and_is_told(read: Any) -> None:
    """Many a tool writes no last line end; but 125,50 cut to 12 looks the same."""
    found = read((HEADER + lines("a", "b"))[:-1])
    assert found.ids("event_id") == [(1, "a"), (2, "b")]
    assert (found.delivery.status, found.delivery.message) == ("loaded", OPEN_END)
    assert read(HEADER + lines("a", "b")).delivery.message == ""


def test_an_archive_that_unpacks_to_more_than_it_may_is_refused_and_nothing_of_it_stays(
    read: Any, tmp_path: Any
) -> None:
    bomb = gzip.compress(HEADER + b"\n" * 30_000_000)
    assert len(bomb) < 100_000
    found = read(bomb, name="a.csv.gz", most_unpacked_bytes=10**7)
    assert found.delivery.status == "unreadable"
    assert "unpacks to more than 0.01 GB" in found.delivery.message
    assert "COCANAL_MOST_UNPACKED_GB" in found.delivery.message
    assert [path for path in (tmp_path / "raw").rglob("*") if path.is_file()] == []
    assert read(gzip.compress(HEADER + lines(*MANY)), name="a.csv.gz", most_unpacked_bytes=10**7).rows


def test_a_parquet_of_a_billion_rows_in_a_few_bytes_is_refused_by_its_footer(read: Any, tmp_path: Any) -> None:
    path = tmp_path / "a.parquet"
    one = pa.table({"event_id": pa.array(["a"] * 1_000_000).dictionary_encode()})
    with pq.ParquetWriter(path, one.schema) as writer:
        for _ in range(3):
            writer.write_table(one)
    assert path.stat().st_size < 10_000
    found = read(path, name="a.parquet", most_unpacked_bytes=10**7)
    assert found.delivery.status == "unreadable"
    assert "3000000 rows" in found.delivery.message


@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize("size", [5_000, 3_000_000, 40_000_000])
def test_a_line_however_long_costs_no_other_line(read: Any, size: int, is_packed: bool) -> None:
    """DuckDB drops a line that does not fit into its buffer, without a word."""
    content = HEADER + lines("a") + b"V1," + b"x" * size + b",visit,2020-07-09T10:00:00Z\n" + lines("b")
    found = read(gzip.compress(content, 1), name="a.csv.gz") if is_packed else read(content)
    if size < 2_000_000:
        assert [len(value) for _, value in found.ids("event_id")] == [1, size, 1]
    else:
        assert found.ids("event_id") == [(1, "a"), (3, "b")]
        assert found.refused == [(2, "line_too_long")]


def test_a_line_with_nul_bytes_is_refused_and_the_others_count(read: Any) -> None:
    broken = b"V1,b\0c,visit,2020-07-09T10:00:00Z\n"
    found = read(HEADER + lines("a") + broken + b'V1,"quoted",visit,2020-07-09T10:00:00Z\n' + lines("d"))
    assert found.refused == [(2, "nul_byte")]
    assert found.ids("event_id") == [(1, "a"), (3, "quoted"), (4, "d")]
    hole = read(HEADER + lines("a") + b"\0" * 4096)
    assert (hole.delivery.status, hole.refused) == ("cut_off", [(2, "nul_byte")])


def test_nul_bytes_inside_an_open_quote_do_not_swallow_what_follows(read: Any) -> None:
    found = read(HEADER + lines("a") + b'V1,"open,visit,x\nV1,b\0,visit,x\n' + lines("c"))
    assert found.refused == [(2, "broken_quoting"), (3, "nul_byte")]
    assert found.ids("event_id") == [(1, "a"), (4, "c")]


def test_separators_and_quotes_inside_quoted_values_stay(read: Any) -> None:
    found = read(HEADER + b'"V,1","a""b",\'visit,x\n"V\n2",c,"v;\tx",x\n')
    assert [(row["session_id"], row["event_id"], row["event"]) for row in found.rows] == [
        ("V,1", 'a"b', "'visit"),
        ("V\n2", "c", "v;\tx"),
    ]


def test_what_looks_like_the_mark_of_the_repair_is_a_row_like_any_other(read: Any) -> None:
    found = read(HEADER + b"\x1abroken\x1a\n" + lines("a") + b'V1,"x,visit,y\n' + lines("b"))
    assert found.refused == [(1, "wrong_column_count"), (3, "broken_quoting")]
    assert found.ids("event_id") == [(2, "a"), (4, "b")]


def test_a_broken_line_of_a_single_column_is_refused(read: Any) -> None:
    found = read(b'event_id\na\n"b\nc\n')
    assert found.refused == [(2, "broken_quoting")]
    assert found.ids("event_id") == [(1, "a"), (3, "c")]


def test_a_till_file_all_in_utf8_is_read_as_utf8_and_told(read: Any) -> None:
    row = "Hélène;S1;09/07/2020 10:00:00;sale;;1,50\n"
    found = read((TILL + row).encode(), "pos_tickets")
    assert found.ids("ticket_id") == [(1, "Hélène")]
    assert "written in UTF-8" in found.delivery.message


def test_columns_that_are_gained_or_lost_are_named(read: Any) -> None:
    found = read(b"event_id,gained\na,x\n")
    assert found.ids("event_id") == [(1, "a")]
    assert found.delivery.unknown_columns == "gained"
    assert found.delivery.missing_columns == "session_id, customer_id, event, product_id, occurred_at"


def written(tmp_path: Path, **columns: Any) -> Path:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table(columns), path)
    return path


MOMENT = datetime(2020, 7, 9, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("feed", "column", "value", "text"),
    [
        ("shop_orders", "order_id", pa.array([12345]), "12345"),
        ("shop_orders", "order_id", pa.array([2900000000012.0]), "2900000000012"),
        ("shop_orders", "city", pa.array(["x"]).dictionary_encode(), "x"),
        ("shop_orders", "city", pa.array(["xé".encode()], pa.binary()), "xé"),
        ("shop_orders", "city", pa.array([None], pa.null()), None),
        ("shop_orders", "city", pa.array([["a", "b"]]), None),
        ("shop_orders", "ordered_at", pa.array([MOMENT], pa.timestamp("ns", "UTC")), "2020-07-09T10:00:00.000000Z"),
        (
            "shop_orders",
            "ordered_at",
            pa.array([MOMENT], pa.timestamp("s", "Etc/GMT")),
            "2020-07-09T10:00:00.000000Z",
        ),
        ("shop_orders", "ordered_at", pa.array([1594288800000]), "1594288800000"),
        ("shop_orders", "total_amount", pa.array([12.1]), "12.10"),
        ("shop_orders", "total_amount", pa.array([29.99 * 3]), "89.97"),
        ("shop_orders", "total_amount", pa.array([0.1 + 0.2]), "0.30"),
        ("shop_orders", "total_amount", pa.array([12.345]), "12.345"),
        ("shop_orders", "total_amount", pa.array([12.1], pa.float32()), "12.10"),
        ("shop_orders", "total_amount", pa.array([1234567.89], pa.float32()), "1234567.875"),
        ("shop_orders", "total_amount", pa.array([Decimal("12.3456")]), "12.3456"),
        ("shop_orders", "total_amount", pa.array([Decimal("12.50")], pa.decimal128(38, 2)), "12.50"),
        ("shop_customers", "birth_date", pa.array([datetime(1980, 7, 9)], pa.timestamp("us")), "1980-07-09"),
        ("shop_customers", "birth_date", pa.array([datetime(1980, 7, 8, 22)], pa.timestamp("us", "UTC")), "1980-07-09"),
        ("store_hours", "opens_at", pa.array([time(9, 30)]), "09:30"),
    ],
)
def test_another_type_of_parquet_keeps_its_meaning_or_is_left_for_staging_to_refuse(
    read: Any, tmp_path: Path, feed: str, column: str, value: pa.Array, text: str | None
) -> None:
    key = {name: ["K"] for name in feeds()[feed].key}
    found = read(written(tmp_path, **{**key, column: value}), feed, "a.parquet")
    (row,) = found.rows
    assert row[column] == text
    assert ("lists or structures" in found.delivery.message) == pa.types.is_list(value.type)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (pa.table([["a"], ["b"]], names=["order_id", "Order_ID"]), "order_id twice"),
        (pa.table([["a"]], names=["other"]), "none of the columns order_id"),
        (pa.table({"order_id": pa.array([b"caf\xe9"], pa.binary())}), "not UTF-8"),
        (pa.table({"order_id": ["a"], "file_row_number": [7]}), "file_row_number"),
    ],
)
def test_a_parquet_that_is_none_of_the_feed_says_why(read: Any, tmp_path: Path, table: pa.Table, words: str) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(table, path)
    found = read(path, "shop_orders", "a.parquet")
    assert found.delivery.status == "unreadable"
    assert words in found.delivery.message


def test_a_parquet_cut_in_half_is_told_and_leaves_nothing(read: Any, tmp_path: Path) -> None:
    whole = written(tmp_path, order_id=[f"O{n}" for n in range(10_000)]).read_bytes()
    found = read(whole[: len(whole) // 2], "shop_orders", "a.parquet")
    assert (found.delivery.status, found.rows) == ("unreadable", [])
    assert "cut off or damaged" in found.delivery.message


@pytest.mark.parametrize(
    "name",
    ["part_[1].csv", "*.csv", "a?.csv", "a'b.csv", "a;b%20.csv", "a\\b.csv", "-x.csv", "{a,b}.csv", f"{'x' * 251}.csv"],
)
def test_a_name_is_never_a_pattern(read: Any, tmp_path: Path, name: str) -> None:
    for other in ("part_1.csv", "ab.csv", "b.csv"):
        (tmp_path / other).write_bytes(HEADER + lines("other"))
    assert read(HEADER + lines("mine"), name=name).ids("event_id") == [(1, "mine")]


def test_raw_is_for_the_owner_alone_whatever_the_umask(read: Any, tmp_path: Path) -> None:
    read(HEADER + lines("a"))
    (raw,) = (tmp_path / "raw" / "web_events").iterdir()
    assert (raw.stat().st_mode & 0o777, raw.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_a_message_holds_no_value_of_the_file(read: Any) -> None:
    found = read(b'event_id,event\na,camille@mail.example\n"b,paul@mail.example\n\xff,x\n')
    assert not re.search("@", found.delivery.message + found.delivery.unknown_columns)


def test_names_of_columns_can_forge_no_line_and_fill_no_log(read: Any) -> None:
    odd = ["x\x1b[31m", "y\u202e", "z" * 500, *(f"c{n:03d}" for n in range(100))]
    found = read((",".join(["event_id", *odd]) + "\na" + ",1" * len(odd) + "\n").encode())
    assert found.ids("event_id") == [(1, "a")]
    assert found.delivery.unknown_columns.isprintable()
    assert len(found.delivery.unknown_columns) < 2_000
    assert found.delivery.unknown_columns.endswith("and 73 more")
