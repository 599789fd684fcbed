"""Numbers, amounts and days as they are written in France, for pages and for the terminal."""

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

_NARROW_SPACE = "\u202f"
_SPACE = "\u00a0"
_SYMBOLS = {"EUR": "€", "GBP": "£", "USD": "$"}


@dataclass(frozen=True)
class Formats:
    """How figures are written: French, in one currency (ISO 4217)."""

    currency: str

    @property
    def symbol(self) -> str:
        """The currency's sign, or its code where it has none here."""
        return _SYMBOLS.get(self.currency, self.currency)

    def number(self, value: float | Decimal | None, decimals: int = 0) -> str:
        """``1234.5`` -> ``1 234,50``; nothing is a dash."""
        if value is None:
            return "–"
        return f"{value:,.{decimals}f}".replace(",", _NARROW_SPACE).replace(".", ",").replace("-", "−")

    def money(self, value: Decimal | float | None) -> str:
        """``1234.5`` -> ``1 234,50 €``."""
        return self.number(value, 2) + ("" if value is None else _SPACE + self.symbol)

    def share(self, value: float | None) -> str:
        """``0.1234`` -> ``12,3 %``; a trace is ``< 0,1 %``, never nothing."""
        if value is not None and 0 < value < 0.001:
            return f"<{_SPACE}0,1{_SPACE}%"
        return "–" if value is None else self.number(100 * value, 1) + _SPACE + "%"

    def day(self, value: date | None) -> str:
        """``15/07/2020``."""
        return "–" if value is None else value.strftime("%d/%m/%Y")

    def moment(self, value: datetime | None) -> str:
        """``15/07/2020 00:30``, in UTC."""
        return "–" if value is None else value.strftime("%d/%m/%Y %H:%M")

    def measure(self, value: float | None) -> str:
        """A gate's number, with as many decimals as it needs: at most four."""
        if value is None:
            return "–"
        return self.number(value, 4).rstrip("0").rstrip(",") if value % 1 else self.number(value)
