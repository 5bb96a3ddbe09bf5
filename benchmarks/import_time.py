"""``from flowdeck import flow, task`` over bare Python, and which heavy modules it leaves alone."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

from .measure import PYTHON, Measure, bench, median, pairs, seconds_of, spread

HEAVY = (
    "sqlalchemy", "sqlmodel", "textual", "rich", "asyncio", "pydantic", "tenacity", "croniter", "cloudpickle",
    "alembic",
)  # fmt: skip
IMPORT = "from flowdeck import flow, task"
DECORATE = IMPORT + "\n@task\ndef step(): pass\n@flow\ndef run(n: int = 1): pass"


def run(*, quick: bool) -> Iterator[Measure]:
    rounds = 7 if quick else 25
    with bench() as here:
        for what, code in ((IMPORT, IMPORT), ("the same with one task and one flow decorated", DECORATE)):
            seconds_of([*PYTHON, "-c", code])
            floors, ours = pairs(
                rounds,
                lambda: seconds_of([*PYTHON, "-c", "pass"], cwd=here.root) * 1000,
                lambda code=code: seconds_of([*PYTHON, "-c", code], cwd=here.root) * 1000,
            )
            over = median([mine - floor for floor, mine in zip(floors, ours, strict=True)])
            check = f"{code}\nimport sys; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
            done = subprocess.run([*PYTHON, "-c", check], capture_output=True, text=True, check=True, cwd=here.root)
            loaded = done.stdout.split()
            yield Measure(
                "import_time", what, over, "ms", median(floors), "python -c pass (ours is what comes on top)", None,
                "≤ 60 ms, none heavy", over <= 60 and not loaded,
                f"loaded: {', '.join(loaded) or 'none'} of {len(HEAVY)} heavy modules; {spread(ours)}",
            )  # fmt: skip
