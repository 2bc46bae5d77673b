"""How far a loop is, over all planners and rounds, and about how long the rest takes."""

from __future__ import annotations

from dataclasses import dataclass, field

from training.progress import about, console


@dataclass
class Pace:
    """Counts closed rounds. A round takes as long as the rounds did that this process worked on.

    Round 0 is left out of the estimate where there is another: it makes the corpus, and all planners share it.
    """

    planners: int
    rounds: int
    closed: int = 0
    seconds: float = 0.0  # of the round under way
    first: float = 0.0
    later: list[float] = field(default_factory=list)

    def done(self, planner: str, node: str, number: int, seconds: float) -> None:
        """Note a step; print the estimate where it closes a round."""
        self.seconds += seconds
        if node != "validate":
            return
        self.closed += 1
        if number == 0:
            self.first = max(self.first, self.seconds)
        elif self.seconds > 0:
            self.later.append(self.seconds)
        self.seconds = 0.0
        left = self.left(self.rounds - number)
        if left is not None:
            total = self.planners * (self.rounds + 1)
            console.print(f"[dim]{self.closed} of {total} rounds, {left} left[/]", highlight=False)

    def left(self, of_this: int) -> str | None:
        """Time left, where ``of_this`` rounds of this planner remain; None where that cannot be said."""
        others = self.planners - -(-self.closed // (self.rounds + 1))
        rounds = of_this + others * self.rounds
        one = sum(self.later) / len(self.later) if self.later else self.first
        if not rounds or one == 0:
            return None
        return about(one * rounds)
