"""The named cast: a few fixed shoppers that the README, the documentation and the tests speak of.

They are the same whatever the plan. Each says in ``expected`` what must come out of the pipeline for them. Their phone
numbers are of the ranges that are kept for fiction, their e-mail domains are reserved for examples.
"""

from datetime import date
from decimal import Decimal
from functools import cache

from dagster_project.demo.catalogue import ALWAYS_THERE, NEVER_THERE, SOLD_OUT
from dagster_project.demo.shopper import Row, Shopper, shopping_days

EVERY_PURPOSE = (
    ("prospecting", "email"),
    ("prospecting", "sms"),
    ("profiling", "any"),
    ("open_tracking", "any"),
    ("ad_match_social", "any"),
    ("ad_match_search", "any"),
)


def _camille() -> list[Shopper]:
    camille = Shopper(
        "CAMILLE",
        "Camille",
        "Moreau",
        date(1986, 4, 12),
        "MOREAU",
        "many_records",
        "one account: three web accounts, a card, a guest order and six tickets; forty tickets stay anonymous",
        "f",
        "camille.moreau@poste.example",
        "0465710001",
        "14 rue des Remparts",
    )
    first = camille.account(1, date(2018, 9, 14))
    camille.account(2, date(2019, 2, 3), email="c.moreau86@mail.example", address_line1="14, RUE DES REMPARTS")
    camille.account(
        3, date(2020, 1, 20), email="Camille.Moreau@poste.example ", phone="+33 4 65 71 00 01", birth_date=None
    )
    card = camille.card(1, date(2018, 10, 6), email=None, first_name="CAMILLE", last_name="MOREAU")
    camille.order("1", date(2018, 11, 18), "54.90", customer_id=first)
    camille.order("G1", date(2019, 5, 9), "31.50", phone="04.65.71.00.01", email="c.moreau86@mail.example")
    for number, day in enumerate(shopping_days(date(2018, 10, 13), 90, 3), 1):
        camille.ticket(f"L{number}", day, "42.00", loyalty_card_id=card)
    for number, day in enumerate(shopping_days(date(2018, 12, 8), 120, 3), 1):
        camille.ticket(f"E{number}", day, "18.50", email="camille.moreau@poste.example")
    for number, day in enumerate(shopping_days(date(2018, 9, 22), 12, 40), 1):
        camille.ticket(f"A{number:02d}", day, "9.95")
    return [camille]


def _households() -> list[Shopper]:
    jean = Shopper(
        "JEANPIERRE",
        "Jean-Pierre",
        "Lefèvre",
        date(1958, 2, 27),
        "LEFEVRE",
        "shared_mailbox",
        "an account of his own, in one household with Jeanne: the shared e-mail merges nobody",
        "m",
        "famille.lefevre@poste.example",
        "0465710002",
        "3 rue Haute",
    )
    jeanne = Shopper(
        "JEANNE",
        "Jeanne",
        "Lefèvre",
        date(1960, 8, 9),
        "LEFEVRE",
        "shared_mailbox",
        "an account of her own, in one household with Jean-Pierre",
        "f",
        "famille.lefevre@poste.example",
        None,
        "3 rue Haute",
    )
    jean.order("1", date(2019, 3, 2), "75.00", customer_id=jean.account(1, date(2019, 3, 2)))
    jeanne.card(1, date(2018, 11, 10))
    jeanne.order("G1", date(2019, 9, 21), "44.00")
    emma, lea = (
        Shopper(
            name.upper().replace("É", "E"),
            name,
            "Fontaine",
            date(1997, 6, 21),
            "FONTAINE",
            "twins",
            f"an account of her own, in one household with her twin {other}",
            "f",
            mail,
            "0199000010",
            "22 quai de la Fosse",
        )
        for name, other, mail in (
            ("Emma", "Léa", "emma.fontaine@mail.example"),
            ("Léa", "Emma", "lea.fontaine@mail.example"),
        )
    )
    emma.order("1", date(2019, 6, 25), "29.95", customer_id=emma.account(1, date(2019, 6, 20)))
    lea.order("1", date(2019, 6, 27), "35.95", customer_id=lea.account(1, date(2019, 6, 21)))
    father, son = (
        Shopper(
            key,
            "Michel",
            "Bernard",
            born,
            "BERNARD",
            "father_and_son",
            f"an account of his own, in one household with his {other} of the same name",
            "m",
            mail,
            phone,
            "8 impasse du Moulin",
        )
        for key, born, other, mail, phone in (
            ("MICHELPERE", date(1948, 3, 2), "son", None, "0261910020"),
            ("MICHELFILS", date(1976, 11, 19), "father", "michel.bernard76@mail.example", "0261910020"),
        )
    )
    father.ticket("1", date(2019, 4, 6), "61.00", loyalty_card_id=father.card(1, date(2018, 9, 29)))
    son.order("1", date(2019, 11, 24), "88.00", customer_id=son.account(1, date(2019, 11, 24)))
    return [jean, jeanne, emma, lea, father, son]


def _consents() -> list[Shopper]:
    zoe = Shopper(
        "ZOE",
        "Zoë",
        "D'Hérouville",
        date(1990, 12, 5),
        "HEROUVILLE",
        "married_name",
        "one account: the web account of her maiden name Martin and the card of her married name",
        "f",
        "zoe.martin@mail.example",
        "0465710003",
        "5 rue Voltaire",
    )
    zoe.order(
        "1",
        date(2018, 12, 2),
        "49.00",
        customer_id=zoe.account(1, date(2018, 12, 2), last_name="Martin"),
        last_name="Martin",
    )
    zoe.card(1, date(2019, 10, 12), first_name="ZOE", last_name="D HEROUVILLE", email="zoe.martin@mail.example")
    karim = Shopper(
        "KARIM",
        "Karim",
        "Benali",
        date(1983, 7, 30),
        "BENALI",
        "email_only_consent",
        "may get e-mail; is never in a file for Google or Meta",
        "m",
        "karim.benali@mail.example",
        "0465710004",
        "40 cours Julien",
    )
    odile = Shopper(
        "ODILE",
        "Odile",
        "Garnier",
        date(1955, 5, 17),
        "GARNIER",
        "erasure",
        "asked for erasure on 15 June 2020: in no audience, although she had consented to everything",
        "f",
        "odile.garnier@poste.example",
        "0353010005",
        "2 rue de la Paix",
    )
    bastien = Shopper(
        "BASTIEN",
        "Bastien",
        "Roux",
        date(1979, 1, 23),
        "ROUX",
        "objection",
        "objected on 2 March 2020: in no marketing audience",
        "m",
        "bastien.roux@mail.example",
        "0465710006",
        "9 rue Pasteur",
    )
    gerard = Shopper(
        "GERARD",
        "Gérard",
        "Petit",
        date(1952, 10, 3),
        "PETIT",
        "vip",
        "the best customer: in `vip` for every destination, unless held out",
        "m",
        "gerard.petit@poste.example",
        "0465710007",
        "17 avenue Foch",
    )
    marc = Shopper(
        "MARC",
        "Marc",
        "Dubois",
        date(1971, 9, 14),
        "DUBOIS",
        "win_back",
        "in `win_back`: bought a lot and has been silent since February 2020",
        "m",
        "marc.dubois@mail.example",
        "0465710008",
        "31 rue Nationale",
    )
    for shopper, visits, amount, last in (
        (karim, 6, "120.00", date(2020, 7, 3)),
        (odile, 14, "250.00", date(2020, 6, 10)),
        (bastien, 14, "250.00", date(2020, 6, 27)),
        (gerard, 45, "490.00", date(2020, 7, 4)),
        (marc, 20, "180.00", date(2020, 2, 15)),
    ):
        account = shopper.account(1, date(2018, 9, 10))
        card = shopper.card(1, date(2018, 9, 15))
        for number, day in enumerate(shopping_days(date(2018, 9, 17), 450 // visits, visits - 1), 1):
            shopper.ticket(str(number), day, amount, loyalty_card_id=card)
        shopper.ticket(str(visits), last, amount, loyalty_card_id=card)
        for number, day in enumerate((date(2018, 11, 23), date(2019, 12, 1)), 1):
            shopper.order(str(number), day, amount, customer_id=account)
    karim.says(date(2018, 9, 10), "granted", (("prospecting", "email"),), "email", "karim.benali@mail.example")
    karim.says(
        date(2018, 9, 10),
        "denied",
        (("ad_match_social", "any"), ("ad_match_search", "any")),
        "customer_id",
        "C-KARIM-1",
    )
    for shopper in (odile, bastien, gerard, marc):
        shopper.says(date(2018, 9, 10), "granted", EVERY_PURPOSE, "customer_id", f"C-{shopper.key}-1")
    odile.asks(date(2020, 6, 15), "erasure", "email", "odile.garnier@poste.example")
    bastien.asks(date(2020, 3, 2), "objection", "customer_id", "C-BASTIEN-1")
    return [zoe, karim, odile, bastien, gerard, marc]


def _channels() -> list[Shopper]:
    ines = Shopper(
        "INES",
        "Inès",
        "Caron",
        date(1993, 3, 8),
        "CARON",
        "new_omnichannel",
        "in `new_omnichannel`: only in the store until April 2020, in both channels since",
        "f",
        "ines.caron@mail.example",
        "0465710009",
        "12 rue Crébillon",
    )
    card = ines.card(1, date(2018, 10, 20))
    for number, day in enumerate([*shopping_days(date(2018, 10, 20), 80, 6), date(2020, 6, 6)], 1):
        ines.ticket(str(number), day, "65.00", loyalty_card_id=card)
    account = ines.account(1, date(2020, 5, 2), loyalty_card_id=card)
    ines.order("1", date(2020, 5, 2), "79.00", customer_id=account)
    ines.order("2", date(2020, 6, 28), "38.00", customer_id=account)
    ines.says(date(2020, 5, 2), "granted", EVERY_PURPOSE, "customer_id", account)
    lucie = Shopper(
        "LUCIE",
        "Lucie",
        "Marchand",
        date(1988, 11, 11),
        "MARCHAND",
        "click_and_collect",
        "160.00 bought, 60.00 given back: the pickup and the return in the store count nothing of their own",
        "f",
        "lucie.marchand@mail.example",
        "0465710010",
        "6 rue de Strasbourg",
    )
    account = lucie.account(1, date(2019, 10, 3))
    order = lucie.order(
        "1",
        date(2019, 10, 3),
        "160.00",
        status="collected",
        customer_id=account,
        fulfilment="click_and_collect",
        pickup_store_id="S003",
    )
    lines = [row for row in lucie.rows if row.feed == "shop_order_lines"]
    lines[0].values.update(unit_price=Decimal("60.00"), amount=Decimal("60.00"))
    second = {
        "order_id": order,
        "line_no": 2,
        "product_id": "P00002",
        "quantity": 1,
        "unit_price": Decimal("100.00"),
        "amount": Decimal("100.00"),
    }
    lucie.rows.append(Row("shop_order_lines", date(2019, 10, 3), second))
    lucie.ticket(
        "P1", date(2019, 10, 5), "0.00", kind="pickup", web_order_id=order, email="lucie.marchand@mail.example"
    )
    lucie.ticket("R1", date(2019, 10, 12), "-60.00", kind="return", web_order_id=order)
    lucie.refund(1, date(2019, 10, 14), order, "60.00")
    clerk = Shopper(
        "CLERK",
        "Sylvie",
        "Clerc",
        date(1968, 6, 6),
        "CLERC",
        "clerk_card",
        "her card, shown for 300 strangers, is demoted: she keeps an account, the 300 tickets stay anonymous",
        "f",
        "sylvie.clerc@mail.example",
        "0465710011",
        "1 rue Kervégan",
    )
    card = clerk.card(1, date(2018, 9, 3))
    stranger = Shopper(
        "STRANGERS",
        "",
        "",
        date(1970, 1, 1),
        "STRANGERS",
        "clerk_card",
        "stand for the 300 buyers whom nobody knows",
        "f",
    )
    for number, day in enumerate((d for k in range(4) for d in shopping_days(date(2018, 9, 5), 6, 75)), 1):
        stranger.ticket(f"{number:03d}", day, f"{5 + number * 37 % 90}.90", owner=clerk, loyalty_card_id=card)
    for number, day in enumerate(
        (date(2018, 10, 28), date(2019, 10, 27)), 1
    ):  # A night of shopping, in the repeated hour.
        stranger.ticket(f"N{number}", day, "12.00", clock="02:30")
    return [ines, lucie, clerk, stranger]


def _triggers() -> list[Shopper]:
    """Of each audience that something triggers, somebody who is in and somebody who just is not."""
    towns = {"44000": "Nantes", "30000": "Nîmes", "34400": "Lunel"}
    cast_of = {
        "NOEMIE": ("Noémie", "Vidal", "f", "reopening_near_you", "in `reopening_near_you`: lives in Nîmes", "30000"),
        "SACHA": (
            "Sacha",
            "Arnal",
            "m",
            "reopening_near_you",
            "lives in Lunel, 25 km from that store: not in it",
            "34400",
        ),
        "HUGO": (
            "Hugo",
            "Chauvet",
            "m",
            "back_in_stock",
            "in `back_in_stock`: looked for it while it was sold out",
            "44000",
        ),
        "ALICE": (
            "Alice",
            "Guilbaud",
            "f",
            "back_in_stock",
            "looked for it when it was there again: not in it",
            "44000",
        ),
        "PAUL": (
            "Paul",
            "Thébault",
            "m",
            "abandoned_basket",
            "in `abandoned_basket`, with what is in the basket",
            "44000",
        ),
        "ROSE": (
            "Rose",
            "Lemercier",
            "f",
            "abandoned_basket",
            "in `abandoned_basket`, with something like it",
            "44000",
        ),
        "YANN": (
            "Yann",
            "Kervella",
            "m",
            "abandoned_basket",
            "bought it in the store two days later: not in it",
            "44000",
        ),
        "LINA": ("Lina", "Haddad", "f", "delivery_late", "in `delivery_late`, though nobody may write to her", "44000"),
        "OSCAR": ("Oscar", "Prigent", "m", "delivery_late", "his parcel came late, but it came: not in it", "44000"),
        "SIMONE": (
            "Simone",
            "Bouvet",
            "f",
            "store_only_silent",
            "in `store_only_silent`: last seen in March 2020",
            "44000",
        ),
        "ROGER": (
            "Roger",
            "Tessier",
            "m",
            "store_only_silent",
            "came back to the store in June 2020: not in it",
            "44000",
        ),
    }
    found = {
        key: Shopper(
            key,
            first,
            last,
            date(1970 + number, 2, 1 + number),
            key,
            scenario,
            expected,
            sex,
            f"{key.lower()}.{number}@mail.example",
            f"04657100{20 + number}",
            f"{20 + number} rue de la Fontaine",
            postal_code=lives,
            city=towns[lives],
        )
        for number, (key, (first, last, sex, scenario, expected, lives)) in enumerate(cast_of.items())
    }
    for key, shopper in found.items():
        if key in ("SIMONE", "ROGER"):
            record = shopper.card(1, date(2019, 3, 2))
            for number, day in enumerate((date(2019, 3, 2), date(2019, 11, 9), date(2020, 3, 10)), 1):
                shopper.ticket(str(number), day, "35.00", loyalty_card_id=record)
        else:
            record = shopper.account(1, date(2019, 4, 6))
            if key != "LINA":
                shopper.says(date(2019, 4, 6), "granted", EVERY_PURPOSE, "customer_id", record)
        if key in ("SIMONE", "ROGER"):
            shopper.says(date(2019, 3, 2), "granted", EVERY_PURPOSE, "card_id", record)
    found["HUGO"].browses(date(2020, 7, 1), "view", SOLD_OUT, "C-HUGO-1")
    found["ALICE"].browses(date(2020, 7, 7), "view", SOLD_OUT, "C-ALICE-1")
    found["PAUL"].browses(date(2020, 7, 7), "cart", ALWAYS_THERE, "C-PAUL-1")
    found["ROSE"].browses(date(2020, 7, 7), "cart", NEVER_THERE, "C-ROSE-1")
    found["YANN"].browses(date(2020, 7, 7), "cart", ALWAYS_THERE, "C-YANN-1")
    found["YANN"].ticket("1", date(2020, 7, 9), "32.00", product=ALWAYS_THERE, email=found["YANN"].email)
    for key, arrived in (("LINA", None), ("OSCAR", date(2020, 7, 9))):
        order = found[key].order(
            "1", date(2020, 7, 3), "48.00", status="delivered" if arrived else "shipped", customer_id=f"C-{key}-1"
        )
        found[key].parcel(order, date(2020, 7, 4), date(2020, 7, 7), arrived)
    found["ROGER"].ticket("4", date(2020, 6, 20), "35.00", loyalty_card_id="L-ROGER-1")
    return list(found.values())


@cache
def cast() -> tuple[Shopper, ...]:
    """The whole cast, in a fixed order."""
    return (*_camille(), *_households(), *_consents(), *_channels(), *_triggers())
