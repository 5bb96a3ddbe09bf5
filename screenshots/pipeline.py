"""A shop's night, made up so that its graph is worth a picture: sources, a join, a mapped training, a late failure."""

from __future__ import annotations

import time

from flowdeck import concurrency, flow, task, unmapped


@task
def extract(source: str) -> str:
    """Read one source."""
    time.sleep(0.1)
    return source


@task(retries=1, retry_delay_seconds=0.1)
def clean(source: str) -> str:
    """Tidy one source; the stock of this night cannot be tidied."""
    time.sleep(0.1)
    if source == "stock":
        raise ValueError("column 'sku' is empty in 3 of 18 204 rows")
    return source


@task
def join(orders: str, customers: str) -> str:
    """Who bought what."""
    return f"{orders} of {customers}"


@task
def convert(joined: str, rates: str) -> str:
    """All prices in one currency."""
    return f"{joined} at {rates}"


@task
def split(sales: str) -> list[int]:
    """One part for each shop."""
    return list(range(48)) if sales else []


@task
def train(shop: int, sales: str) -> float:
    """One model for each shop; each takes its time."""
    time.sleep(0.5 + shop / 4)
    return shop / 48 if sales else 0.0


@task
def choose(scores: list[float]) -> float:
    """The best model."""
    return max(scores)


@task
def forecast(stock: str, sales: str) -> str:
    """What to buy tomorrow."""
    return stock + sales


@task
def report(best: float, sales: str, wanted: str) -> None:
    """Tell it."""


@task
def archive(raw: str, sales: str) -> None:
    """Keep what came in."""


@flow(name="shop-night")
def shop_night() -> None:
    """From four sources to a report; ends FAILED, because the stock cannot be tidied."""
    raw = {
        source: extract.with_options(name=f"extract_{source}").submit(source)
        for source in ("orders", "customers", "rates", "stock")
    }
    tidy = {
        source: clean.with_options(name=f"clean_{source}").submit(raw[source])
        for source in ("orders", "customers", "stock")
    }
    sales = convert.submit(join.submit(tidy["orders"], tidy["customers"]), raw["rates"])
    scores = train.map(split.submit(sales), unmapped(sales))
    best = choose.submit(scores)
    wanted = forecast.submit(tidy["stock"], sales)
    told = report.submit(best, sales, wanted)
    archive.submit(raw["orders"], sales)
    told.result()


@task(tags=["supplier-api"])
def ask_price(article: int) -> float:
    """Ask a supplier who does not like to be asked by many at once."""
    time.sleep(15 + article % 3)
    return article * 0.99


@task
def keep_prices(prices: list[float]) -> int:
    """Into the warehouse, one at a time."""
    with concurrency("warehouse"):
        time.sleep(20)
    return len(prices)


@flow(name="shop-prices")
def shop_prices() -> int:
    """Prices of twelve articles; the limits say how many at once."""
    early = keep_prices.map([[float(part)] for part in range(3)])
    prices = ask_price.map(range(12))
    return keep_prices(prices.result()) + len(early.result())


if __name__ == "__main__":
    shop_night()
