"""The receipt of an erasure: what went, what stays and why, and what a look through the whole home found.

It names no identifier: it may be shown to the person who asked and to the authority. Kept as JSON in
``privacy/receipts``; ``in_words`` is for people. Not for looking (``search``) nor for erasing.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from pathlib import Path

from dagster_project.domain.privacy.raw_erasure import ErasedFile
from dagster_project.domain.privacy.release_erasure import ErasedRelease
from dagster_project.domain.privacy.search import Search
from dagster_project.domain.privacy.subject import Subject
from dagster_project.domain.private_file import write_private_lines

_MOST_NAMED = 10


@dataclass(frozen=True)
class Receipt:
    """One request that was carried out; counts only. ``together_count`` requests were carried out in one go: files,
    rows and what was searched are counted for all. ``waiting`` are delivered files that no release was made from yet:
    they go with the first erasure after it.
    """

    request_id: str
    because: str
    received_at: datetime
    carried_out_at: datetime
    account_count: int
    record_counts: dict[str, int]
    raw_file_count: int
    removed_row_count: int
    blanked_row_count: int
    landed_file_count: int
    export_count: int
    releases: tuple[ErasedRelease, ...]
    shared_count: int
    removal_count: int
    removals_until: date | None
    searched_file_count: int
    searched_byte_count: int
    searched_cell_count: int
    is_search_thorough: bool
    found: tuple[tuple[str, str, int], ...]
    waiting: tuple[str, ...]
    was_held: bool
    together_count: int

    @property
    def is_finished(self) -> bool:
        return not self.found and not self.waiting


def make_receipt(
    subject: Subject,
    *,
    at: datetime,
    together_count: int,
    raw_files: Sequence[ErasedFile],
    landed: Sequence[str],
    exports: Sequence[str],
    releases: Sequence[ErasedRelease],
    removal_count: int,
    removals_until: date | None,
    search: Search,
    waiting: Sequence[str],
) -> Receipt:
    """The receipt of one subject. Of several that were erased together the files and rows are those of all."""
    feeds = sorted({feed for feed, _ in subject.records})
    return Receipt(
        request_id=subject.request_id,
        because=subject.because,
        received_at=subject.received_at,
        carried_out_at=at,
        account_count=len(subject.account_ids),
        record_counts={feed: sum(each == feed for each, _ in subject.records) for feed in feeds},
        raw_file_count=len(raw_files),
        removed_row_count=sum(file.removed_count for file in raw_files),
        blanked_row_count=sum(file.blanked_count for file in raw_files),
        landed_file_count=len(landed),
        export_count=len(exports),
        releases=tuple(each for each in releases if each.is_changed),
        shared_count=len(subject.shared),
        removal_count=removal_count,
        removals_until=removals_until,
        searched_file_count=search.file_count,
        searched_byte_count=search.byte_count,
        searched_cell_count=search.cell_count,
        is_search_thorough=search.is_thorough,
        found=tuple((each.file, each.place, each.count) for each in search.found),
        waiting=tuple(waiting),
        was_held=bool(subject.records)
        or any(file.feed != "privacy_requests" for file in raw_files)
        or any(each.is_changed for each in releases),
        together_count=together_count,
    )


def write_receipt(folder: Path, receipt: Receipt) -> Path:
    """Keep it as ``<folder>/<request>.json``; its path."""
    path = folder / f"{file_name(receipt.request_id)}.json"
    told = json.dumps(asdict(receipt), ensure_ascii=False, indent=1, default=str)
    write_private_lines(path, [told, "\n"])
    return path


def read_receipt(folder: Path, request_id: str) -> Receipt | None:
    """The receipt of a request, if it was carried out."""
    path = folder / f"{file_name(request_id)}.json"
    if not path.is_file():
        return None
    told = json.loads(path.read_text(encoding="utf-8"))
    told["received_at"] = datetime.fromisoformat(told["received_at"])
    told["carried_out_at"] = datetime.fromisoformat(told["carried_out_at"])
    told["removals_until"] = date.fromisoformat(told["removals_until"]) if told["removals_until"] else None
    told["releases"] = tuple(ErasedRelease(**each) for each in told["releases"])
    told["found"] = tuple((file, place, count) for file, place, count in told["found"])
    told["waiting"] = tuple(told["waiting"])
    told = {"was_held": True, "together_count": 1} | told  # receipts of before these were said
    return Receipt(**told)


def file_name(request_id: str) -> str:
    """A request's number as the name of a file: whatever it holds, it names a file in this folder."""
    return "".join(letter if letter.isalnum() or letter in "-_" else f"%{ord(letter):x}" for letter in request_id)


def in_words(receipt: Receipt) -> list[str]:
    """The receipt in sentences, dates as in France."""
    records = ", ".join(f"{count} of {feed}" for feed, count in receipt.record_counts.items()) or "no record"
    lines = [
        f"Request {receipt.request_id}, received {receipt.received_at:%d/%m/%Y}, carried out "
        f"{receipt.carried_out_at:%d/%m/%Y %H:%M} ({receipt.because}).",
        f"It is about {receipt.account_count} account{'s' if receipt.account_count != 1 else ''}: {records}."
        if receipt.account_count
        else f"It is about somebody without an account: {records}."
        + ("" if receipt.was_held else " Nothing but the request itself was held."),
        *(
            [f"{receipt.together_count} requests were carried out together: what follows is counted for all of them."]
            if receipt.together_count > 1
            else []
        ),
        f"Raw: {receipt.removed_row_count} rows emptied and {receipt.blanked_row_count} rows with amounts left without "
        f"identity, in {receipt.raw_file_count} files. Landing: {receipt.landed_file_count} files removed, for raw "
        f"holds what is left of them. Pages, exports and caches: {receipt.export_count}.",
    ]
    lines += [
        f"Release {each.release_id}: {each.removed_row_count} rows removed, {each.blanked_row_count} left without "
        f"identity, {each.line_count} lines of audience files."
        for each in receipt.releases
    ]
    lines.append(
        f"What stays: amounts without identity; keyed hashes by which a delivery come again is recognised; "
        f"{receipt.shared_count} identifiers that another person's own record holds too"
        + (
            f"; {receipt.removal_count} hashes that destinations are told to forget, until "
            f"{receipt.removals_until:%d/%m/%Y}."
            if receipt.removal_count and receipt.removals_until
            else "."
        )
    )
    lines.append(
        f"Looked through afterwards: {receipt.searched_file_count} files, {receipt.searched_byte_count} bytes, "
        f"{receipt.searched_cell_count} cells"
        + (" in every spelling and hash." if receipt.is_search_thorough else ", by whole cells only.")
    )
    lines += [f"STILL FOUND: {count} in {file} ({place})." for file, place, count in receipt.found[:_MOST_NAMED]]
    if len(receipt.found) > _MOST_NAMED:
        lines.append(f"STILL FOUND: in {len(receipt.found) - _MOST_NAMED} more places; the receipt names them.")
    if receipt.waiting:
        lines.append(
            f"NOT FINISHED: {len(receipt.waiting)} delivered files wait for their release and still hold the person: "
            f"{', '.join(receipt.waiting[:5])}. Release or withdraw them; the next erasure removes them."
        )
    if receipt.is_finished:
        lines.append("Nothing was found.")
    return lines
