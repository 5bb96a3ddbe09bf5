"""Names people can say for runs that were given none, made from the run's number."""

from __future__ import annotations

from typing import Final

_FIRST: Final = [
    "amber", "bold", "brave", "brisk", "bright", "calm", "clear", "clever", "cosy", "crisp", "daring", "deft",
    "eager", "early", "fair", "fleet", "fond", "frank", "free", "fresh", "gentle", "glad", "golden", "grand",
    "happy", "hardy", "honest", "jolly", "keen", "kind", "lively", "loyal", "lucid", "lucky", "mellow", "merry",
    "mild", "modest", "neat", "nimble", "noble", "patient", "placid", "plucky", "polite", "prime", "proud", "quick",
    "quiet", "rapid", "ready", "rosy", "sharp", "sleek", "smart", "snug", "solid", "spry", "steady", "sturdy",
    "sunny", "swift", "tidy", "warm",
]  # fmt: skip
_SECOND: Final = [
    "badger", "beaver", "bison", "bream", "carp", "condor", "cougar", "crane", "curlew", "dingo", "dolphin", "dove",
    "eagle", "egret", "eland", "falcon", "ferret", "finch", "fox", "gannet", "gecko", "gibbon", "grouse", "hare",
    "heron", "ibex", "ibis", "jackal", "jay", "kestrel", "kite", "koala", "lark", "lemur", "linnet", "lynx",
    "magpie", "marten", "mink", "mole", "newt", "ocelot", "orca", "oriole", "osprey", "otter", "owl", "panda",
    "perch", "petrel", "pike", "plover", "puffin", "quail", "raven", "robin", "seal", "shrew", "stoat", "stork",
    "swan", "tapir", "tern", "wren",
]  # fmt: skip
_STEP: Final = 2_531
"""Odd, so that consecutive numbers give unlike names and 4 096 numbers in a row give 4 096 names."""


def default_name(run_id: int) -> str:
    """``steady-heron`` and the like: the same for the same number."""
    place = (run_id * _STEP) % (len(_FIRST) * len(_SECOND))
    return f"{_FIRST[place // len(_SECOND)]}-{_SECOND[place % len(_SECOND)]}"
