"""How a budget is shared out: in proportion, or as water fills a vessel. Exact, and blind to order."""

from __future__ import annotations

import heapq
from collections.abc import Mapping

from training.errors import DataError

Caps = Mapping[str, float]


def largest_remainder(weights: Mapping[str, float], total: int) -> dict[str, int]:
    """Share ``total`` out in proportion to ``weights``; the counts sum to ``total`` exactly.

    Ties go to the name that sorts first, so that the order of the mapping never matters.

    Raises:
        DataError: no weight is positive.
    """
    names = sorted(weights)
    mass = sum(weights[name] for name in names)
    if mass <= 0:
        raise DataError("no class has a positive weight", cure="give the planner classes with clips")
    ideal = {name: total * weights[name] / mass for name in names}
    counts = {name: int(ideal[name]) for name in names}
    left = total - sum(counts.values())
    eligible = [name for name in names if weights[name] > 0]
    order = sorted(eligible, key=lambda n: (-(ideal[n] - counts[n]), n))
    for step in range(left):
        counts[order[step % len(order)]] += 1
    return counts


def proportional(weights: Mapping[str, float], total: int, caps: Caps) -> dict[str, int]:
    """As :func:`largest_remainder` with at most ``caps[name]`` each; what is cut goes to the others.

    Raises:
        DataError: the classes with a positive weight cannot hold ``total``.
    """
    names = sorted(name for name in weights if weights[name] > 0)
    check_room({name: caps[name] for name in names}, total)
    fixed: dict[str, int] = {}
    while True:
        free = {name: weights[name] for name in names if name not in fixed}
        shares = largest_remainder(free, total - sum(fixed.values())) if free else {}
        over = {name: int(caps[name]) for name, count in shares.items() if count > caps[name]}
        if not over:
            return {**fixed, **shares}
        fixed |= over


def water_fill(have: Mapping[str, int], total: int, caps: Caps) -> dict[str, int]:
    """Spend ``total`` so that the smallest classes rise to one count.

    Each clip goes to the smallest class that has room; among equals to the one with fewer clips at first, then
    by name.

    Raises:
        DataError: there are no classes, or they cannot hold ``total``.
    """
    check_room({name: caps[name] for name in have}, total)
    queue = [(have[name], have[name], name) for name in have if caps[name] >= 1]
    heapq.heapify(queue)
    spent = dict.fromkeys(sorted(have), 0)
    for _ in range(total):
        _, first, name = heapq.heappop(queue)
        spent[name] += 1
        if spent[name] + 1 <= caps[name]:
            heapq.heappush(queue, (first + spent[name], first, name))
    return {name: count for name, count in spent.items() if count}


def check_room(caps: Caps, total: int) -> None:
    """Refuse a budget that the classes cannot hold.

    Raises:
        DataError: names what they can hold.
    """
    if not caps:
        raise DataError("no class to plan for", cure="give the planner classes with clips")
    room = sum(caps.values())
    if room < total:
        raise DataError(
            f"the budget is {total} clips, the classes have {room:.0f} distinct draws together",
            cure=f"lower budget to {room:.0f} or less" if room else "use a larger corpus",
        )
