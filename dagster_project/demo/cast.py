"""The named cast: a few fixed shoppers that the README, the documentation and the tests speak of.

They are the same whatever the plan. Each says in ``expected`` what must come out of the pipeline for them. Their phone
numbers are of the ranges that are kept for fiction, their e-mail domains are reserved for examples.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

from dagster_project.demo import seasons

_PARIS, _UTC = ZoneInfo("Europe/Paris"), ZoneInfo("UTC")
EVERY_PURPOSE = (
    ("prospecting", "email"), ("prospecting", "sms"), ("profiling", "any"), ("open_tracking", "any"),
    ("ad_match_social", "any"), ("ad_match_search", "any"),
)  # fmt: skip


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
            "email": self.email, "phone": self.phone, "first_name": self.first_name, "last_name": self.last_name,
            "address_line1": self.address_line1, "postal_code": self.postal_code, "city": self.city, "country": "FR",
        }  # fmt: skip

    def account(self, number: int, day: date, **different: Any) -> str:
        """A web account opened on ``day``; returns its number."""
        record = f"C-{self.key}-{number}"
        at = moment(day, "20:15")
        values = {"customer_id": record, **self._contact(), "birth_date": self.birth_date, "created_at": at, "updated_at": at}
        self.rows.append(Row("shop_customers", day, values | different))
        self.owned.append(("shop_customers", record))
        return record

    def card(self, number: int, day: date, **different: Any) -> str:
        """A loyalty card handed out on ``day``; returns its number."""
        record = f"L-{self.key}-{number}"
        at = moment(day, "11:30")
        values = {
            "card_id": record, **self._contact(), "birth_date": self.birth_date, "enrolled_store_id": "S003", "enrolled_at": at,
            "updated_at": at, "status": "active",
        }  # fmt: skip
        self.rows.append(Row("loyalty_members", day, values | different))
        self.owned.append(("loyalty_members", record))
        return record

    def order(self, number: str, day: date, amount: str, *, status: str = "delivered", **different: Any) -> str:
        """An online order of one line, paid at once and in its last status three days later; returns its number."""
        record = f"W-{self.key}-{number}"
        total, done = Decimal(amount), min(day + timedelta(days=3), seasons.LAST_DAY)
        values = {
            "order_id": record, **self._contact(), "ordered_at": moment(day, "21:05"), "status": status, "fulfilment": "delivery",
            "updated_at": moment(done, "22:00"), "shipping_amount": Decimal("0.00"), "total_amount": total,
        } | different  # fmt: skip
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

    def ticket(self, number: str, day: date, amount: str, *, kind: str = "sale", clock: str = "15:40", owner: "Shopper | None" = None, **shown: Any) -> str:
        """A till ticket of one line; ``shown`` are the identifiers it carries, ``owner`` whose they are."""
        record = f"T-{self.key}-{number}"
        total = Decimal(amount)
        values = {
            "ticket_id": record, "store_id": "S003", "register_id": "R1", "sold_at": moment(day, clock), "ticket_type": kind,
            "total_amount": total,
        } | shown  # fmt: skip
        quantity = -1 if kind == "return" else 1
        self.rows += [
            Row("pos_tickets", day, values),
            Row("pos_ticket_lines", day, {"ticket_id": record, **_line("P00001", quantity, abs(total))}),
        ]
        if {"loyalty_card_id", "email", "phone", "payment_token"} & shown.keys():
            (owner or self).owned.append(("pos_tickets", record))
        self.bought.append(("pos_tickets", record, Decimal("0.00") if "web_order_id" in shown else total, "store", day))
        return record

    def refund(self, number: int, day: date, order: str, amount: str) -> str:
        """A partial refund of one unit; returns its number."""
        record = f"F-{self.key}-{number}"
        total = -Decimal(amount)
        values = {"refund_id": record, "order_id": order, "refunded_at": moment(day, "10:20"), "reason": "taille", "total_amount": total}
        line = _line("P00001", -1, Decimal(amount))
        del line["unit_price"]
        self.rows += [Row("shop_refunds", day, values), Row("shop_refund_lines", day, {"refund_id": record, **line})]
        self.bought.append(("shop_refunds", record, total, "online", day))
        return record

    def says(self, day: date, status: str, purposes: tuple[tuple[str, str], ...], key_type: str, key_value: str) -> None:
        """Statements of consent, one per purpose and channel."""
        for purpose, channel in purposes:
            number = 1 + sum(row.feed == "consents" for row in self.rows)
            values = {
                "consent_id": f"K-{self.key}-{number}", "key_type": key_type, "key_value": key_value, "purpose": purpose,
                "channel": channel, "status": status, "occurred_at": moment(day, "20:16"), "source": "web form", "text_version": "v2",
            }  # fmt: skip
            self.rows.append(Row("consents", day, values))

    def asks(self, day: date, kind: str, key_type: str, key_value: str) -> None:
        """A privacy request."""
        values = {
            "request_id": f"Q-{self.key}-1", "kind": kind, "key_type": key_type, "key_value": key_value, "received_at": moment(day, "09:30"),
        }  # fmt: skip
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
    return {"line_no": 1, "product_id": product, "quantity": quantity, "unit_price": unit_price, "amount": quantity * unit_price}


def _camille() -> list[Shopper]:
    camille = Shopper(
        "CAMILLE", "Camille", "Moreau", date(1986, 4, 12), "MOREAU", "many_records",
        "one account: three web accounts, a card, a guest order and six tickets; forty tickets stay anonymous", "f",
        "camille.moreau@poste.example", "0639980001", "14 rue des Remparts",
    )  # fmt: skip
    first = camille.account(1, date(2018, 9, 14))
    camille.account(2, date(2019, 2, 3), email="c.moreau86@mail.example", address_line1="14, RUE DES REMPARTS")
    camille.account(3, date(2020, 1, 20), email="Camille.Moreau@poste.example ", phone="+33 6 39 98 00 01", birth_date=None)
    card = camille.card(1, date(2018, 10, 6), email=None, first_name="CAMILLE", last_name="MOREAU")
    camille.order("1", date(2018, 11, 18), "54.90", customer_id=first)
    camille.order("G1", date(2019, 5, 9), "31.50", phone="06.39.98.00.01", email="c.moreau86@mail.example")
    for number, day in enumerate(shopping_days(date(2018, 10, 13), 90, 3), 1):
        camille.ticket(f"L{number}", day, "42.00", loyalty_card_id=card)
    for number, day in enumerate(shopping_days(date(2018, 12, 8), 120, 3), 1):
        camille.ticket(f"E{number}", day, "18.50", email="camille.moreau@poste.example")
    for number, day in enumerate(shopping_days(date(2018, 9, 22), 12, 40), 1):
        camille.ticket(f"A{number:02d}", day, "9.95")
    return [camille]


def _households() -> list[Shopper]:
    jean = Shopper(
        "JEANPIERRE", "Jean-Pierre", "Lefèvre", date(1958, 2, 27), "LEFEVRE", "shared_mailbox",
        "an account of his own, in one household with Jeanne: the shared e-mail merges nobody", "m",
        "famille.lefevre@poste.example", "0639980002", "3 rue Haute",
    )  # fmt: skip
    jeanne = Shopper(
        "JEANNE", "Jeanne", "Lefèvre", date(1960, 8, 9), "LEFEVRE", "shared_mailbox",
        "an account of her own, in one household with Jean-Pierre", "f", "famille.lefevre@poste.example", None, "3 rue Haute",
    )  # fmt: skip
    jean.order("1", date(2019, 3, 2), "75.00", customer_id=jean.account(1, date(2019, 3, 2)))
    jeanne.card(1, date(2018, 11, 10))
    jeanne.order("G1", date(2019, 9, 21), "44.00")
    emma, lea = (
        Shopper(
            name.upper().replace("É", "E"), name, "Fontaine", date(1997, 6, 21), "FONTAINE", "twins",
            f"an account of her own, in one household with her twin {other}", "f", mail, "0199000010", "22 quai de la Fosse",
        )
        for name, other, mail in (("Emma", "Léa", "emma.fontaine@mail.example"), ("Léa", "Emma", "lea.fontaine@mail.example"))
    )  # fmt: skip
    emma.order("1", date(2019, 6, 25), "29.95", customer_id=emma.account(1, date(2019, 6, 20)))
    lea.order("1", date(2019, 6, 27), "35.95", customer_id=lea.account(1, date(2019, 6, 21)))
    father, son = (
        Shopper(
            key, "Michel", "Bernard", born, "BERNARD", "father_and_son",
            f"an account of his own, in one household with his {other} of the same name", "m", mail, phone, "8 impasse du Moulin",
        )
        for key, born, other, mail, phone in (
            ("MICHELPERE", date(1948, 3, 2), "son", None, "0261910020"),
            ("MICHELFILS", date(1976, 11, 19), "father", "michel.bernard76@mail.example", "0261910020"),
        )
    )  # fmt: skip
    father.ticket("1", date(2019, 4, 6), "61.00", loyalty_card_id=father.card(1, date(2018, 9, 29)))
    son.order("1", date(2019, 11, 24), "88.00", customer_id=son.account(1, date(2019, 11, 24)))
    return [jean, jeanne, emma, lea, father, son]


def _consents() -> list[Shopper]:
    zoe = Shopper(
        "ZOE", "Zoë", "D'Hérouville", date(1990, 12, 5), "HEROUVILLE", "married_name",
        "one account: the web account of her maiden name Martin and the card of her married name", "f",
        "zoe.martin@mail.example", "0639980003", "5 rue Voltaire",
    )  # fmt: skip
    zoe.order("1", date(2018, 12, 2), "49.00", customer_id=zoe.account(1, date(2018, 12, 2), last_name="Martin"), last_name="Martin")
    zoe.card(1, date(2019, 10, 12), first_name="ZOE", last_name="D HEROUVILLE", email="zoe.martin@mail.example")
    karim = Shopper(
        "KARIM", "Karim", "Benali", date(1983, 7, 30), "BENALI", "email_only_consent",
        "may get e-mail; is never in a file for Google or Meta", "m", "karim.benali@mail.example", "0639980004", "40 cours Julien",
    )  # fmt: skip
    odile = Shopper(
        "ODILE", "Odile", "Garnier", date(1955, 5, 17), "GARNIER", "erasure",
        "asked for erasure on 15 June 2020: in no audience, although she had consented to everything", "f",
        "odile.garnier@poste.example", "0353010005", "2 rue de la Paix",
    )  # fmt: skip
    bastien = Shopper(
        "BASTIEN", "Bastien", "Roux", date(1979, 1, 23), "ROUX", "objection",
        "objected on 2 March 2020: in no marketing audience", "m", "bastien.roux@mail.example", "0639980006", "9 rue Pasteur",
    )  # fmt: skip
    gerard = Shopper(
        "GERARD", "Gérard", "Petit", date(1952, 10, 3), "PETIT", "vip",
        "the best customer: in `vip` for every destination, unless held out", "m", "gerard.petit@poste.example", "0639980007",
        "17 avenue Foch",
    )  # fmt: skip
    marc = Shopper(
        "MARC", "Marc", "Dubois", date(1971, 9, 14), "DUBOIS", "win_back",
        "in `win_back`: bought a lot and has been silent since February 2020", "m", "marc.dubois@mail.example", "0639980008",
        "31 rue Nationale",
    )  # fmt: skip
    for shopper, visits, amount, last in (
        (karim, 6, "120.00", date(2020, 7, 3)), (odile, 14, "250.00", date(2020, 6, 10)), (bastien, 14, "250.00", date(2020, 6, 27)),
        (gerard, 45, "490.00", date(2020, 7, 4)), (marc, 20, "180.00", date(2020, 2, 15)),
    ):  # fmt: skip
        account = shopper.account(1, date(2018, 9, 10))
        card = shopper.card(1, date(2018, 9, 15))
        for number, day in enumerate(shopping_days(date(2018, 9, 17), 450 // visits, visits - 1), 1):
            shopper.ticket(str(number), day, amount, loyalty_card_id=card)
        shopper.ticket(str(visits), last, amount, loyalty_card_id=card)
        for number, day in enumerate((date(2018, 11, 23), date(2019, 12, 1)), 1):
            shopper.order(str(number), day, amount, customer_id=account)
    karim.says(date(2018, 9, 10), "granted", (("prospecting", "email"),), "email", "karim.benali@mail.example")
    karim.says(date(2018, 9, 10), "denied", (("ad_match_social", "any"), ("ad_match_search", "any")), "customer_id", "C-KARIM-1")
    for shopper in (odile, bastien, gerard, marc):
        shopper.says(date(2018, 9, 10), "granted", EVERY_PURPOSE, "customer_id", f"C-{shopper.key}-1")
    odile.asks(date(2020, 6, 15), "erasure", "email", "odile.garnier@poste.example")
    bastien.asks(date(2020, 3, 2), "objection", "customer_id", "C-BASTIEN-1")
    return [zoe, karim, odile, bastien, gerard, marc]


def _channels() -> list[Shopper]:
    ines = Shopper(
        "INES", "Inès", "Caron", date(1993, 3, 8), "CARON", "new_omnichannel",
        "in `new_omnichannel`: only in the store until April 2020, in both channels since", "f", "ines.caron@mail.example",
        "0639980009", "12 rue Crébillon",
    )  # fmt: skip
    card = ines.card(1, date(2018, 10, 20))
    for number, day in enumerate([*shopping_days(date(2018, 10, 20), 80, 6), date(2020, 6, 6)], 1):
        ines.ticket(str(number), day, "65.00", loyalty_card_id=card)
    account = ines.account(1, date(2020, 5, 2), loyalty_card_id=card)
    ines.order("1", date(2020, 5, 2), "79.00", customer_id=account)
    ines.order("2", date(2020, 6, 28), "38.00", customer_id=account)
    ines.says(date(2020, 5, 2), "granted", EVERY_PURPOSE, "customer_id", account)
    lucie = Shopper(
        "LUCIE", "Lucie", "Marchand", date(1988, 11, 11), "MARCHAND", "click_and_collect",
        "160.00 bought, 60.00 given back: the pickup and the return in the store count nothing of their own", "f",
        "lucie.marchand@mail.example", "0639980010", "6 rue de Strasbourg",
    )  # fmt: skip
    account = lucie.account(1, date(2019, 10, 3))
    order = lucie.order(
        "1", date(2019, 10, 3), "160.00", status="collected", customer_id=account, fulfilment="click_and_collect", pickup_store_id="S003"
    )
    lines = [row for row in lucie.rows if row.feed == "shop_order_lines"]
    lines[0].values.update(unit_price=Decimal("60.00"), amount=Decimal("60.00"))
    second = {"order_id": order, "line_no": 2, "product_id": "P00002", "quantity": 1, "unit_price": Decimal("100.00"), "amount": Decimal("100.00")}
    lucie.rows.append(Row("shop_order_lines", date(2019, 10, 3), second))
    lucie.ticket("P1", date(2019, 10, 5), "0.00", kind="pickup", web_order_id=order, email="lucie.marchand@mail.example")
    lucie.ticket("R1", date(2019, 10, 12), "-60.00", kind="return", web_order_id=order)
    lucie.refund(1, date(2019, 10, 14), order, "60.00")
    clerk = Shopper(
        "CLERK", "Sylvie", "Clerc", date(1968, 6, 6), "CLERC", "clerk_card",
        "her card, shown for 300 strangers, is demoted: she keeps an account, the 300 tickets stay anonymous", "f",
        "sylvie.clerc@mail.example", "0639980011", "1 rue Kervégan",
    )  # fmt: skip
    card = clerk.card(1, date(2018, 9, 3))
    stranger = Shopper(
        "STRANGERS", "", "", date(1970, 1, 1), "STRANGERS", "clerk_card", "stand for the 300 buyers whom nobody knows", "f"
    )
    for number, day in enumerate((d for k in range(4) for d in shopping_days(date(2018, 9, 5), 6, 75)), 1):
        stranger.ticket(f"{number:03d}", day, f"{5 + number * 37 % 90}.90", owner=clerk, loyalty_card_id=card)
    for number, day in enumerate((date(2018, 10, 28), date(2019, 10, 27)), 1):  # A night of shopping, in the repeated hour.
        stranger.ticket(f"N{number}", day, "12.00", clock="02:30")
    return [ines, lucie, clerk, stranger]


@cache
def cast() -> tuple[Shopper, ...]:
    """The whole cast, in a fixed order."""
    return (*_camille(), *_households(), *_consents(), *_channels())
