"""A model's state as the control plane shows it: who gets what, what a rollout waits for, and what the judge sees."""

import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from lastgood.serving.gateway.rollouts.book import Book, Held
from lastgood.serving.gateway.rollouts.shelf import Shelf
from lastgood.serving.gateway.rollouts.state import Taking, withdraw
from lastgood.serving.rollout.course import needed
from lastgood.serving.rollout.table import RUNNING, Pin, Rollout, State


def describe(book: Book, shelf: Shelf, held: Held) -> dict[str, Any]:
    """Give the state as JSON values."""
    state, split = held.state, held.state.split
    bad = state.running.candidate if state.running else state.live
    return {
        "model": state.model,
        "change": book.changes,
        "generation": held.generation,
        "live": _pin(state.live),
        "stable": _pin(state.stable),
        "lanes": [
            {**asdict(pin), "role": role, "share": share, "since": state.episodes[pin.digest], **_replicas(shelf, state.model, pin)}
            for pin, role, share in list_lanes(held)
            if pin.digest in state.episodes
        ],
        "shadow": None if split.shadow is None else {**asdict(split.shadow), **_replicas(shelf, state.model, split.shadow)},
        "rollout": None if state.rollout is None else _rollout(state.rollout),
        "reason": held.reason,
        "reason_code": held.reason_code,
        "progress": _progress(held),
        "evidence": [] if held.verdict is None else [asdict(test) for test in held.verdict.tests],
        "frozen": state.frozen,
        "warm": [asdict(pin) for pin in sorted(state.warm, key=lambda pin: pin.number)],
        "would_take_out": _pin(bad),
        "would_return_to": None if bad is None or split.main is None else _pin(_next_main(book, held, bad)),
    }


def list_lanes(held: Held) -> list[tuple[Pin, str, float]]:
    """Give each version in the route with its role and its share."""
    split, running = held.state.split, held.state.running
    lanes: list[tuple[Pin, str, float]] = []
    if split.main is not None:
        watched = running is not None and running.state is not State.STAGED
        role = "live" if not watched else "candidate" if running is not None and split.main == running.candidate else "baseline"
        lanes.append((split.main, role, 1 - split.share))
    if split.candidate is not None:
        lanes.append((split.candidate, "candidate", split.share))
    return lanes


def _replicas(shelf: Shelf, model: str, pin: Pin) -> dict[str, Any]:
    pool = shelf.get(model, pin)
    if pool is None:
        return {"ready": False, "sleeping": False, "replicas": None}
    own = pool.serving
    replicas = {
        "wanted": own.count(),
        "pids": pool.pids,
        "threads": own.threads,
        "providers": pool.providers,
        "memory_bytes": own.memory_bytes,
    }
    return {"ready": pool.available, "sleeping": pool.bed.asleep, "replicas": replicas}


def _rollout(rollout: Rollout) -> dict[str, Any]:
    value = rollout.to_json()
    return {**{name: value[name] for name in value if name != "policy"}, "steps": list(rollout.policy.steps)}


def _progress(held: Held) -> dict[str, Any] | None:
    running, counts = held.state.running, held.counts
    if running is None or running.state not in RUNNING or counts is None or counts.rollout != running.id or not counts.steps:
        return None
    requests, seconds = needed(running)
    current = counts.steps[-1]
    return {
        "requests": current.candidate.tally.requests,
        "requests_needed": requests,
        "seconds": round(time.monotonic() - current.began, 3),
        "seconds_needed": seconds,
        "counts": [asdict(step) for step in counts.freeze()],
        "pairs": asdict(counts.pairs),
    }


def _next_main(book: Book, held: Held, bad: Pin) -> Pin | None:
    change = withdraw(held.state, Taking(bad.digest, "person", datetime.now(UTC), vetoed=frozenset(book.vetoed)))
    return None if change.state is held.state else change.state.split.main


def _pin(pin: Pin | None) -> dict[str, Any] | None:
    return None if pin is None else asdict(pin)
