"""``cocanal trace``: what became of one row, in sentences. Presentation only; the following is done by ``trace``."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from dagster_project.commands.terminal import (
    WRONG_USE,
    Home,
    complaints,
    console,
    quieten,
    settings_of,
    told_in_sentences,
)

if TYPE_CHECKING:
    from dagster_project.trace import Booking, Occurrence, Outcome, Trace

_FATES = {
    "current": "counts",
    "identical": "says the same as the row that counts",
    "superseded": "another version counts",
    "replaced": "a later delivery of the whole table no longer holds it",
}
_EXCLUSIONS = {
    "cancelled": "the order was cancelled",
    "refunded": "the order was refunded as a whole",
    "pickup": "a pickup belongs to its order, which counts",
    "return_of_online_order": "the return of an online order belongs to that order; the web shop says what changes",
    "refund_of_excluded_order": "its order does not count either",
}


def trace(
    feed: Annotated[str, typer.Argument(help="Feed of the row, such as pos_tickets.")],
    key: Annotated[
        str | None, typer.Argument(help="Key of the row; parts of a key of several columns joined by |.")
    ] = None,
    file: Annotated[
        str | None, typer.Option("--file", help="Instead of a key: file under landing, <feed>/<YYYY-MM-DD>/<name>.")
    ] = None,
    line: Annotated[int | None, typer.Option("--line", min=1, help="... and line, 1 = first after the header.")] = None,
    home: Home = None,
) -> None:
    """Follow one row from the file and line it came in to the account and audiences it ended in, or say why not.

    Shows ids, files and rules, never a value of the row. Exit codes: 0 traced, 2 wrong use or never delivered.
    """
    from dagster_project.settings import SettingsError
    from dagster_project.trace import find_key
    from dagster_project.trace import trace as follow

    with told_in_sentences():
        settings = settings_of(home)
        if (key is None) != (file is not None and line is not None):
            raise SettingsError("Name the row by its key, or by --file and --line together.")
        quieten(False)
        found = follow(settings, feed, key if key is not None else find_key(settings, feed, file or "", line or 0))
        if not found.occurrences:
            complaints.print(escape(_say_never_delivered(found)), style="red", soft_wrap=True)
            raise typer.Exit(WRONG_USE)
        _tell(found, settings.currency)


def _say_never_delivered(found: "Trace") -> str:
    words = f"No file that counts holds a row of {found.feed} with the key {found.key}."
    if found.unreadable_row_count:
        words += f" {found.unreadable_row_count} rows of this feed could not be read as rows: it may be one of them."
    if found.removed_file_count:
        words += f" {found.removed_file_count} files of this feed are not kept any more: it may have stood there."
    return words


def _say_occurrence(each: "Occurrence") -> str:
    fate = f"refused ({each.rule}): {each.message}" if each.fate == "refused" else _FATES[each.fate]
    return f"{each.file}, line {each.line}: {fate}" + ("" if each.is_released else " (not in the current release yet)")


def _say_account(account_id: str, rule: str, confidence: float | None) -> str:
    sure = "" if confidence is None else f", confidence {confidence:.2f}".replace(".", ",")
    return f"{account_id} by {rule}{sure}"


def _say_outcome(each: "Outcome") -> str:
    if each.arm is None:
        return f"{each.audience}, {each.destination}: not kept ({each.reason})"
    held = "held out" if each.arm == "holdout" else "contacted"
    return f"{each.audience}, {each.destination}: {held}"


def _tell(found: "Trace", currency: str) -> None:
    from dagster_project.domain.formats import Formats

    formats = Formats(currency)

    def say(text: str) -> None:
        console.print(escape(text), soft_wrap=True)

    def say_booking(each: "Booking") -> str:
        where = each.channel + (f", shop {each.store_id}" if each.store_id else "")
        counted = f"{formats.money(each.counted_amount)} counted"
        why = f": {_EXCLUSIONS.get(each.exclusion, each.exclusion)}" if each.exclusion else ""
        return (
            f"{each.transaction_id}: {each.kind}, {where}, {formats.day(each.business_on)}; "
            f"{formats.money(each.amount)} delivered, {counted}{why}"
        )

    title = f"[bold]{escape(found.feed)} {escape(found.key)}[/bold]"
    console.print(
        f"{title} in release {found.release_id}, as of {formats.day(found.as_of)}"
        if found.release_id
        else f"{title}: there is no release yet",
        soft_wrap=True,
    )
    console.print("\n[bold]Delivered[/bold], oldest first")
    for each in found.occurrences:
        say(f"  {_say_occurrence(each)}")
    if found.release_id is None:
        return
    if found.booking is not None or found.header:
        console.print("\n[bold]In the ledger[/bold]")
        if found.booking is None:
            say(f"  {found.header} is not in this release.")
        else:
            say(f"  {say_booking(found.booking)}; {formats.money(found.booking.line_amount)} in its lines")
        for other in found.related:
            say(f"  belongs to it: {say_booking(other)}")
    console.print("\n[bold]Account[/bold]")
    if not found.accounts:
        say(f"  none: {_say_why_none(found)}")
    for account_id, rule, confidence in found.accounts:
        say(f"  {_say_account(account_id, rule, confidence)}")
        outcomes = found.outcomes[account_id]
        for outcome in outcomes:
            say(f"    {_say_outcome(outcome)}")
        if not outcomes:
            say("    qualifies for no audience")


def _say_why_none(found: "Trace") -> str:
    if found.booking is not None:
        return f"it is anonymous; «cocanal explain {found.booking.transaction_id}» says why."
    if not any(each.fate == "current" and each.is_released for each in found.occurrences):
        return "no delivered version of it counts in this release."
    if found.feed in ("shop_customers", "loyalty_members"):
        return f"«cocanal explain {found.feed}:{found.key}» says why."
    return "this feed says nothing of a person that an account holds."
