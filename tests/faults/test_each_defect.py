"""Each defect by itself, night after night: what must be kept is kept, what must be refused is, and the books balance."""

from pathlib import Path
from typing import Any

import pytest
from faults.books import Books
from faults.catalogue import DEFECTS, Defect
from faults.shop import DAYS, Shop
from faults.truth import Truth


def _case(defect: Defect) -> Any:
    marks = [pytest.mark.xfail(strict=True, reason=defect.wrong)] if defect.wrong else []
    return pytest.param(defect, id=defect.name, marks=marks)


@pytest.mark.parametrize("defect", [_case(defect) for defect in DEFECTS])
def test_every_row_and_euro_is_accounted_for(
    defect: Defect, tmp_path: Path, walk: Any, keep_ledger: Any, growing: Any
) -> None:
    shop = Shop()
    shop.open()
    defect.strike(shop)
    files = shop.files(order=1)
    growing(tmp_path / "landing", files)
    for night in range(len(DAYS)):
        shop.arrive(tmp_path / "landing", files, night)
        if night in shop.nights:
            with walk(tmp_path, DAYS[night], until="staging") as connection:
                keep_ledger(connection)
                books = Books(connection, Truth(files, night))
                books.check_ledger(has_accounts=False)
            assert books.complaints == [], "\n".join(["", *books.complaints[:40]])
