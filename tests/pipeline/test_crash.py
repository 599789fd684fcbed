"""A run that is killed, wherever, costs nothing but its time: the next one ends with the tables of an undisturbed run.

The runs are real processes (``dying_run.py``) on a home that has a release already, so that ids, events, the ledger of
what was sent and the memory of scores have something to lose. When a run is killed decides nothing about the verdict.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest

from dagster_project.domain import release

PROGRAM = Path(__file__).with_name("dying_run.py")
TONIGHT = date(2020, 7, 11)
# The second night is small and moves people: that is not what is tested here.
ACCEPTED = ["--accept", "landing", "--accept", "identity", "--accept", "segment", "--because", "a small night"]
CHAIN = 3
LONG_KILLS = 54


def _rows_of_tonight(deliveries: Any) -> dict[str, list[dict[str, Any]]]:
    """New people and purchases, accounts that stewards join, consents that are withdrawn, visits."""
    customers = [row for (feed, _), rows in deliveries.items() if feed == "shop_customers" for row in rows]
    known = sorted({row["customer_id"] for row in customers if row["customer_id"].startswith("C")})
    newcomers = [
        {
            **customers[n],
            "customer_id": f"N{n:05d}",
            "first_name": f"Newcomer{chr(97 + n)}",
            "last_name": f"Lately{chr(110 - n)}",
            "email": f"newcomer{n}@mail.example",
            "phone": None,
            "loyalty_card_id": None,
            "created_at": "2020-07-10T08:00:00Z",
            "updated_at": "2020-07-10T08:00:00Z",
        }
        for n in range(5)
    ]
    decisions = [
        {
            "decision_id": f"DEC{n}",
            "left_feed": "shop_customers",
            "left_id": known[2 * n],
            "right_feed": "shop_customers",
            "right_id": known[2 * n + 1],
            "decision": "same",
            "decided_by": "steward",
            "decided_at": "2020-07-10T09:00:00Z",
        }
        for n in range(3)
    ]
    withdrawn = [
        {
            "consent_id": f"WD{n}",
            "key_type": "email",
            "key_value": row["email"].strip(),
            "purpose": "prospecting",
            "channel": "any",
            "status": "withdrawn",
            "occurred_at": "2020-07-10T10:00:00Z",
        }
        for n, row in enumerate(customers[::4])
    ]
    orders = [
        {
            "order_id": f"ON{n}",
            "customer_id": row["customer_id"],
            "email": row["email"],
            "ordered_at": "2020-07-10T11:00:00Z",
            "updated_at": "2020-07-10T11:00:00Z",
            "status": "paid",
            "fulfilment": "delivery",
            "total_amount": 20,
        }
        for n, row in enumerate([*newcomers, *customers[:20]])
    ]
    lines = [
        {"order_id": f"ON{n}", "line_no": 1, "product_id": "P1", "quantity": 1, "unit_price": 20, "amount": 20}
        for n in range(len(orders))
    ]
    visits = [
        {"event_id": f"T{n}", "session_id": "V1", "event": "visit", "occurred_at": "2020-07-10T12:00:00Z"}
        for n in range(90)
    ]
    return {
        "shop_customers": newcomers,
        "identity_decisions": decisions,
        "consents": withdrawn,
        "shop_orders": orders,
        "shop_order_lines": lines,
        "web_events": visits,
    }


@dataclass(frozen=True)
class Killed:
    """How a run that was to be killed ended: of SIGKILL or by itself."""

    was_killed: bool
    code: int
    output: str
    boundaries: list[str]


def run_killed_at(home: Path, moment: str, after_seconds: float | None = None) -> Killed:
    """``cocanal run`` in a process that kills itself at ``moment``, or that is killed after so many seconds."""
    trace = home.parent / "boundaries"
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM), str(trace), moment, "run", "--home", str(home), *ACCEPTED],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"COCANAL_THREADS": "1", "COCANAL_MEMORY_LIMIT": "1GB"},
    )
    try:
        output, _ = process.communicate(timeout=after_seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
    lines = trace.read_text(errors="replace").splitlines() if trace.exists() else []
    assert "Traceback" not in output, output
    return Killed(process.returncode == -signal.SIGKILL, process.returncode, output, lines)


@dataclass(frozen=True)
class TwoNights:
    """A home after one night with the deliveries of the next, that home after an undisturbed second run, its boundaries
    and the seconds that it took.
    """

    before: Path
    undisturbed: Path
    boundaries: list[str]
    seconds: float


@pytest.fixture(scope="module")
def two_nights(
    base_home: Path, deliveries: Any, supplier: Any, tmp_path_factory: pytest.TempPathFactory, outside_environment: Any
) -> TwoNights:
    with outside_environment():
        before = shutil.copytree(base_home, tmp_path_factory.mktemp("before") / "home", symlinks=True)
        for feed, rows in _rows_of_tonight(deliveries).items():
            supplier(before / "landing").deliver(feed, TONIGHT, rows)
        undisturbed = shutil.copytree(before, tmp_path_factory.mktemp("undisturbed") / "home", symlinks=True)
        began = time.monotonic()
        run = run_killed_at(undisturbed, "never")
        assert (run.was_killed, run.code) == (False, 0), run.output
        return TwoNights(before, undisturbed, run.boundaries, time.monotonic() - began)


def assert_current_is_whole(home: Path) -> str:
    """The id of the current release, every byte of which is as it was published."""
    current = release.current_release(home)
    assert current is not None
    assert release.find_damage(current.directory, is_thorough=True) == []
    with duckdb.connect() as connection:
        broken = [promise for promise in release.verify(connection, current.directory) if not promise.is_kept]
    assert broken == []
    with duckdb.connect(str(home / "releases" / "current" / "cocanal.duckdb"), read_only=True) as reader:
        ((release_id, accounts),) = reader.execute(
            "select any_value(release_id), (select count(*) from account.accounts) from release.info"
        ).fetchall()
    assert release_id == current.release_id
    assert accounts > 0
    return str(release_id)


def scores(home: Path) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(home / "warehouse.duckdb"), read_only=True) as warehouse:
        return warehouse.execute("select * from remembered.scores order by all").fetchall()


def left_overs(home: Path) -> list[str]:
    found = [
        *home.glob("releases/.*"),
        *home.glob("raw/.*"),
        *home.glob("raw/**/*.tmp"),
        *home.glob(".spill/*"),
        *home.glob("identity/*.wal"),
    ]
    return sorted(path.name for path in found)


@dataclass
class Ended:
    """What became of a chain of killed runs and of the last, that ended by itself."""

    kills: int = 0
    published_by_the_next: int = 0


@pytest.fixture
def chain(
    two_nights: TwoNights, tmp_path: Path, differing_tables: Any, audience_files: Any
) -> Callable[[list[tuple[str, float | None]]], Ended]:
    """Runs that are killed at the given moments one after the other, then one that is not; everything is compared."""
    number = 0

    def follow(moments: list[tuple[str, float | None]]) -> Ended:
        nonlocal number
        number += 1
        home = shutil.copytree(two_nights.before, tmp_path / str(number) / "home", symlinks=True)
        first = assert_current_is_whole(home)
        ended = Ended()
        for moment, seconds in moments:
            run = run_killed_at(home, moment, seconds)
            ended.kills += run.was_killed
            assert run.was_killed or run.code == 0, run.output
            assert_current_is_whole(home)
        run = run_killed_at(home, "never")
        assert (run.was_killed, run.code) == (False, 0), run.output
        told = f"after {moments}"
        assert assert_current_is_whole(home) > first, told
        differing = differing_tables(two_nights.undisturbed, home, is_same_nights=True)
        assert differing == {}, told
        assert audience_files(home) == audience_files(two_nights.undisturbed), told
        assert scores(home) == scores(two_nights.undisturbed), told
        assert left_overs(home) == [], told
        assert len(release.list_releases(home)) == 2, told
        shutil.rmtree(home.parent)
        return ended

    return follow


def test_the_second_night_has_something_to_lose(two_nights: TwoNights) -> None:
    """Otherwise the comparison would prove nothing: events, a ledger that goes on, and scores that were remembered."""
    restricted = two_nights.undisturbed / "releases" / "current" / "restricted.duckdb"
    with duckdb.connect(str(two_nights.undisturbed / "releases" / "current" / "cocanal.duckdb"), read_only=True) as now:
        now.execute(f"attach '{restricted}' as restricted (read_only)")
        events = dict(
            now.execute(
                "select event, count(*) from identity.account_events "
                "where run_id = (select release_id from release.info) group by event"
            ).fetchall()
        )
        ((kept, new),) = now.execute(
            "select count(*) filter (first_release_id < last_release_id), count(*) filter (first_release_id = tonight) "
            "from restricted.activation.ledger, (select release_id as tonight from release.info)"
        ).fetchall()
    assert events["merged"] >= 3
    assert events["created"] >= 5
    assert kept > 0
    assert new > 0
    assert scores(two_nights.undisturbed)[:1]
    assert scores(two_nights.undisturbed) != scores(two_nights.before)


def test_runs_that_were_killed_cost_nothing_but_their_time(
    chain: Callable[[list[tuple[str, float | None]]], Ended],
) -> None:
    """Killed while raw files are written, in the middle of identity, and between the release and its pointer."""
    ended = chain(
        [
            (r"fsync /raw/deliveries", None),
            (r"closes the warehouse after identity$", None),
            (r"os.symlink /releases/\.current-", None),
        ]
    )
    assert ended.kills == 3


def test_a_release_whose_pointer_did_not_move_any_more_is_finished_by_the_next_run(
    two_nights: TwoNights, tmp_path: Path
) -> None:
    """The release is whole and its gate let it pass: it is not built again, and the ledger does not count it twice."""
    home = shutil.copytree(two_nights.before, tmp_path / "home", symlinks=True)
    first = assert_current_is_whole(home)
    (built,) = [path for path in (two_nights.undisturbed / "releases").glob("2*Z") if path.name != first]
    shutil.copytree(built, home / "releases" / built.name)
    shutil.copytree(two_nights.undisturbed / "raw", home / "raw", dirs_exist_ok=True)
    (home / "releases" / f".current-{built.name}").symlink_to(built.name)
    assert assert_current_is_whole(home) == first
    run = run_killed_at(home, "never")
    assert run.code == 0
    assert assert_current_is_whole(home) == built.name
    assert not any("opens the warehouse" in line for line in run.boundaries)


@pytest.mark.long
def test_fifty_kills_cost_nothing_but_time(
    two_nights: TwoNights, chain: Callable[[list[tuple[str, float | None]]], Ended]
) -> None:
    """A third at boundaries of the promotion, a third at boundaries of the whole run, a third at any moment at all."""
    draw = random.Random(20200711)
    names = [line.split(" ", 1)[1] for line in two_nights.boundaries]
    promotion = names.index("opens the warehouse for pointer")
    moments: list[tuple[str, float | None]] = []
    for n in range(LONG_KILLS // 3):
        moments.append((str(draw.randrange(promotion, len(names) + 1)), None))
        moments.append(
            (str(1 + n * promotion // (LONG_KILLS // 3) + draw.randrange(promotion * 3 // LONG_KILLS)), None)
        )
        moments.append(("never", draw.uniform(0.2, 0.95) * two_nights.seconds))
    draw.shuffle(moments)
    kills = runs = 0
    while kills < LONG_KILLS:
        # Those that ended by themselves before their moment are drawn again.
        chosen = moments[:CHAIN] or [(str(draw.randrange(1, len(names))), None)]
        moments = moments[CHAIN:]
        kills += chain(chosen).kills
        runs += 1
        print(f"\n{kills} kills, {runs} recoveries, 0 differences", end="", flush=True)
