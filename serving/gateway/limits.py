"""How much the gateway takes on; every number that protects it, in one place."""

from dataclasses import dataclass, fields
from typing import Self

from lastgood.replicas import ReplicaSettings


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What one connection may ask for."""

    head_bytes: int = 16 * 1024  # request line and headers
    body_bytes: int = 16 * 1024 * 1024
    head_seconds: float = 10.0  # from the first byte of a request to the end of its headers
    body_seconds: float = 30.0  # from there to the end of its body
    answer_seconds: float = 30.0  # until the client has taken an answer
    half_closed_seconds: float = 0.1  # after a client's last byte, requests that still wait for a replica give way
    idle_seconds: float = 75.0  # between requests
    pipelined: int = 64  # requests answered or waiting on one connection before reading stops
    tick_requests: int = 64  # second and further requests of connections that are taken in one tick of the loop, of all together
    linger_seconds: float = 1.0  # between the last answer and the end, for a client that is still sending
    drain_idle_seconds: float = 1.0  # when the server stops, a connection that was at work this lately may bring one more request


@dataclass(frozen=True, slots=True)
class GrpcLimits:
    """What one gRPC connection may ask for."""

    message_bytes: int = 16 * 1024 * 1024  # a request, whole
    metadata_bytes: int = 16 * 1024
    calls: int = 4096  # at once; further ones wait at the client or are to be tried again
    pending: int = 1 << 16  # of all connections, not yet looked at; gRPC cancels some of what is more
    ping_seconds: float = 60.0  # of silence until the client is asked whether it is there
    pong_seconds: float = 20.0  # it has to say so
    client_ping_seconds: float = 5.0  # a client that asks more often is sent away
    tick_requests: int = 64  # second and further requests of connections that are taken in one tick of the loop, of all together
    linger_seconds: float = 1.0  # between the last answer and the end, for what is being written


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """What the replicas of one version may hold."""

    batch_rows: int = 64  # joined; one request may have more
    batch_bytes: int = 64 * 1024 * 1024  # joined
    queue_requests: int = 4096  # more are refused before their body is decoded
    queue_bytes: int = 256 * 1024 * 1024  # of inputs that wait
    deadline_seconds: float = 10.0  # from decoded to answered; a batch that computes longer ends its replica
    hang_seconds: float = 0.5  # without a sign of life from a replica that holds a batch
    start_seconds: float = 60.0  # until a replica is ready
    stop_seconds: float = 5.0  # between SIGTERM and SIGKILL
    respawn_seconds: float = 0.1  # before the second respawn in a row; the first is immediate, each later one waits twice as long
    respawn_limit_seconds: float = 5.0
    settled_seconds: float = 2.0  # a replica that lived this long starts the row anew

    def weigh(self, rows: int) -> int:
        """Give a request's or batch's rows as they are counted: at most one batch's, for many rows at once take less than one by one."""
        return min(rows, self.batch_rows)

    @classmethod
    def of(cls, settings: ReplicaSettings) -> Self:
        """Give the limits that a model's settings ask for."""
        return cls(**{field.name: getattr(settings, field.name) for field in fields(cls) if field.name in ReplicaSettings.model_fields})
