"""Where requests go when no replica of their version is left: to the version that would have got them without a rollout."""

from lastgood.registry.content import Content
from lastgood.serving.gateway.pool.pending import Pending


def send_to_fallback(pending: Pending) -> bool:
    """Let another version answer a candidate's request; say whether there is one."""
    fallback = pending.runs_on.fallback
    if fallback is None:
        return False
    if not takes_same(pending.runs_on.pool.content, fallback.pool.content):
        return False  # it was decoded for a model that takes something else
    pending.runs_on = fallback
    fallback.pool.submit(pending)
    return True


def takes_same(ours: Content, theirs: Content) -> bool:
    """Say whether a request that was decoded for one version can be given to the other."""
    return (ours.inputs, ours.outputs, ours.batching) == (theirs.inputs, theirs.outputs, theirs.batching)
