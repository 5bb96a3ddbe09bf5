"""What the console's threads tell its app: news have come, a request was answered, a question was looked up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.message import Message

from .asks import Answer, Planned

if TYPE_CHECKING:
    from ..store.rows import InputRow


class Arrived(Message):
    """The feed has news."""


class Answered(Message):
    """A request was answered."""

    def __init__(self, answer: Answer | Planned) -> None:
        super().__init__()
        self.answer = answer


class Asked(Message):
    """What a run asks has been looked up."""

    def __init__(self, run_id: int, requests: list[InputRow]) -> None:
        super().__init__()
        self.run_id = run_id
        self.requests = requests
