"""A shopper written by hand: a person with every row that the systems hold of them.

What belongs here: how to write down such a person's accounts, cards, purchases and statements. Who they are is said in
``cast``.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from dagster_project.demo import seasons

_PARIS, _UTC = ZoneInfo("Europe/Paris"), ZoneInfo("UTC")


@dataclass(frozen=True)
class Row:
    """One row of a feed: ``day`` is the Paris day on which it came about, ``values`` are typed, moments in UTC."""

    feed: str
    day: date
    values: dict[str, Any]


@dataclass
class Shopper:
    """One person of the cast, with every row that the systems hold of them.

    ``owned`` are the person-bearing records (feed, record_id) that carry this person's identifiers; ``bought`` what
    they bought: (feed, record_id, counted amount, channel, business day).
    """

    key: str
    first_name: str
    last_name: str
    birth_date: date
    household: str
    scenario: str
    expected: str
    sex: str
    email: str | None = None
    phone: str | None = None
    address_line1: str = "1 place de l'Église"
    postal_code: str = "44000"
    city: str = "Nantes"
    rows: list[Row] = field(default_factory=list)
    owned: list[tuple[str, str]] = field(default_factory=list)
    bought: list[tuple[str, str, Decimal, str, date]] = field(default_factory=list)

    @property
    def person_id(self) -> str:
        return f"X-{self.key}"

    @property
    def household_id(self) -> str:
        return f"H-{self.household}"

    def _contact(self) -> dict[str, Any]:
        return {
            "email": self.email,
            "phone": self.phone,
            "first_name": self.first_name,
            "last_name": self.last_name,
            "address_line1": self.address_line1,
            "postal_code": self.postal_code,
            "city": self.city,
            "country": "FR",
        }

    def account(self, number: int, day: date, **different: Any) -> str:
        """A web account opened on ``day``; returns its number."""
        record = f"C-{self.key}-{number}"
        at = moment(day, "20:15")
        values = {
            "customer_id": record,
            **self._contact(),
            "birth_date": self.birth_date,
            "created_at": at,
            "updated_at": at,
        }
        self.rows.append(Row("shop_customers", day, values | different))
        self.owned.append(("shop_customers", record))
        return record

    def card(self, number: int, day: date, **different: Any) -> str:
        """A loyalty card handed out on ``day``; returns its number."""
        record = f"L-{self.key}-{number}"
        at = moment(day, "11:30")
        values = {
            "card_id": record,
            **self._contact(),
            "birth_date": self.birth_date,
            "enrolled_store_id": "S003",
            "enrolled_at": at,
            "updated_at": at,
            "status": "active",
        }
        self.rows.append(Row("loyalty_members", day, values | different))
        self.owned.append(("loyalty_members", record))
        return record

    def order(self, number: str, day: date, amount: str, *, status: str = "delivered", **different: Any) -> str:
        """An online order of one line, paid at once and in its last status three days later; returns its number."""
        record = f"W-{self.key}-{number}"
        total, done = Decimal(amount), min(day + timedelta(days=3), seasons.LAST_DAY)
        values = {
            "order_id": record,
            **self._contact(),
            "ordered_at": moment(day, "21:05"),
            "status": status,
            "fulfilment": "delivery",
            "updated_at": moment(done, "22:00"),
            "shipping_amount": Decimal("0.00"),
            "total_amount": total,
        } | different
        placed = values | {"status": "paid", "updated_at": values["ordered_at"]}
        self.rows += [
            Row("shop_orders", day, placed),
            Row("shop_orders", done, values),
            Row("shop_order_lines", day, {"order_id": record, **_line("P00001", 1, total)}),
        ]
        self.owned.append(("shop_orders", record))
        counted = Decimal("0.00") if status in ("cancelled", "refunded") else total
        self.bought.append(("shop_orders", record, counted, "online", day))
        return record

    def ticket(
        self,
        number: str,
        day: date,
        amount: str,
        *,
        kind: str = "sale",
        clock: str = "15:40",
        owner: "Shopper | None" = None,
        product: str = "P00001",
        **shown: Any,
    ) -> str:
        """A till ticket of one line; ``shown`` are the identifiers it carries, ``owner`` whose they are."""
        record = f"T-{self.key}-{number}"
        total = Decimal(amount)
        values = {
            "ticket_id": record,
            "store_id": "S003",
            "register_id": "R1",
            "sold_at": moment(day, clock),
            "ticket_type": kind,
            "total_amount": total,
        } | shown
        quantity = -1 if kind == "return" else 1
        self.rows += [
            Row("pos_tickets", day, values),
            Row("pos_ticket_lines", day, {"ticket_id": record, **_line(product, quantity, abs(total))}),
        ]
        if {"loyalty_card_id", "email", "phone", "payment_token"} & shown.keys():
            (owner or self).owned.append(("pos_tickets", record))
        self.bought.append(("pos_tickets", record, Decimal("0.00") if "web_order_id" in shown else total, "store", day))
        return record

    def refund(self, number: int, day: date, order: str, amount: str) -> str:
        """A partial refund of one unit; returns its number."""
        record = f"F-{self.key}-{number}"
        total = -Decimal(amount)
        values = {
            "refund_id": record,
            "order_id": order,
            "refunded_at": moment(day, "10:20"),
            "reason": "taille",
            "total_amount": total,
        }
        line = _line("P00001", -1, Decimal(amount))
        del line["unit_price"]
        self.rows += [Row("shop_refunds", day, values), Row("shop_refund_lines", day, {"refund_id": record, **line})]
        self.bought.append(("shop_refunds", record, total, "online", day))
        return record

    def parcel(self, order: str, shipped: date, promised: date, delivered: date | None = None) -> None:
        """The parcel of an order: shipped, promised for the evening of a day, and arrived or still under way."""
        values = {
            "order_id": order,
            "parcel_no": 1,
            "carrier": "Colis Vert",
            "promised_at": moment(promised, "19:00"),
            "shipped_at": moment(shipped, "08:30"),
            "delivered_at": moment(delivered, "14:10") if delivered else None,
        }
        self.rows.append(Row("deliveries", delivered or shipped, values))

    def browses(self, day: date, event: str, product: str, customer_id: str) -> None:
        """A view or a basket on the web site, logged in."""
        number = 1 + sum(row.feed == "web_events" for row in self.rows)
        values = {
            "event_id": f"V-{self.key}-{number}",
            "session_id": f"v-{self.key}-{day:%m%d}",
            "customer_id": customer_id,
            "event": event,
            "product_id": product,
            "occurred_at": moment(day, "20:30"),
        }
        self.rows.append(Row("web_events", day, values))

    def says(
        self, day: date, status: str, purposes: tuple[tuple[str, str], ...], key_type: str, key_value: str
    ) -> None:
        """Statements of consent, one per purpose and channel."""
        for purpose, channel in purposes:
            number = 1 + sum(row.feed == "consents" for row in self.rows)
            values = {
                "consent_id": f"K-{self.key}-{number}",
                "key_type": key_type,
                "key_value": key_value,
                "purpose": purpose,
                "channel": channel,
                "status": status,
                "occurred_at": moment(day, "20:16"),
                "source": "web form",
                "text_version": "v2",
            }
            self.rows.append(Row("consents", day, values))

    def asks(self, day: date, kind: str, key_type: str, key_value: str) -> None:
        """A privacy request."""
        values = {
            "request_id": f"Q-{self.key}-1",
            "kind": kind,
            "key_type": key_type,
            "key_value": key_value,
            "received_at": moment(day, "09:30"),
        }
        self.rows.append(Row("privacy_requests", day, values))


def moment(day: date, clock: str) -> datetime:
    """The UTC moment (without zone) of a Paris wall-clock time."""
    local = datetime.fromisoformat(f"{day.isoformat()}T{clock}").replace(tzinfo=_PARIS)
    return local.astimezone(_UTC).replace(tzinfo=None)


def shopping_days(first: date, step: int, count: int) -> Iterator[date]:
    """``count`` weekdays on which stores trade, about ``step`` days apart, from ``first`` on."""
    day = first
    for _ in range(count):
        while day.weekday() == 6 or not seasons.stores_open(day):
            day += timedelta(days=1)
        yield day
        day += timedelta(days=step)


def _line(product: str, quantity: int, unit_price: Decimal) -> dict[str, Any]:
    return {
        "line_no": 1,
        "product_id": product,
        "quantity": quantity,
        "unit_price": unit_price,
        "amount": quantity * unit_price,
    }
