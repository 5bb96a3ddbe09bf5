"""What masking costs who prints and logs: lines a second of a run that knows secrets, beside one that knows none."""

from __future__ import annotations

from collections.abc import Iterator

from .measure import PYTHON, REPORT, Measure, bench, median

SAYING = REPORT + """
import sys, time
from flowdeck import Secret, flow, get_run_logger

LINE = "2026-11-30 08:00:01 INFO pipeline.extract loaded 1523 rows from warehouse.table_7 in 0.35 s"

@flow
def saying(count: int, secrets: int):
    for number in range(secrets):
        Secret(value=f"hk3J-{number:04d}-zQ7vXe_{number * 7919:06x}-pLm")
    logger = get_run_logger()
    rates = {}
    for name, say in (("print", print), ("logger", logger.info)):
        begun = time.perf_counter()
        for _ in range(count):
            say(LINE)
        rates[name] = count / (time.perf_counter() - begun)
    report(**rates)

if __name__ == "__main__":
    saying(int(sys.argv[1]), int(sys.argv[2]))
"""
LINES = 30_000
SECRETS = (1, 20)


def rates(secrets: int, count: int) -> dict[str, float]:
    """Lines a second through ``print`` and the logger, in a run that knows so many secrets."""
    with bench() as here:
        process = here.start([*PYTHON, str(here.script("saying.py", SAYING)), str(count), str(secrets)])
        here.wait((here.root / "figures").exists, seconds=120)
        process.wait()
        found: dict[str, float] = here.figures()
    return found


def run(*, quick: bool) -> Iterator[Measure]:
    """Rounds with and without secrets in turn."""
    rounds = [{known: rates(known, LINES) for known in (0, *SECRETS)} for _ in range(1 if quick else 7)]
    for known in SECRETS:
        for way in ("print", "logger"):
            ratio = median([each[0][way] / each[known][way] for each in rounds])
            ours, floor = (median([each[number][way] for each in rounds]) for number in (known, 0))
            yield Measure(
                "masking", f"lines by {way} in a run that knows {known} secrets", ours, "/s", floor,
                "a run that knows none", ratio, "≤ 1.10×", ratio <= 1.10, f"{LINES:,} lines",
            )  # fmt: skip
