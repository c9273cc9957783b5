"""
Releases in simulation: the judge, the rollout's course and its table are the gateway's own; only traffic is drawn.

`release` sends requests one at a time. It draws them in stretches and finds, vectorised, where the evidence passes a
threshold: at every bad event and every 20 requests, as often as the gateway looks at 100 requests a second. What happens there
is decided by the real code on the real counts, so a screening that found too little would show as a disagreement, which is
an error. `release_crowded` keeps 64 requests in flight: every tick makes one batch of either role, and a batch with a bad
request is one incident.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lastgood.monitoring.judge.evidence import (
    OUTCOME_BETS,
    OUTCOME_STAKE,
    RATIO_BETS,
    Contrast,
    outcome_steps,
    ratio_steps,
    step_stake,
)
from lastgood.monitoring.judge.trace import Mark
from lastgood.monitoring.judge.verdict import SPENDING, SUSPICION, RoleCounts, StepCounts, Verdict, judge
from lastgood.serving.rollout.course import find_progress, find_suspicion, needed
from lastgood.serving.rollout.policy import RolloutPolicy
from lastgood.serving.rollout.table import RUNNING, Event, EventKind, Pin, Rollout, State, advance, route_of

Array = np.ndarray[Any, Any]
Rates = Callable[[Array], Array]  # request numbers to probabilities that the answer is bad
LOOK = 20  # requests between two looks
STRETCH = 8192  # requests drawn at once
TAIL = 64  # bad events whose marks are kept
FOREVER = 10**9  # requests that never come


@dataclass(frozen=True)
class Traffic:
    """What becomes of requests, by their number, in either role; both get the same pace."""

    candidate: Rates
    baseline: Rates
    per_second: float = 100.0


@dataclass
class Ended:
    """How a release ended, or where the requests did."""

    state: State
    requests: int
    bad_answers: int  # given by the candidate
    suspected: bool  # at any time
    moves: list[tuple[int, str]] = field(default_factory=list)


def same(rates: Rates) -> Traffic:
    """Give the traffic in which both roles do equally well."""
    return Traffic(rates, rates)


def level(rate: float) -> Rates:
    """Give a rate that stays."""
    return lambda numbers: np.full(len(numbers), rate)


class Release:
    """One release on its way: the rollout, its counts, its trace."""

    def __init__(self, policy: RolloutPolicy, state: State = State.CANARY) -> None:
        """Begin in a state."""
        old, new = Pin(1, "sha256:" + "1" * 64), Pin(2, "sha256:" + "2" * 64)
        self.rollout = Rollout("simulated", "m", new, old, old, policy=policy, state=state)
        self.done: list[StepCounts] = []
        self.counts = [0, 0, 0, 0]  # candidate bad, baseline bad, candidate all, baseline all
        self.tail: list[tuple[int, Array]] = []  # steps and rows of counts, of which marks are made when they are asked for
        self.forgiven = 0.0
        self.step_began = 0
        self.ended = Ended(state, 0, 0, suspected=False)

    @property
    def share(self) -> float:
        """The candidate's part now."""
        return route_of(self.rollout).share

    def steps(self, counts: list[int] | None = None) -> list[StepCounts]:
        """Give the counts as the judge takes them, of now or of an earlier moment in this step."""
        return [*self.done, StepCounts(self.share, *roles(self.counts if counts is None else counts))]

    def move(self, kind: EventKind, number: int) -> None:
        """Put an event to the table, and begin a step where the share or the state is another."""
        steps, before = self.steps(), (self.share, self.rollout.state, self.rollout.step)
        if kind is EventKind.CLEARED:
            self.forgiven = judge(steps, self.rollout.policy.judge, has_baseline=True).strongest
        cause = "judge" if kind is EventKind.BAD else None
        self.rollout, _ = advance(self.rollout, Event(kind, cause))
        self.ended.moves.append((number, kind.value))
        self.ended.suspected |= self.rollout.suspected
        if self.rollout.state not in RUNNING:
            return
        if (self.share, self.rollout.state, self.rollout.step) != before:
            self.done, self.counts, self.step_began = steps, [0, 0, 0, 0], number

    def keep(self, struck: Array) -> None:
        """Remember the last bad events of this step: rows of counts."""
        self.tail = [*self.tail, (len(self.done), struck[-TAIL:])][-TAIL:]

    def marks(self, struck: Array) -> list[Mark]:
        """Give the trace's end, with the bad events of the present stretch."""
        rows = [(step, row) for step, kept in [*self.tail[-TAIL:], (len(self.done), struck[-TAIL:])] for row in kept]
        return [Mark(step, *roles([int(value) for value in row])) for step, row in rows[-TAIL:]]

    def finish(self, number: int) -> Ended:
        """Say how it ended."""
        self.ended.state, self.ended.requests = self.rollout.state, number
        return self.ended


def roles(counts: list[int]) -> tuple[RoleCounts, RoleCounts]:
    """Give both roles' counts; a request is a batch of its own."""
    return RoleCounts(counts[2], counts[2], failed=counts[0]), RoleCounts(counts[3], counts[3], failed=counts[1])


def release(
    policy: RolloutPolicy, traffic: Traffic, most: int, random: np.random.Generator, *, state: State = State.CANARY, fresh: bool = True
) -> Ended:
    """
    Send requests one at a time until the version is out, stable, or ``most`` were sent.

    Args:
        policy: The release's.
        traffic: How often answers are bad.
        most: Requests at most.
        random: Where coins and answers are drawn from.
        state: Where it begins.
        fresh: Whether nothing was answered before; else 500 good requests were, in the state it begins in.
    """
    own = Release(policy, state)
    if not fresh:
        own.counts = [0, 0, round(500 * own.share), round(500 * (1 - own.share))]
    number = 0
    while number < most and own.rollout.state in RUNNING:
        number = _stretch(own, traffic, number, min(STRETCH, most - number), random)
    return own.finish(number)


def _stretch(own: Release, traffic: Traffic, number: int, length: int, random: np.random.Generator) -> int:
    """Go on until something happens or the stretch ends; give the number of the next request."""
    numbers = np.arange(number, number + length)
    coin = random.random(length) < own.share
    bad = random.random(length) < np.where(coin, traffic.candidate(numbers), traffic.baseline(numbers))
    kinds = (coin & bad, ~coin & bad, coin, ~coin)
    totals = np.stack([np.cumsum(kind) for kind in kinds], axis=1) + np.array(own.counts)
    looks = np.flatnonzero(bad | ((numbers + 1) % LOOK == 0))
    seen = totals[looks]
    evidence = screen(own, seen)
    threshold = -math.log(own.rollout.policy.alpha * SPENDING["broken"])
    struck = bad[looks]
    requests, seconds = needed(own.rollout)
    lasted = (number + looks + 1 - own.step_began) / traffic.per_second
    enough = (seen[:, 2] >= requests) & (lasted >= seconds)
    if own.rollout.suspected:
        # What clears a suspect changes slowly: every hundredth request is soon enough.
        enough &= struck | ((number + looks + 1) % 100 == 0)
    loud = (evidence - own.forgiven > SUSPICION - 1e-6) & (struck | (not own.rollout.suspected))
    in_row = _in_row(coin, bad)[looks]
    for at in np.flatnonzero((evidence >= threshold - 1e-6) | loud | in_row | enough):
        look = int(looks[at])
        counts = [int(value) for value in seen[at]]
        moved = _decide(own, counts, seen[: at + 1][struck[: at + 1]], (number + look + 1 - own.step_began) / traffic.per_second)
        if moved is not None:
            own.ended.bad_answers += int(kinds[0][: look + 1].sum())
            own.keep(seen[: at + 1][struck[: at + 1]])
            own.counts = counts
            own.move(moved, number + look + 1)
            return number + look + 1
    own.keep(seen[struck])
    own.counts = [int(value) for value in totals[-1]]
    own.ended.bad_answers += int(kinds[0].sum())
    return number + length


def screen(own: Release, seen: Array) -> Array:
    """Give ln e of broken answers for many moments of the present step, by the judge's own bets and factors."""
    tolerated, share = own.rollout.policy.tolerated_ratio, own.share
    done = [step.contrast(step.candidate.broken, step.baseline.broken) for step in own.done]
    number, logs = len(done), []
    due = ((seen[:, 2] + 1) * (1 - share) / share).astype(int)
    outcomes = np.stack([seen[:, 0], seen[:, 1], seen[:, 2] - seen[:, 0], np.minimum(seen[:, 3] - seen[:, 1], due)], axis=1)
    for index, (stake, factors) in enumerate(zip(OUTCOME_BETS.values(), outcome_steps(share, tolerated), strict=True)):
        base = math.log(sum(step_stake(first) * math.exp(_grown(done[first:], index, tolerated)) for first in range(number + 1)))
        logs.append(math.log(OUTCOME_STAKE * stake) + base + outcomes @ np.array(factors))
    kept = 1 - sum(step_stake(first) for first in range(number + 1))
    logs.append(np.full(len(seen), math.log(OUTCOME_STAKE * kept)))
    for index, (stake, factors) in enumerate(zip(RATIO_BETS.values(), ratio_steps(share, tolerated), strict=True)):
        earlier = [(c.candidate_bad, c.baseline_bad, ratio_steps(c.exposure, tolerated)[index]) for c in done]
        base = sum(hits * hit + misses * miss for hits, misses, (hit, miss) in earlier)
        logs.append(math.log((1 - OUTCOME_STAKE) * stake) + base + seen[:, :2] @ np.array(factors))
    stacked = np.stack(logs)
    top = stacked.max(axis=0)
    return np.asarray(top + np.log(np.exp(stacked - top).sum(axis=0)))


def _grown(done: list[Contrast], index: int, tolerated: float) -> float:
    return sum(each * count for c in done for each, count in zip(outcome_steps(c.part, tolerated * c.larger)[index], c[1:5], strict=True))


def _in_row(coin: Array, bad: Array, row: int = 8) -> Array:
    """Say at which requests the candidate's last eight answers were all bad."""
    at = np.flatnonzero(coin)
    found = np.zeros(len(coin), bool)
    if len(at) >= row:
        run = np.convolve(bad[at], np.ones(row), "valid") == row
        found[at[row - 1 :][run]] = True
    return found


def _decide(own: Release, counts: list[int], struck: Array, seconds: float) -> EventKind | None:
    """Ask the real judge and the real course."""
    steps = own.steps(counts)
    verdict: Verdict = judge(steps, own.rollout.policy.judge, has_baseline=True)
    if verdict.decision == "bad":
        return EventKind.BAD
    suspicion = find_suspicion(own.rollout, verdict, own.marks(struck), forgiven=own.forgiven)
    if suspicion is not None:
        return suspicion.kind
    progress = find_progress(own.rollout, steps, seconds=seconds)
    return None if progress is None else progress.kind


def release_crowded(
    policy: RolloutPolicy, random: np.random.Generator, *, most: int, failing: float, common: float, deaths: float = 0.0, width: int = 64
) -> Ended:
    """
    Keep ``width`` requests in flight until the version is out or ``most`` were sent.

    Args:
        policy: The release's; it begins in the canary.
        random: Where coins and answers are drawn from.
        most: Requests at most.
        failing: Probability that an answer of the candidate is bad.
        common: The same of the baseline.
        deaths: Probability, for each request, that a process dies: either role's, and the batch it held fails too.
        width: Requests in flight.
    """
    own = Release(policy)
    batches, dead, number = [0, 0], [0, 0], 0
    marks: list[Mark] = []
    while number < most and own.rollout.state in RUNNING:
        mine = int(random.binomial(width, own.share))
        sizes = (mine, width - mine)
        number += width
        rates = (failing, common)
        broken = [bool(size) and random.random() < 1 - (1 - rate) ** size for size, rate in zip(sizes, rates, strict=True)]
        died = random.random() < width * deaths
        if died:
            role = int(random.random() < 0.5)
            dead[role] += 1
            broken[role] = broken[role] or bool(sizes[role])
        for role in (0, 1):
            own.counts[role] += broken[role]
            own.counts[2 + role] += sizes[role]
            batches[role] += bool(sizes[role])
        own.ended.bad_answers += mine if broken[0] and failing == 1 else int(broken[0])
        if not (any(broken) or number % (width * 16) == 0):
            continue
        # What the candidate fails is known before the baseline's larger batch is answered.
        seconds = (number - own.step_began) / 1000
        steps = [*own.done, _crowded_step(own, batches, dead, seconds, unsettled=1)]
        verdict = judge(steps, policy.judge, has_baseline=True)
        if any(broken):
            marks = [*marks, Mark(len(own.done), steps[-1].candidate, steps[-1].baseline)][-TAIL:]
        move = None
        if verdict.decision == "bad":
            move = EventKind.BAD
        elif found := find_suspicion(own.rollout, verdict, marks, forgiven=own.forgiven) or find_progress(
            own.rollout, steps, seconds=(number - own.step_began) / 1000
        ):
            move = found.kind
        if move is not None:
            before = len(own.done)
            own.move(move, number)
            if len(own.done) > before:
                own.done[-1] = steps[-1]
                batches, dead = [0, 0], [0, 0]
    return own.finish(number)


def _crowded_step(own: Release, batches: list[int], dead: list[int], seconds: float, *, unsettled: int) -> StepCounts:
    candidate = RoleCounts(own.counts[2], batches[0], failed=own.counts[0], deaths=dead[0], process_seconds=seconds)
    baseline = RoleCounts(own.counts[3], batches[1], failed=own.counts[1], deaths=dead[1], process_seconds=seconds, unsettled=unsettled)
    return StepCounts(own.share, candidate, baseline)
