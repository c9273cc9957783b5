"""
Where requests come in, whatever protocol they came by: admitted before their bodies are decoded, numbered, queued, copied.

It knows routes and pools and nothing about why they change; the conductor puts a whole `Route` in place with one
assignment.
"""

import secrets
from collections.abc import Callable, Sequence
from typing import Any, Final

from lastgood.errors import NotFoundError, UnavailableError
from lastgood.serving.gateway.brake import Brake
from lastgood.serving.gateway.changes import Changes
from lastgood.serving.gateway.errors import NothingUpError
from lastgood.serving.gateway.inference import Copy, Desk, Inference
from lastgood.serving.gateway.meters.collector import PlaneCollector
from lastgood.serving.gateway.meters.meters import RoleMeter, TrafficLabels
from lastgood.serving.gateway.pool.fallback import takes_same
from lastgood.serving.gateway.pool.pool import ReplicaPool
from lastgood.serving.gateway.protocol.codec import Codec
from lastgood.serving.gateway.route import Lane, Route, Tally
from lastgood.serving.gateway.wakefulness import Wakefulness

OnLabels = Callable[[str, Sequence[str], Sequence[int], float], bool]  # model, request ids, labels, Unix time
_SLICES: Final = 17  # by model, with the one without a name


class Reception:
    """Routes, pools, and what writes and counts their answers; belongs to one event loop."""

    def __init__(self, wakefulness: Wakefulness | None = None) -> None:
        """Begin without a model; told of each request is whoever keeps the loop awake."""
        self.routes: dict[str, Route] = {}
        self.pools: dict[tuple[str, int], ReplicaPool] = {}
        self.collector = PlaneCollector(self.pools.values)
        self.on_labels: OnLabels | None = None  # takes labels of requests; says whether it could
        self.brake = Brake()
        self._wakefulness = wakefulness or Wakefulness(0.0)
        self.changes = Changes()  # told when `ready` may have changed
        self._direct: dict[tuple[str, int], Lane] = {}
        self._codecs: dict[tuple[str, int], Codec] = {}
        self._suspended: set[str] = set()
        self._traffic = TrafficLabels("production")
        self._slices: dict[str, TrafficLabels] = {}
        self._last_id = 0
        self._last_serial = 0
        self._id_prefix = secrets.token_hex(4)

    # --- what the conductor does ---------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether every model has a version for its traffic that is ready, or sleeps and can be woken."""
        return not self._suspended and all(route.main.pool.available for route in self.routes.values())

    def add_pool(self, pool: ReplicaPool) -> None:
        """Know a version's replicas; it gets traffic when a route says so."""
        key = (pool.model, pool.number)
        self.pools[key] = pool
        pool.on_change = self.changes.tell
        self._codecs[key] = Codec(pool.model, pool.number, pool.content, joins=pool.joins)
        # No role and no one's evidence: whoever names a version takes no part in a rollout.
        self._direct[key] = Lane(pool, "live", Tally(), float("inf"))

    def remove_pool(self, pool: ReplicaPool) -> None:
        """Forget a version's replicas; what was submitted is still answered, see `ReplicaPool.stop`."""
        key = (pool.model, pool.number)
        if self.pools.get(key) is pool:
            del self.pools[key], self._codecs[key], self._direct[key]
            self.collector.retire(pool)

    def set_route(self, route: Route) -> None:
        """Put a route in place; requests already dealt keep their lane. The pools of its lanes were added before."""
        self._suspended.discard(route.model)
        self.routes[route.model] = route
        self._slices.setdefault(route.model, TrafficLabels("", limit=_SLICES))
        self.changes.tell()

    def suspend(self, model: str) -> None:
        """Keep a model's name while nothing of it is up: whoever asks is told to try again."""
        self.remove_route(model)
        self._suspended.add(model)
        self.changes.tell()

    def remove_route(self, model: str) -> None:
        """Serve a model no more; removing what is not there changes nothing."""
        self._suspended.discard(model)
        self.routes.pop(model, None)
        self.changes.tell()

    # --- who answers ---------------------------------------------------------------------------------------------

    def find_route(self, model: str) -> Route:
        """
        Give a model's route.

        Raises:
            NothingUpError: Nothing of it is up now.
            NotFoundError: There is no such model.
        """
        route = self.routes.get(model)
        if route is not None:
            return route
        if model in self._suspended:
            raise NothingUpError(f"No version of {model!r} is up; try again. Whoever runs the gateway sees why: lastgood status.")
        known = ", ".join(sorted(self.routes)) or "none"
        raise NotFoundError(f"No model {model[:80]!r} is served here; there are: {known}.")

    def find_lane(self, model: str, version: str | None) -> Lane:
        """
        Give the lane of a version that is named, or of the main one, for its description.

        Raises:
            NothingUpError: Nothing of the model is up now.
            NotFoundError: There is no such model, or no such version in its route.
        """
        route = self.find_route(model)
        if version is None:
            return route.main
        lanes = find_lanes(route)
        for lane in lanes:
            if str(lane.pool.number) == version:
                return lane
        known = ", ".join(str(lane.pool.number) for lane in lanes)
        raise NotFoundError(f"{model} has no version {version[:20]!r} in its route; there are: {known}.")

    def describe(self, model: str, version: str | None) -> dict[str, Any]:
        """
        Give the protocol's metadata of a version that is named, or of the main one, and the numbers of all in the route.

        Raises:
            NothingUpError: Nothing of the model is up now.
            NotFoundError: There is no such model, or no such version in its route.
        """
        lane = self.find_lane(model, version)
        return self.find_desk(lane).codec.metadata([own.pool.number for own in find_lanes(self.find_route(model))])

    def deal(self, model: str, version: str | None) -> Lane:
        """
        Deal a request: by the route's coin, or to the version it names.

        Raises:
            NothingUpError: Nothing of the model is up now.
            NotFoundError: There is no such model, or no such version in its route.
        """
        if version is None:
            return self.find_route(model).assign()
        lane = self.find_lane(model, version)
        return self._direct.get((lane.pool.model, lane.pool.number), lane)

    def find_desk(self, lane: Lane) -> Desk:
        """Give what writes and counts the answers of the version a lane leads to, also when it was removed a moment ago."""
        pool = lane.pool
        key = (pool.model, pool.number)
        known = self.pools.get(key)
        seconds = pool.limits.deadline_seconds
        if known is None:
            return Desk(Codec(pool.model, pool.number, pool.content, joins=False), RoleMeter(), None, seconds, self.find_desk)
        return Desk(self._codecs[key], known.meter.role(lane.role), known, seconds, self.find_desk)

    # --- requests ------------------------------------------------------------------------------------------------

    def label_traffic(self, name: bytes | None) -> str:
        """Give metrics' label for the traffic that a client says it is."""
        return self._traffic.label(name)

    def label_slice(self, model: str, name: bytes) -> str:
        """Give the label for the part of a model's traffic that a client says its request belongs to."""
        return self._slices[model].label(name)

    def admit(self, lane: Lane, traffic: str) -> Desk:
        """
        Let a request in before its body is decoded, and give what writes and counts its answer.

        Raises:
            NothingUpError: Nothing is up.
            BusyError: Too much waits; it is to be tried again.
        """
        desk = lane.desk
        if desk is None:
            desk = self.find_desk(lane)
            lane.desk = None if desk.pool is None else desk
        pool = desk.pool
        if pool is None:
            raise NothingUpError(f"{lane.pool.model}@{lane.pool.number} is not up; try again.")
        try:
            pool.check_room()
        except UnavailableError:
            desk.meter.count(traffic, "refused")
            raise
        return desk

    def make_id(self) -> str:
        """Give the next id for a request that has none."""
        self._last_id += 1
        return f"{self._id_prefix}-{self._last_id}"

    def take(self, inference: Inference) -> None:
        """
        Queue a request, with its copy for a shadow.

        Raises:
            BusyError: Its client asked for an answer earlier than there can be one.
        """
        lane, pool = inference.lane, inference.desk.pool
        assert pool is not None  # noqa: S101  # it was admitted
        if inference.hurried:
            try:
                pool.check_room(inference.deadline - inference.arrived)
            except UnavailableError:
                inference.drop()
                raise
        self._wakefulness.note(inference.arrived)
        pool.submit(inference)
        if lane.copies_to is not None:
            self._copy(inference, lane.copies_to)

    def _copy(self, inference: Inference, shadow: Lane) -> None:
        known = self.pools.get((shadow.pool.model, shadow.pool.number))
        if known is not None and takes_same(shadow.pool.content, inference.lane.pool.content):
            self._last_serial += 1
            inference.serial = self._last_serial
            shadow.pool.submit(Copy(inference, shadow, known.meter.role("shadow")))


def find_lanes(route: Route) -> Sequence[Lane]:
    """Give a lane for each version that a route leads to, the main one first."""
    # While a shadow gets copies, the second lane is the same version's.
    return [route.main] if route.candidate is None or route.candidate.pool is route.main.pool else [route.main, route.candidate]
