"""``cocanal privacy …``: the requests of people, their deadlines, and carrying them out. Presentation only."""

import csv
import os
import secrets
from datetime import UTC, date, datetime
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Column, Table

from dagster_project.commands.terminal import (
    WRONG_USE,
    Home,
    complaints,
    console,
    quieten,
    say_number,
    settings_of,
    told_in_sentences,
)

SOMETHING_IS_LEFT = 3
_KINDS = ("erasure", "access", "objection")
_KEY_TYPES = ("email", "phone", "customer_id", "card_id")

app = typer.Typer(no_args_is_help=True, help="People's requests about their data: deadlines, erasure, access.")


@app.callback()
def _is_a_group() -> None:
    """People's requests about their data: deadlines, erasure, access."""


@app.command(name="list")
def list_requests(home: Home = None) -> None:
    """Show every request with its deadline and what became of it.

    Exit codes: 0 nothing is overdue, 3 something is, 2 wrong use or configuration.
    """
    from dagster_project.privacy import requests
    from dagster_project.warehouse import Warehouse

    with told_in_sentences():
        settings = settings_of(home)
        with Warehouse(settings).scratch() as connection:
            found = requests(connection, settings)
        if not found:
            console.print("No request was ever received.")
            return
        table = Table(
            Column("request", overflow="fold"),
            *(Column(name, no_wrap=True) for name in ("kind", "received", "due")),
            *(Column(name, justify="right", no_wrap=True) for name in ("days", "accounts")),
            Column("state", no_wrap=True),
            box=SIMPLE_HEAD,
            pad_edge=False,
            padding=(0, 1, 0, 0),
        )
        for each in found:
            colour = "red" if each.is_overdue else "yellow" if each.is_waiting else "green"
            table.add_row(
                escape(each.request_id),
                each.kind,
                f"{each.received_on:%d/%m/%Y}",
                f"{each.due_on:%d/%m/%Y}",
                say_number(each.days_left) if each.is_waiting else "",
                say_number(each.account_count),
                f"[{colour}]{each.state}[/]",
            )
        console.print(table)
    if any(each.is_overdue for each in found):
        raise typer.Exit(SOMETHING_IS_LEFT)


@app.command()
def erase(
    home: Home = None,
    rehearse: Annotated[bool, typer.Option("--rehearse", help="Say what would be erased; erase nothing.")] = False,
    confirm: Annotated[
        list[str] | None,
        typer.Option("--confirm", help="Number of a request that means every account which holds its e-mail or phone."),
    ] = None,
    retention: Annotated[
        bool, typer.Option("--retention", help="Also erase accounts whose period of inactivity is over.")
    ] = False,
) -> None:
    """Carry out every erasure that the current release knows of, and look through the home whether anything is left.

    Run a night afterwards: it publishes a release without them and tells the destinations to forget. Exit codes:
    0 nothing is left, 3 something is, 1 a run is going on, 2 wrong use.
    """
    from dagster_project.domain.privacy.receipt import in_words
    from dagster_project.privacy import erase as carry_out
    from dagster_project.privacy import plan
    from dagster_project.warehouse import Warehouse

    with told_in_sentences():
        settings = settings_of(home)
        quieten(False)
        if rehearse:
            plans = plan(settings, with_retention=retention, confirmed=confirm or ())
            for each in plans:
                records = ", ".join(f"{say_number(count)} of {feed}" for feed, count in each.record_counts.items())
                console.print(
                    f"{escape(each.request_id)} ({each.because}), received {each.received_at:%d/%m/%Y}: "
                    f"{say_number(each.account_count)} accounts, {records or 'no record'}; "
                    f"{say_number(each.shared_count)} identifiers stay, for another person's record holds them too.",
                    soft_wrap=True,
                )
            if not plans:
                console.print("Nothing is to be erased.")
            return
        receipts = carry_out(
            settings,
            Warehouse(settings),
            datetime.now(UTC),
            with_retention=retention,
            confirmed=confirm or (),
            announce=lambda step: console.print(f"  {step}"),
        )
        for receipt in receipts:
            for sentence in in_words(receipt):
                console.print(escape(sentence), soft_wrap=True)
        if not receipts:
            console.print("Nothing is to be erased.")
    if any(receipt.found for receipt in receipts):
        raise typer.Exit(SOMETHING_IS_LEFT)


@app.command()
def receipt(
    request_id: Annotated[str, typer.Argument(help="Number of the request.")],
    home: Home = None,
) -> None:
    """Show the receipt of an erasure: what went, what stays and why. It names nobody.

    Exit codes: 0 shown, 2 there is none.
    """
    from dagster_project.domain.privacy.receipt import in_words, read_receipt
    from dagster_project.privacy import RECEIPTS

    with told_in_sentences():
        settings = settings_of(home)
        found = read_receipt(settings.privacy / RECEIPTS, request_id)
        if found is None:
            complaints.print(f"[red]There is no receipt of {escape(request_id)}: cocanal privacy list.[/red]")
            raise typer.Exit(WRONG_USE)
        for sentence in in_words(found):
            console.print(escape(sentence), soft_wrap=True)


@app.command()
def access(
    request_id: Annotated[str, typer.Argument(help="Number of the request.")],
    because: Annotated[str, typer.Option("--because", help="Why; it is logged, with who asked.")],
    home: Home = None,
) -> None:
    """Write all that is held on the person of a request, as a page to read and as data, for them alone.

    Exit codes: 0 written, 2 the request is not known or may mean several people.
    """
    from dagster_project.privacy import give_access

    with told_in_sentences():
        settings = settings_of(home)
        page, data = give_access(settings, request_id, datetime.now(UTC), because)
        console.print(f"To read  {page}", soft_wrap=True)
        console.print(f"As data  {data}", soft_wrap=True)


@app.command()
def add(
    kind: Annotated[str, typer.Argument(help=f"{', '.join(_KINDS)}.")],
    key_type: Annotated[str, typer.Argument(help=f"{', '.join(_KEY_TYPES)}.")],
    key_value: Annotated[
        str | None, typer.Argument(help="The identifier; asked for where it is left out, so that no shell keeps it.")
    ] = None,
    received_on: Annotated[
        str | None, typer.Option("--received-on", help="Day of receipt, YYYY-MM-DD; default: today.")
    ] = None,
    home: Home = None,
) -> None:
    """Put a request into landing, as if it had been delivered: the next night knows it.

    Exit codes: 0 written, 2 wrong use.
    """
    from dagster_project.domain.landing.deliveries import newest_date
    from dagster_project.settings import parse_day

    with told_in_sentences():
        settings = settings_of(home)
        if kind not in _KINDS or key_type not in _KEY_TYPES:
            complaints.print(
                f"[red]The kind is one of {', '.join(_KINDS)}, the type of key one of {', '.join(_KEY_TYPES)}.[/red]"
            )
            raise typer.Exit(WRONG_USE)
        value = key_value or typer.prompt("Identifier", hide_input=True)
        day = newest_date(settings.landing, settings.register) or date.today()
        now = datetime.now(UTC)
        received = f"{parse_day(received_on)}T12:00:00Z" if received_on else now.strftime("%Y-%m-%dT%H:%M:%SZ")
        number = f"cocanal-{now:%Y%m%d}-{secrets.token_hex(4)}"
        folder = settings.landing / "privacy_requests" / str(day)
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = folder / f".{number}.part"
        handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as out:
            writer = csv.writer(out, lineterminator="\n")
            writer.writerow(["request_id", "kind", "key_type", "key_value", "received_at"])
            writer.writerow([number, kind, key_type, value, received])
            out.flush()
            os.fsync(out.fileno())
        unfinished.replace(folder / f"{number}.csv")
        console.print(f"Request {number} lies in landing, under {day:%d/%m/%Y}: the next night knows it.")
