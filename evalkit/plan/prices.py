"""What tokens cost at an endpoint, as the user's own file of prices says."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from evalkit.errors import NotFoundError
from evalkit.schema import Strict, parse
from evalkit.yamlfile import read_yaml, shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a model's tokens cost, in US dollars a million, and who said so when."""

    model: str
    input_usd_per_million: float
    output_usd_per_million: float
    date: str  # YYYY-MM-DD
    source: str

    def usd(self, *, n_input: int, n_output: int) -> float:
        """The cost of so many tokens."""
        total = n_input * self.input_usd_per_million + n_output * self.output_usd_per_million
        return total / 1e6


def _checked_date(text: str) -> str:
    datetime.date.fromisoformat(text)
    return text


_Usd = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _PriceSpec(Strict):
    input_usd_per_million: _Usd
    output_usd_per_million: _Usd
    date: Annotated[str, AfterValidator(_checked_date)]
    source: Annotated[str, Field(min_length=1)]


class _PricesSpec(Strict):
    models: dict[str, _PriceSpec]


def read_price(path: Path, model: str) -> Price:
    """The price of a model from a YAML file of prices.

    Raises SpecError (path:line) for a file that is wrong, NotFoundError for a model that it lacks.
    """
    prices = parse(read_yaml(path), _PricesSpec).models
    if model not in prices:
        raise NotFoundError(f"model in {shown(path)}", model, prices, hint="add its price there")
    found = prices[model]
    return Price(
        model=model,
        input_usd_per_million=found.input_usd_per_million,
        output_usd_per_million=found.output_usd_per_million,
        date=found.date,
        source=found.source,
    )
