"""What is wrong with rows, collected so that a person hears of all of it at once."""

from dataclasses import dataclass, field

from edgeloop.errors import DatasetError

MAX_PROBLEMS_SHOWN = 20
SHOWN_CHARACTERS = 60


@dataclass
class Problems:
    """What is wrong with the rows: the first few in words, the rest counted; and what is not wrong
    but should be known (`warnings`)."""

    count: int = 0
    shown: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add(self, problem: str) -> None:
        """Note one problem."""
        self.count += 1
        if len(self.shown) < MAX_PROBLEMS_SHOWN:
            self.shown.append(problem)

    def raise_if_any(self) -> None:
        """Raises DatasetError that lists the problems, one per line."""
        if self.count:
            more = self.count - len(self.shown)
            raise DatasetError("\n".join(self.shown + [f"and {more} more"] * (more > 0)))


def shown(value: str) -> str:
    """A value as a message has it: cut where it is long."""
    return value if len(value) <= SHOWN_CHARACTERS else f"{value[:SHOWN_CHARACTERS]}…"
