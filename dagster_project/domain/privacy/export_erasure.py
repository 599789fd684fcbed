"""What people and commands left in a home besides raw and releases goes, or loses the person's lines.

Here belong the working database and the caches (a run makes them again), pages and sheets with personal data, left-over
folders, and the truth of a generated retailer. Not for raw, landing and releases: they have rooms of their own.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from dagster_project.domain.privacy.subject import Subject

# Made again by the next run; what they held of the person would stay in their free blocks.
_CACHES = ("warehouse.duckdb", "warehouse.duckdb.*", "identity/scores.duckdb", "identity/scores.duckdb.*", ".spill/*")
# Somebody may be in them, and their purpose is served: explanations, stewards' sheets, quarantine, damaged raw files.
_PAGES = ("explain/*.html", "identity/review_*.csv", "quarantine/*", "privacy/access/*", "raw/*/*.damaged")
_LEFT_OVERS = (".diff-*", ".decisions-*", "releases/.building-*", "releases/.discarded-*", "raw/.reading-*")
# A generated retailer knows who everybody is: its own lines of the person.
_TRUTHS = "truth/*.csv"


def erase_in_exports(home: Path, subjects: Sequence[Subject]) -> list[str]:
    """Remove or rewrite all that; the paths in the home, in order. May be called again. No run may be going on."""
    return sorted({*_removed(home), *_rewritten(home, subjects)})


def _removed(home: Path) -> Iterator[str]:
    for path in sorted({path for pattern in (*_CACHES, *_PAGES, *_LEFT_OVERS) for path in home.glob(pattern)}):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        yield path.relative_to(home).as_posix()


def _rewritten(home: Path, subjects: Sequence[Subject]) -> Iterator[str]:
    own = {key for subject in subjects for _, key in subject.records}
    own |= {value for subject in subjects for value in (*subject.customer_ids, *subject.card_ids, *subject.emails)}
    for path in sorted(home.glob(_TRUTHS)):
        beside = path.with_name(f".{path.name}.erasing")
        gone = 0
        with (
            path.open(encoding="utf-8") as told,
            open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as out,
        ):
            for number, line in enumerate(told):
                if number and own.intersection(line.rstrip("\n").replace('"', "").split(",")):
                    gone += 1
                else:
                    out.write(line)
            out.flush()
            os.fsync(out.fileno())
        if gone:
            beside.replace(path)
            yield path.relative_to(home).as_posix()
        else:
            beside.unlink()
