"""An address is one address however it was copied: else a withdrawal would not reach what was granted."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.parametrize(
    "written",
    [
        "zoe@mail.example",
        " ZOE@Mail.Example\t",
        "\u200bzoe@mail.example",
        "zoe@mail\u00ad.example",
        "\u00a0zoe@mail.example\ufeff",
    ],
)
def test_a_withdrawal_reaches_the_address_however_it_was_copied(
    tmp_path: Path, supplier: Any, walk: Any, written: str
) -> None:
    said = {"key_type": "email", "purpose": "prospecting", "channel": "email"}
    supplier(tmp_path / "landing").deliver(
        "consents",
        date(2020, 7, 10),
        [
            {
                **said,
                "consent_id": "K1",
                "key_value": "zoe@mail.example",
                "status": "granted",
                "occurred_at": "2020-07-01T10:00:00Z",
            },
            {
                **said,
                "consent_id": "K2",
                "key_value": written,
                "status": "withdrawn",
                "occurred_at": "2020-07-02T10:00:00Z",
            },
        ],
    )
    with walk(tmp_path, date(2020, 7, 10), until="account") as connection:
        found = connection.execute(
            "select identifier, status from account.identifier_consents where channel = 'email'"
        ).fetchall()
    assert found == [("zoe@mail.example", "withdrawn")]
