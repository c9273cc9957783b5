"""
The real conductor, driven at random: real SQLite registry, journal file and alerts; crashes and lost databases at its writes.

What a crash leaves on disk is what the next conductor starts from.
"""

import asyncio
import contextlib
import random
import shutil
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from conductors import POLICY, VERSIONS, make_settings, start
from faults import Crash, Fault
from place import MODEL

from lastgood.errors import LastgoodError
from lastgood.registry.registry import Registry
from lastgood.serving.gateway.rollouts.alerts import Alert
from lastgood.serving.gateway.rollouts.conductor import Conductor
from lastgood.serving.gateway.rollouts.intents import Intent
from lastgood.serving.gateway.rollouts.state import ModelState
from lastgood.serving.gateway.rollouts.withdrawals import Reason
from lastgood.serving.rollout.table import EventKind

STEPS = 40
PATIENCE_SECONDS = 10.0
# Nothing of the product ends a process for these; a rollout goes on by whatever comes.
GOING_ON = (
    EventKind.STEP_PASSED,
    EventKind.SOAK_PASSED,
    EventKind.SHADOW_PASSED,
    EventKind.SUSPECTED,
    EventKind.CLEARED,
    EventKind.PROMOTE,
)


class Conducted:
    """One schedule."""

    def __init__(self, origin: Path, folder: Path, chance: random.Random) -> None:
        """Copy the installation; `run` drives."""
        shutil.copytree(origin, folder)
        self.folder = folder
        self.chance = chance
        self.settings = make_settings(folder)
        self.alerts: list[Alert] = []
        self.problems: list[str] = []
        self.done: list[str] = []
        self.steps = self.crashes = self.lost = self.withdrawals = 0

    def remove(self) -> None:
        """Remove what was copied."""
        shutil.rmtree(self.folder, ignore_errors=True)

    async def run(self) -> None:
        """Drive the schedule and look at what is left."""
        conductor = await self._start()
        for _ in range(STEPS):
            self.steps += 1
            try:
                await self._step(conductor)
            except Crash:
                self.done.append("crash")
            except LastgoodError:
                pass  # a refusal is an answer
            except TimeoutError:
                self.problems.append(f"{self.done[-1]} does not end within {PATIENCE_SECONDS} s")
            if Fault.dead:
                self.crashes += 1
                await self._bury(conductor)
                conductor = await self._start()
            self._look(conductor)
        Fault.crash_after, Fault.away = None, False
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await conductor.withdrawals.settle()
        except TimeoutError:
            self.problems.append(f"a decision is not recorded within {PATIENCE_SECONDS} s")
        await conductor.close()
        self._audit(conductor)
        if self.problems:
            self.problems = [f"{'; '.join(self.problems)}: {' → '.join(self.done)}"]

    async def _start(self) -> Conductor:
        Fault.heal()
        return await start(self.settings)

    async def _bury(self, conductor: Conductor) -> None:
        """Let nothing of a dead process go on; what it wrote stays."""
        own = asyncio.current_task()
        tasks = [task for task in asyncio.all_tasks() if task is not own]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, *conductor._watching, return_exceptions=True)  # noqa: SLF001 - what crashed there was seen here
        with contextlib.suppress(Crash):
            await conductor.record.close()
        conductor._journal.close()  # noqa: SLF001 - as the system closes it

    async def _step(self, conductor: Conductor) -> None:
        steps: tuple[tuple[float, Callable[[Conductor], Any]], ...] = (
            (3, self._release),
            (4, self._go_on),
            (2, self._judge),
            (3, self._begin_alert),
            (3, self._repeat_alert),
            (1, self._roll_back),
            (1, self._lift),
            (1, self._unfreeze),
            (6 if Fault.away else 1, self._toggle_database),
            (2, self._arm),
            (3, self._wait),
        )
        (chosen,) = self.chance.choices([step for _, step in steps], [weight for weight, _ in steps])
        self.done.append(chosen.__name__.strip("_"))
        async with asyncio.timeout(PATIENCE_SECONDS):
            await chosen(conductor)

    def _state(self, conductor: Conductor) -> ModelState:
        held = conductor.book.held.get(MODEL)
        return ModelState(MODEL) if held is None else held.state

    async def _release(self, conductor: Conductor) -> None:
        number, strategy = self.chance.randint(1, VERSIONS), self.chance.choice(("canary", "direct", "shadow"))
        await self._unless_away(
            conductor.submit(Intent(f"{MODEL}@{number}", strategy, POLICY, "ada", "a schedule", replace=self.chance.random() < 0.3))
        )

    async def _go_on(self, conductor: Conductor) -> None:
        running = self._state(conductor).running
        if running is not None:
            kind = self.chance.choice(GOING_ON)
            await conductor._stages.advance(conductor.book.held[MODEL], kind, running.id)  # noqa: SLF001 - as the watch does

    async def _judge(self, conductor: Conductor) -> None:
        running = self._state(conductor).running
        if running is not None and running.state != "staged":
            conductor.withdrawals.take(MODEL, running.candidate, Reason("judge", "judge", "bad", payload={"rollout": running.id}))

    async def _begin_alert(self, conductor: Conductor) -> None:
        split = self._state(conductor).split
        pins = [pin for pin in (split.main, split.candidate) if pin is not None]
        if pins:
            pin, action = self.chance.choice(pins), self.chance.choice(("rollback", "compare"))
            self.alerts.append(Alert("A", True, MODEL, pin.number, action, datetime.now(UTC), "bad", f"{len(self.alerts)}"))
            await conductor.hear(self.alerts[-1])

    async def _repeat_alert(self, conductor: Conductor) -> None:
        if self.alerts:
            await conductor.hear(self.chance.choice(self.alerts))

    async def _roll_back(self, conductor: Conductor) -> None:
        if MODEL in conductor.book.held:
            reason = Reason("person", "ada", "a schedule", tombstone=self.chance.random() < 0.5)
            await self._unless_away(conductor.rollback(MODEL, to=None, reason=reason))

    async def _lift(self, conductor: Conductor) -> None:
        if conductor.book.vetoed:
            await self._unless_away(conductor.lift(self.chance.choice(sorted(conductor.book.vetoed)), actor="ada", why="a schedule"))

    async def _unfreeze(self, conductor: Conductor) -> None:
        if MODEL in conductor.book.held:
            await self._unless_away(conductor.unfreeze(MODEL, actor="ada", why="a schedule"))

    async def _unless_away(self, work: Any) -> None:
        """Wait as a client does that gives up: while the database is away, or the process dead, an answer may never come."""
        task = asyncio.ensure_future(work)
        while not task.done() and not Fault.dead:
            await asyncio.wait([task], timeout=0.02)
            if Fault.away:
                await asyncio.wait([task], timeout=0.05)
                break
        if task.done():
            await task
        elif Fault.dead:
            raise Crash
        else:
            task.add_done_callback(lambda own: own.cancelled() or own.exception())  # nobody reads its answer

    async def _toggle_database(self, conductor: Conductor) -> None:
        del conductor
        Fault.away = not Fault.away
        self.lost += Fault.away

    async def _arm(self, conductor: Conductor) -> None:
        del conductor
        Fault.crash_after = self.chance.randint(1, 12)

    async def _wait(self, conductor: Conductor) -> None:
        await conductor.book.wait_for_news(0.02)

    def _look(self, conductor: Conductor) -> None:
        """Look at who is served now."""
        route = conductor.reception.routes.get(MODEL)
        if route is None:
            return
        pools = [route.main.pool, *([route.candidate.pool] if route.candidate else [])]
        for pool in pools:
            if pool.digest in conductor.book.vetoed:
                self.problems.append(f"version {pool.number} is tombstoned and has a route")

    def _audit(self, conductor: Conductor) -> None:
        """Look at what is recorded when all is over."""
        with Registry.open(self.settings, writer="check") as registry:
            events, route, tombstones = registry.events(model=MODEL), registry.route(MODEL), set(registry.tombstones())
            self.problems += [str(problem) for problem in registry.verify().problems]
            aliases = {name: alias.digest for name, alias in registry.aliases(MODEL).items()}
        incidents: Counter[str] = Counter()
        for own in events:
            if own.kind == "withdrawn" and own.payload["cause"] in {"judge", "alert"}:
                self.withdrawals += 1
                alert = own.payload.get("alert")
                incidents[f"{own.payload.get('rollout')}" if alert is None else f"{alert['fingerprint']} {own.digest}"] += 1
        self.problems += [f"{count} withdrawals because of {name}" for name, count in incidents.items() if count > 1]
        state = ModelState(MODEL) if route is None else ModelState.from_json(route.body)
        if state != self._state(conductor) and MODEL in conductor.book.held:
            self.problems.append("memory and record differ")
        if tombstones != conductor.book.vetoed:
            self.problems.append("vetoes and tombstones differ")
        split = state.split
        if bad := [pin.number for pin in (split.main, split.candidate, split.shadow) if pin is not None and pin.digest in tombstones]:
            self.problems.append(f"versions {bad} are tombstoned and in the recorded route")
        for name, pin in (("live", state.live), ("stable", state.stable)):
            if aliases.get(name) != (pin.digest if pin else None):
                self.problems.append(f"the alias {name} and the route differ")
