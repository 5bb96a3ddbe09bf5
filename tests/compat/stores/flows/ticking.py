"""A flow with schedules, and one that is only ever asked for."""

from flowdeck import Cron, Interval, flow, task
from notes import Notes

noted = Notes("ticking")


@task
def tick(who):
    noted.ran(f"tick of {who}")
    return who


@flow(schedules=[
    Interval(4, slug="often", catchup="none", parameters={"who": "often"}),
    Cron("0 6 1 1 *", "Europe/Oslo", slug="yearly", catchup="none", parameters={"who": "yearly"}),
], tags=["kept"])  # fmt: skip
def ticking(who: str = "nobody") -> str:
    """Ticks."""
    return tick(who)


@flow
def queued(numbers: list[int], city: str = "Oslo") -> int:
    Notes("queued").got("parameters", [numbers, city])
    return sum(numbers)
