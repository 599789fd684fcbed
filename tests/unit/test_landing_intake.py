"""A night's deliveries are taken in: which files count, which wait, and what of them can never be lost or mistaken."""

import gzip
import json
import os
import stat
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest

from dagster_project.domain.landing import content
from dagster_project.domain.landing.deliveries import (
    ImplausibleDay,
    RawDamaged,
    add_to_released,
    believable_newest_date,
    find,
    newest_date,
    read_register,
    read_released,
)
from dagster_project.domain.landing.intake import Intake, take_in

DAY = date(2020, 7, 10)
HEADER = b"session_id,event_id,event,occurred_at\n"


def lines(*ids: str) -> bytes:
    return b"".join(f"V1,{name},visit,2020-07-09T10:00:00Z\n".encode() for name in ids)


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
    assert [(delivery.file, delivery.status) for delivery in found] == [
        ("web_events/2020-07-10/a.csv", "loaded"),
        ("web_events/2020-07-10/b.csv.gz", "loaded"),
        ("web_events/2020-07-10/c.parquet", "loaded"),
        ("web_events/2020-07-10/m.csv", "unreadable"),
    ]
    assert {stranger.path for stranger in strangers} == {
        "gossip",
        "shop_orders",
        "web_events/2020-02-30",
        "web_events/2020-07-10/h.xlsx",
        "web_events/2020-7-9",
    }


def intake(home: Path, **given: Any) -> Intake:
    return take_in(
        home / "landing",
        home / "raw",
        home / "raw" / "deliveries",
        as_of=DAY,
        connect=duckdb.connect,
        workers=1,
        progress=lambda done, of: None,
        **given,
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


def test_a_replacement_that_is_taken_back_leaves_what_it_replaced(tmp_path: Path) -> None:
    """A corrected file was worse than the first, a gate stopped it, and the supplier took it away."""
    path = put(tmp_path / "landing", "web_events/2020-07-09/a.csv", HEADER + lines("a", "b"))
    put(tmp_path / "landing", "web_events/2020-07-10/b.csv")
    used = {(delivery.file, delivery.sha256) for delivery in intake(tmp_path).deliveries}
    path.write_bytes(HEADER)
    assert [d.row_count for d in intake(tmp_path, released=used).deliveries] == [0, 1]
    path.unlink()
    found = intake(tmp_path, released=used)
    assert [d.row_count for d in found.deliveries] == [2, 1]
    assert [d.file for d in found.withdrawn] == ["web_events/2020-07-09/a.csv"]


REGISTER = Path("raw") / "deliveries"


def test_what_a_release_was_ever_made_from_is_remembered_without_the_releases(tmp_path: Path) -> None:
    pages = tmp_path / "raw" / "released"
    assert read_released(pages) == set()
    add_to_released(pages, [("stores/2020-07-09/s.csv", "ab")])
    add_to_released(pages, [("stores/2020-07-09/s.csv", "ab"), ("stores/2020-07-10/s.csv", "cd")])
    add_to_released(pages, [("stores/2020-07-10/s.csv", "cd")])
    assert read_released(pages) == {("stores/2020-07-09/s.csv", "ab"), ("stores/2020-07-10/s.csv", "cd")}
    assert len(list(pages.iterdir())) == 2, "nothing new is no page"
    (pages / "000001.jsonl").write_text('{"file": ')
    with pytest.raises(RawDamaged, match=r"000001\.jsonl is damaged"):
        read_released(pages)


def test_a_file_that_changes_while_it_is_read_waits_for_the_next_night(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steady = put(tmp_path / "landing", "web_events/2020-07-10/steady.csv")
    growing = put(tmp_path / "landing", "web_events/2020-07-10/growing.csv")
    fstat = os.fstat

    def fstat_while_somebody_writes(handle: int) -> os.stat_result:
        if os.path.samestat(fstat(handle), growing.stat()):
            with growing.open("ab") as out:
                out.write(lines("more"))
        return fstat(handle)

    with monkeypatch.context() as patched:
        patched.setattr(content.os, "fstat", fstat_while_somebody_writes)
        found = intake(tmp_path)
    assert [(d.file, d.status, d.row_count) for d in found.deliveries] == [
        ("web_events/2020-07-10/growing.csv", "changing", 0),
        ("web_events/2020-07-10/steady.csv", "loaded", 1),
    ]
    assert "it changed while it was read" in found.deliveries[0].message
    assert list(read_register(tmp_path / REGISTER)) == ["web_events/2020-07-10/steady.csv"]
    assert len(list((tmp_path / "raw" / "web_events").iterdir())) == 1
    at_rest = intake(tmp_path)
    assert [(d.status, d.row_count) for d in at_rest.deliveries] == [
        ("loaded", growing.read_bytes().count(b"\n") - 1),
        ("loaded", 1),
    ]
    assert steady.exists()


def test_a_file_that_changed_once_is_read_as_it_came_to_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Raw is named by the hash of what it holds, also where somebody replaced the content in the very moment."""
    path = put(tmp_path / "landing", "web_events/2020-07-10/a.csv")
    fstat, written = os.fstat, iter([lines("more")])

    def fstat_while_somebody_writes(handle: int) -> os.stat_result:
        if os.path.samestat(fstat(handle), path.stat()):
            with path.open("ab") as out:
                out.write(next(written, b""))
        return fstat(handle)

    monkeypatch.setattr(content.os, "fstat", fstat_while_somebody_writes)
    (delivery,) = intake(tmp_path).deliveries
    assert (delivery.status, delivery.row_count) == ("loaded", 2)
    assert delivery.byte_count == path.stat().st_size


def test_what_a_changing_file_held_before_counts_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path / "landing", "web_events/2020-07-10/a.csv")
    (before,) = intake(tmp_path).deliveries
    path.write_bytes(HEADER + lines("a", "b"))

    def refuse(path: Path, folder: Path) -> None:
        raise content.StillChanging("it changed while it was read")

    with monkeypatch.context() as patched:
        patched.setattr("dagster_project.domain.landing.reader.copy_aside", refuse)
        (during,) = intake(tmp_path).deliveries
    assert (during.sha256, during.row_count, during.status) == (before.sha256, 1, "loaded")
    assert "what it held before counts" in during.message
    (after,) = intake(tmp_path).deliveries
    assert (after.row_count, after.message) == (2, "")


def test_what_has_a_delivery_s_name_and_cannot_be_one_is_told_and_never_waited_for(tmp_path: Path) -> None:
    day = put(tmp_path / "landing", "web_events/2020-07-10/good.csv").parent
    secret = put(tmp_path, "secret.csv")
    os.mkfifo(day / "pipe.csv")
    (day / "link.csv").symlink_to(secret)
    (day / "broken.csv").symlink_to(tmp_path / "nowhere")
    (day / "folder.parquet").mkdir()
    (day / "SHOUTED.CSV").write_bytes(HEADER)
    (day / "two\nlines.csv").write_bytes(HEADER)
    (day / os.fsdecode(b"caf\xe9.csv")).write_bytes(HEADER)
    os.link(secret, day / "hard.csv")
    found = {delivery.file.removeprefix("web_events/2020-07-10/"): delivery for delivery in intake(tmp_path).deliveries}
    assert {name: delivery.message.split(";")[0] for name, delivery in found.items() if not delivery.sha256} == {
        "pipe.csv": "it is not a file",
        "link.csv": "it is a link, and links are not followed",
        "broken.csv": "it is a link, and links are not followed",
        "folder.parquet": "it is a folder",
        "SHOUTED.CSV": "its name must end in small letters",
        "two\\nlines.csv": "its name is not plain text",
        "caf\\udce9.csv": "its name is not plain text",
    }
    assert all(delivery.status == "unreadable" for delivery in found.values() if not delivery.sha256)
    assert {name: delivery.row_count for name, delivery in found.items() if delivery.sha256} == {
        "good.csv": 1,
        "hard.csv": 1,
    }
    json.dumps([delivery.file for delivery in found.values()]).encode()  # ... and can be written down


def test_a_pipe_in_the_place_of_a_file_does_not_block_the_night(tmp_path: Path) -> None:
    """Between finding and opening a supplier may have put anything there."""
    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(content.Withheld, match="not a regular file"):
        content.copy_aside(tmp_path / "a.csv", tmp_path)
    (tmp_path / "b.csv").symlink_to("/etc/hostname")
    with pytest.raises(content.Withheld, match="cannot be opened"):
        content.copy_aside(tmp_path / "b.csv", tmp_path)


def test_a_file_that_may_not_be_read_is_told_and_costs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "landing", "web_events/2020-07-10/good.csv")
    put(tmp_path / "landing", "web_events/2020-07-10/locked.csv")
    opened = os.open

    def open_unless_locked(path: Any, *rest: Any, **more: Any) -> int:
        if str(path).endswith("locked.csv"):
            raise PermissionError(13, "Permission denied")
        return opened(path, *rest, **more)

    with monkeypatch.context() as patched:
        patched.setattr(content.os, "open", open_unless_locked)
        good, locked = intake(tmp_path).deliveries
    assert (good.row_count, locked.status) == (1, "unreadable")
    assert "Permission denied" in locked.message
    assert [delivery.row_count for delivery in intake(tmp_path).deliveries] == [1, 1], "read when it may be"


def test_a_folder_that_may_not_be_opened_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "landing", "web_events/2020-07-10/good.csv")
    put(tmp_path / "landing", "stock/2020-07-10/a.csv")
    scanned = os.scandir

    def scan_unless_locked(path: Any) -> Any:
        if str(path).endswith("stock"):
            raise PermissionError(13, "Permission denied")
        return scanned(path)

    monkeypatch.setattr("dagster_project.domain.landing.deliveries.os.scandir", scan_unless_locked)
    found, strangers = find(tmp_path / "landing")
    assert [delivery.file for delivery in found] == ["web_events/2020-07-10/good.csv"]
    assert [(stranger.path, "Permission denied" in stranger.message) for stranger in strangers] == [("stock", True)]


def test_landing_itself_may_be_a_link(tmp_path: Path) -> None:
    put(tmp_path / "share", "web_events/2020-07-10/a.csv")
    (tmp_path / "landing").symlink_to(tmp_path / "share")
    assert [delivery.row_count for delivery in intake(tmp_path).deliveries] == [1]


@pytest.mark.parametrize(
    "damage", [b"\0" * 300, b'{"feed": "web_events", "fi', b"[1]\n", b'{"feed": "x"}\n', b"\xff\xfe\n"]
)
def test_a_damaged_page_of_the_register_is_named_and_nothing_is_forgotten(tmp_path: Path, damage: bytes) -> None:
    put(tmp_path / "landing", "web_events/2020-07-09/a.csv")
    intake(tmp_path)
    page = tmp_path / REGISTER / "000001.jsonl"
    page.write_bytes(page.read_bytes() + damage)
    with pytest.raises(RawDamaged, match=r"000001\.jsonl is damaged.*backup"):
        intake(tmp_path)
    page.rename(page.with_suffix(".damaged"))
    assert [delivery.row_count for delivery in intake(tmp_path).deliveries] == [1]


def test_a_page_of_a_later_version_can_be_read(tmp_path: Path) -> None:
    put(tmp_path / "landing", "web_events/2020-07-09/a.csv")
    intake(tmp_path)
    page = tmp_path / REGISTER / "000001.jsonl"
    page.write_text(json.dumps({**json.loads(page.read_text()), "mood": "fine"}) + "\n")
    assert [delivery.row_count for delivery in intake(tmp_path).deliveries] == [1]


@pytest.mark.parametrize("is_cut", [True, False])
def test_a_raw_file_that_is_gone_or_cut_is_made_again_or_named(tmp_path: Path, is_cut: bool) -> None:
    path = put(tmp_path / "landing", "web_events/2020-07-10/a.csv")
    other = put(tmp_path / "landing", "web_events/2020-07-10/b.csv", HEADER + lines("b"))
    (first, second) = intake(tmp_path).deliveries
    raw = tmp_path / "raw" / "web_events" / f"{first.sha256}.parquet"

    def damage() -> None:
        whole = raw.read_bytes()
        raw.unlink()
        if is_cut:
            raw.write_bytes(whole[: len(whole) // 2])

    damage()
    assert intake(tmp_path).new_files == (first.file,)
    assert raw.read_bytes()[-4:] == b"PAR1"
    damage()
    path.unlink()
    with pytest.raises(RawDamaged, match=rf"{first.sha256}\.parquet, made from web_events/2020-07-10/a\.csv"):
        intake(tmp_path, released={(first.file, first.sha256), (second.file, second.sha256)})
    assert other.exists()


def test_a_raw_file_and_its_folder_are_on_the_disk_before_the_register_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "landing", "web_events/2020-07-10/a.csv")
    synced: list[str] = []
    fsync = os.fsync

    def watched(handle: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{handle}").removeprefix(f"{tmp_path}/raw/"))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", watched)
    intake(tmp_path)
    kinds = [name if "/" not in name else Path(name).name for name in synced]
    assert kinds[:4] == ["rows.parquet", "web_events", "000001.tmp", "deliveries"]


def test_raw_and_the_register_are_for_the_owner_alone(tmp_path: Path) -> None:
    put(tmp_path / "landing", "web_events/2020-07-10/a.csv")
    before = os.umask(0)
    try:
        intake(tmp_path)
    finally:
        os.umask(before)
    for path in [tmp_path / "raw", *(tmp_path / "raw").rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


_WITH_A_FULL_DISK = """
import resource, signal, sys
from datetime import date
from pathlib import Path
import duckdb
from dagster_project.domain.landing.intake import take_in

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
home = Path(sys.argv[1])
take_in(home / "landing", home / "raw", home / "raw" / "deliveries", as_of=date(2020, 7, 10), connect=duckdb.connect,
    workers=1, progress=lambda done, of: None)
"""


@pytest.mark.parametrize("room", [1_000, 150_000])
@pytest.mark.parametrize("is_damaged", [True, False])
def test_a_full_disk_is_nobody_s_fault_and_the_next_night_reads_the_file(
    tmp_path: Path, room: int, is_damaged: bool
) -> None:
    """A file that could not be written for want of room was once put down as unreadable, and never read again."""
    broken = b'V1,"x,visit,y\n' if is_damaged else b""
    rows = lines(*(os.urandom(16).hex() for _ in range(5_000)))
    put(tmp_path / "landing", "web_events/2020-07-10/a.csv.gz", gzip.compress(HEADER + broken + rows))
    script = [sys.executable, "-c", _WITH_A_FULL_DISK, str(tmp_path), str(room)]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert [path for path in (tmp_path / "raw").rglob("*.parquet") if ".reading" not in str(path)] == []
    assert read_register(tmp_path / REGISTER) == {}
    (delivery,) = intake(tmp_path).deliveries
    assert (delivery.status, delivery.row_count) == ("loaded", 5_000 + is_damaged)
    with duckdb.connect() as connection:
        (raw,) = (tmp_path / "raw" / "web_events").iterdir()
        assert connection.execute(f"select count(*) from '{raw}'").fetchall() == [(5_000 + is_damaged,)]


def test_a_mistyped_day_does_not_move_the_whole_night(tmp_path: Path) -> None:
    landing, register = tmp_path / "landing", tmp_path / REGISTER
    assert believable_newest_date(landing, register) is None
    for day in (8, 9, 10):
        put(landing, f"web_events/2020-07-{day:02d}/a.csv")
    assert believable_newest_date(landing, register) == DAY
    typo = put(landing, "stock/2062-07-10/a.csv")
    with pytest.raises(
        ImplausibleDay, match=r"2062-07-10, .* days after all others \(2020-07-10\).*--as-of 2062-07-10"
    ):
        believable_newest_date(landing, register)
    assert newest_date(landing, register) == date(2062, 7, 10)
    typo.rename(landing / "web_events" / "2020-07-10" / "b.csv")
    (landing / "stock" / "2062-07-10").rmdir()
    assert believable_newest_date(landing, register) == DAY


def test_where_landing_was_emptied_the_register_tells_what_day_is_near(tmp_path: Path) -> None:
    path = put(tmp_path / "landing", "web_events/2020-07-10/a.csv")
    intake(tmp_path)
    path.unlink()
    put(tmp_path / "landing", "web_events/2020-07-11/a.csv")
    assert believable_newest_date(tmp_path / "landing", tmp_path / REGISTER) == date(2020, 7, 11)
    (tmp_path / "landing" / "web_events" / "2020-07-11").rename(tmp_path / "landing" / "web_events" / "2021-07-11")
    with pytest.raises(ImplausibleDay):
        believable_newest_date(tmp_path / "landing", tmp_path / REGISTER)


def test_a_file_that_could_not_be_read_is_tried_again_and_written_down_once(tmp_path: Path) -> None:
    """Its sentence says which limit to raise; raising it must help, though the file is as it was."""
    put(tmp_path / "landing", "web_events/2020-07-10/a.csv.gz", gzip.compress(HEADER + lines("a") * 1000))
    for _ in range(3):
        (delivery,) = intake(tmp_path, most_unpacked_bytes=1000).deliveries
        assert delivery.status == "unreadable"
    assert len(list((tmp_path / REGISTER).iterdir())) == 1
    (delivery,) = intake(tmp_path).deliveries
    assert (delivery.status, delivery.row_count) == ("loaded", 1000)
    assert intake(tmp_path).new_files == ()
