"""Each defect by itself, night after night: what must be kept is, what must be refused is, and the books balance."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from faults.books import Books
from faults.catalogue import DEFECTS, Defect, page_with_list
from faults.shop import DAYS, Shop, content, growth, let_grow
from faults.truth import Truth

from dagster_project.domain.landing import content as landing_content


def _case(defect: Defect) -> Any:
    marks = [pytest.mark.xfail(strict=True, reason=defect.wrong)] if defect.wrong else []
    return pytest.param(defect, id=defect.name, marks=marks)


@pytest.mark.parametrize("defect", [_case(defect) for defect in DEFECTS])
def test_every_row_and_euro_is_accounted_for(
    defect: Defect, tmp_path: Path, kept: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Shop()
    defect.strike(shop)
    shop.surround()
    files = shop.files(order=1)
    let_grow(monkeypatch, tmp_path / "landing", files)
    for night in range(len(DAYS)):
        shop.arrive(tmp_path / "landing", files, night)
        if night in shop.nights:
            with kept(tmp_path, night) as connection:
                books = Books(connection, Truth(files, night))
                books.check_ledger(has_accounts=False)
            assert books.complaints == [], "\n".join(["", *books.complaints[:40]])


def test_a_file_that_grows_while_it_is_copied_is_not_taken_for_another(
    tmp_path: Path, kept: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file's name in raw is the hash of its content: it must never be that of what the file held a moment before."""
    shop = Shop()
    rows, more = [shop.ticket(1), shop.ticket(1)], [shop.ticket(1), shop.ticket(1)]
    grown = shop.file(1, "growing.csv", [*rows, *more])
    # The next night brings the beginning of that file again, as it was, under another name.
    shop.file(2, "whole.csv", rows)
    shop.surround()
    files, landing = shop.files(order=1), tmp_path / "landing"
    rest = growth(replace(grown, rows=[], growing=more))
    waiting = [rest]
    read = landing_content._read

    def read_and_append(source: Any, size: int) -> bytes:
        chunk = read(source, size)
        path = landing / grown.path
        if waiting and path.exists() and os.path.sameopenfile(source.fileno(), os.open(path, os.O_RDONLY)):
            with path.open("ab") as out:
                out.write(waiting.pop())
        return chunk

    monkeypatch.setattr(landing_content, "_read", read_and_append)
    for night in (0, 1, 2):
        shop.arrive(landing, files, night)
        if night == 1:
            whole = content(grown)
            assert whole.endswith(rest)
            (landing / grown.path).write_bytes(whole.removesuffix(rest))
        with kept(tmp_path, night) as connection:
            books = Books(connection, Truth(files, night))
            books.check_ledger(has_accounts=False)
        assert books.complaints == []
    assert not waiting


# What a pipeline could do wrong, as SQL on its tables; and what the books must say of it.
MISTAKES = {
    "a row is lost": ("delete from staging.stg_pos_tickets where line = 1", "does not count and must"),
    "a row is made up": (
        "insert into staging.stg_pos_tickets by name "
        "select * replace ('T0' as ticket_id) from staging.stg_pos_tickets where line = 1",
        "counts and must not",
    ),
    "a row counts twice": (
        "insert into staging.stg_shop_orders select * from staging.stg_shop_orders limit 1",
        "counts twice",
    ),
    "a cent is lost": (
        "update account.transactions set counted_amount = counted_amount - 0.01 where kind = 'refund'",
        "booked as",
    ),
    "a day is wrong": (
        "update account.reconciliation set business_on = business_on + 1 where channel = 'store'",
        "delivered, counted, excluded; not",
    ),
    "an instant is read an hour late": (
        "update staging.stg_pos_tickets set sold_at = sold_at + interval 1 hour",
        "sold_at was read as",
    ),
    "a refused row is not told": ("delete from staging.quarantine", "not in quarantine, must be there"),
    "a good row is refused": ("update staging.quarantine set line = line + 1000", "and must not be"),
    "a message says nothing": ("update staging.quarantine set message = 'bad'", "does not say what to do"),
    "a message shows somebody": (
        "update staging.quarantine set message = message || ' AURORE'",
        "shows the person's first_name",
    ),
    "a file is forgotten": ("delete from landing.files where feed = 'web_events'", "the file is in no register"),
    "a row is counted twice": (
        "update staging.row_counts set current_row_count = current_row_count + 1",
        "delivered rows have",
    ),
}


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory, kept: Any) -> Iterator[tuple[Any, Truth]]:
    """A warehouse in which all is well, and its truth."""
    shop = Shop()
    shop.deliver(0, shop.order(0).broken("status", "lost", "unknown_choice"))
    shop.surround()
    files, home = shop.files(order=1), tmp_path_factory.mktemp("well")
    shop.arrive(home / "landing", files, 0)
    with kept(home, 0) as connection:
        yield connection, Truth(files, 0)


def _complaints(connection: Any, truth: Truth) -> list[str]:
    books = Books(connection, truth)
    books.check_ledger(has_accounts=False)
    return books.complaints


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_books_notice(mistake: str, walked: tuple[Any, Truth]) -> None:
    """The harness itself can fail: on each mistake that a pipeline could make it says so."""
    sql, words = MISTAKES[mistake]
    connection, truth = walked
    assert _complaints(connection, truth) == []
    connection.execute("begin")
    connection.execute(sql)
    found = _complaints(connection, truth)
    connection.execute("rollback")
    assert [complaint for complaint in found if words in complaint] != []


def test_the_page_lists_every_defect() -> None:
    page = Path(__file__).parents[2] / "docs" / "reliability.md"
    text = page.read_text(encoding="utf-8")
    assert text == page_with_list(text), "see the first lines of faults/catalogue.py"
    assert len({defect.name for defect in DEFECTS}) == len(DEFECTS)
