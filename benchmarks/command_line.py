"""The command line from its start to its end, on a store with a thousand runs."""

from __future__ import annotations

from collections.abc import Iterator

from .measure import FLOWDECK, PYTHON, Measure, bench, median, pairs, seconds_of, spread
from .seeded_store import seed


def run(*, quick: bool) -> Iterator[Measure]:
    with bench() as here:
        seed(here.store, runs=1000)
        commands = (("--help", 150.0), ("ls", 250.0), ("ls --json", None), ("show 1000", None))
        for words, budget in commands:
            command = [*FLOWDECK, *words.split()]
            seconds_of(command, environment=here.environment)
            floors, ours = pairs(
                5 if quick else 20,
                lambda: seconds_of([*PYTHON, "-c", "pass"], cwd=here.root) * 1000,
                lambda command=command: seconds_of(command, environment=here.environment, cwd=here.root) * 1000,
            )
            figure = median(ours)
            yield Measure(
                "command_line", f"flowdeck {words}", figure, "ms", median(floors), "python -c pass",
                median([mine / floor for floor, mine in zip(floors, ours, strict=True)]),
                f"≤ {budget:.0f} ms" if budget else "", figure <= budget if budget else None, spread(ours),
            )  # fmt: skip
