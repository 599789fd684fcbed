"""``cocanal explain``: why these records are one account, or why a record has none. Presentation only."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Column, Table

from dagster_project.access_log import LOG, log_access, own_folder, write_privately
from dagster_project.commands.terminal import WRONG_USE, Home, complaints, console, settings_of, told_in_sentences

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from dagster_project.domain.identity.explanation import AccountExplanation, AnonymousExplanation, Ref
    from dagster_project.domain.release import Release

SHOWN_RECORDS = 30
SHOWN_PAIRS = 15


def explain(
    asked: Annotated[
        str,
        typer.Argument(
            metavar="ACCOUNT|FEED:RECORD",
            help="Id of an account, of this or an earlier release; or a record, such as pos_tickets:T-1.",
        ),
    ],
    home: Home = None,
    release_id: Annotated[str | None, typer.Option("--release", help="Id of the release; default: current.")] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html", help="Where to write the page; default: explain/<account>.html in the home.", dir_okay=False
        ),
    ] = None,
    show_personal_data: Annotated[
        bool,
        typer.Option("--show-personal-data", help="Names, e-mails, phones in full; needs --because, and is logged."),
    ] = False,
    because: Annotated[
        str | None, typer.Option("--because", help="Why personal data is looked at; kept in explain/access.log.")
    ] = None,
) -> None:
    """Say why records are one account: which, by which rule, what holds them together, what was refused nearby.

    Reads a release, never the working database. Personal data is masked. Exit codes: 0 explained, 2 wrong use or
    nothing to explain.
    """
    from dagster_project.domain.identity.explanation import AnonymousExplanation, ExplanationError
    from dagster_project.domain.identity.explanation import explain as explain_record
    from dagster_project.domain.identity.explanation_page import render_page
    from dagster_project.domain.identity.explanation_words import plain
    from dagster_project.settings import SettingsError
    from dagster_project.warehouse import Warehouse

    with told_in_sentences():
        settings = settings_of(home)
        reason = (because or "").strip()
        if show_personal_data != bool(reason):
            raise SettingsError("--show-personal-data and --because go together: say why the data is looked at.")
        release = _release(settings.home, release_id)
        try:
            with Warehouse(settings).scratch() as connection, _read(release, connection):
                found = explain_record(connection, asked, is_masked=not show_personal_data)
        except ExplanationError as error:
            complaints.print(plain(error), style="red", markup=False, soft_wrap=True)
            raise typer.Exit(WRONG_USE) from None
        folder = settings.home / "explain"
        if isinstance(found, AnonymousExplanation):
            _tell_anonymous(found, release.release_id)
            return
        target = html or folder / f"{re.sub(r'[^A-Za-z0-9._-]', '_', found.account_id)}.html"
        try:
            if show_personal_data:
                log_access(settings.home, reason, account=found.account_id)
            if html is None:
                own_folder(folder)
            write_privately(target, render_page(found, release_id=release.release_id))
        except OSError as error:
            blocked = folder / LOG if str(error.filename).endswith(LOG) else target
            complaints.print(
                f"{blocked} cannot be written: {error.strerror}. Nothing is shown.",
                style="red",
                markup=False,
                soft_wrap=True,
            )
            raise typer.Exit(WRONG_USE) from None
        _tell(found, release.release_id)
        console.print(f"\nAs a page: {target}", markup=False, soft_wrap=True)
        if show_personal_data:
            console.print("The page holds personal data: delete it when you are done.", soft_wrap=True)


def _release(home: Path, release_id: str | None) -> "Release":
    from dagster_project.domain.release import ReleaseError, list_releases

    for each in list_releases(home):
        if each.release_id == release_id if release_id else each.is_current:
            return each
    raise ReleaseError(
        f"There is no release {release_id}; «cocanal release list» lists those there are."
        if release_id
        else f"There is no release in {home} yet: «cocanal run» makes one."
    )


@contextlib.contextmanager
def _read(release: "Release", connection: "DuckDBPyConnection") -> Iterator[None]:
    """The release is attached; what cannot be read of it ends in a sentence."""
    import duckdb

    from dagster_project.domain.identity.explanation import attach_release
    from dagster_project.domain.release import DATABASES, ReleaseError

    try:
        attach_release(connection, release.directory)
    except (duckdb.Error, OSError):
        raise ReleaseError(
            f"{release.directory / DATABASES['restricted']} cannot be read: only the user who runs Cocanal may, and an "
            "explanation needs it."
        ) from None
    try:
        yield
    except (duckdb.CatalogException, duckdb.BinderException):
        raise ReleaseError(
            f"The release {release.release_id} was made by a version of Cocanal that did not keep what an explanation "
            "needs: explain a newer one."
        ) from None


def _tell_anonymous(found: "AnonymousExplanation", release_id: str) -> None:
    from dagster_project.domain.identity.explanation_words import plain, say_why_anonymous

    console.print(f"[bold]{escape(plain(found.record))}[/bold] has no account in release {release_id}.", soft_wrap=True)
    for reason in say_why_anonymous(found):
        console.print(f"  {escape(reason)}", soft_wrap=True)


def _tell(found: "AccountExplanation", release_id: str) -> None:
    from dagster_project.domain.identity import explanation_words as words

    def say(text: str) -> None:
        console.print(escape(text), soft_wrap=True)

    console.print(f"Account [bold]{escape(found.account_id)}[/bold] in release {release_id}", soft_wrap=True)
    way = words.say_way(found)
    if way:
        say(way)
    say(words.say_records(found))
    console.print(_records(found))
    left_out = found.record_count - min(len(found.records), SHOWN_RECORDS)
    if left_out > 0:
        say(f"… and {words.many(left_out, 'more record', 'more records')}.")
    console.print("\n[bold]What holds it together[/bold]")
    for sentence in words.say_together(found):
        say(sentence)
    if found.pairs:
        console.print(_pairs(found))
        if len(found.pairs) > SHOWN_PAIRS:
            say(f"… and {words.many(len(found.pairs) - SHOWN_PAIRS, 'stronger pair', 'stronger pairs')}.")
    console.print("\n[bold]Refused nearby[/bold]")
    if found.refusals:
        console.print(_refusals(found))
        if len(found.refusals) > SHOWN_PAIRS:
            say(f"… and {words.many(len(found.refusals) - SHOWN_PAIRS, 'more', 'more')}, in the page.")
    else:
        say("Nothing came near enough to be refused.")
    console.print("\n[bold]Household, history, stewards[/bold]")
    if found.household_id:
        mates = [f"{mate} ({words.HOUSEHOLD_WORDS.get(reason, reason)})" for mate, reason in found.household.items()]
        say(f"Household {found.household_id}, which merges nobody: {', '.join(mates)}.")
    else:
        say("No household.")
    for event in found.events:
        say(words.say_event(event, found.account_id))
    for pair in found.decided:
        say(f"A steward decided: {words.say_decision(pair)}")
    if not found.decided:
        say("No steward decided about its pairs.")


def _table(*columns: str | Column) -> Table:
    folded = [Column(each, overflow="fold") if isinstance(each, str) else each for each in columns]
    return Table(*folded, box=SIMPLE_HEAD, pad_edge=False)


def _right(name: str) -> Column:
    return Column(name, justify="right", no_wrap=True)


def _records(found: "AccountExplanation") -> Table:
    from dagster_project.domain.identity.explanation_words import FEED_WORDS, FORMATS, plain, say_person

    table = _table(_right("no."), "record", "linked by", "what it says")
    for place, each in enumerate(found.records[:SHOWN_RECORDS], 1):
        cells = (
            f"{FEED_WORDS.get(each.ref.feed, (each.ref.feed,))[0]} {plain(each.ref.record_id)}",
            f"{each.rule}, {FORMATS.number(each.confidence, 2)}",
            " · ".join(part for part in say_person(each.said, is_masked=found.is_masked) if part),
        )
        table.add_row(str(place), *(escape(cell) for cell in cells))
    return table


def _named(found: "AccountExplanation", ref: "Ref") -> str:
    """A record by its number in the table, else in full."""
    from dagster_project.domain.identity.explanation_words import plain

    shown = (place for place, each in enumerate(found.records[:SHOWN_RECORDS], 1) if each.ref == ref)
    place = next(shown, None)
    return plain(ref) if place is None else str(place)


def _pairs(found: "AccountExplanation") -> Table:
    from dagster_project.domain.identity.explanation_words import PAIR_WORDS, bits, odds

    table = _table(_right("weight"), "nos.", "that is", "tied by, and all that agrees or differs")
    for pair in sorted(found.pairs, key=lambda pair: (pair.strength, pair.left, pair.right))[:SHOWN_PAIRS]:
        cells = (
            bits(pair.weight),
            f"{_named(found, pair.left)} – {_named(found, pair.right)}",
            odds(pair.weight),
            f"{PAIR_WORDS.get(pair.rule, pair.rule)} ({pair.evidence})",
        )
        is_weakest = found.weakest is not None and pair == found.weakest.pair
        table.add_row(*(escape(cell) for cell in cells), style="yellow" if is_weakest else None)
    return table


def _refusals(found: "AccountExplanation") -> Table:
    from dagster_project.domain.identity.explanation_words import bits, plain, say_reason

    table = _table(_right("weight"), "no.", "with", "why not")
    for each in found.refusals[:SHOWN_PAIRS]:
        undecided = " (undecided)" if each.pair.decision == "undecided" else ""
        cells = (
            bits(each.pair.weight),
            _named(found, each.own),
            f"{plain(each.other)} of {each.account_id or 'no account'}",
            f"{say_reason(each.pair)}{undecided} ({each.pair.evidence})",
        )
        table.add_row(*(escape(cell) for cell in cells))
    return table
