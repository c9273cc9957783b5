"""
A small world: one model with three versions, one gateway or two that share a record, and everything that can happen next.

Memory is what a gateway knows, the record what the registry holds, the journal what is decided and not recorded yet. The
pure functions are the product's. `moves` gives every next world: an action that writes may be cut off before or after its
write, a withdrawal may overtake a change that is being written, an alert may come at any time and as often as it likes, and
a gateway may be cut off from the record. The model checker explores all of them, `schedules.py` walks through some at random.

Times are whole seconds of the world's own clock; a world's `key` keeps only their order, so that there are finitely many.
"""

from .holding import begin_world, find_problem, is_quiet, is_settled
from .known import EPOCH, PINS, World
from .moving import moves

__all__ = ["EPOCH", "PINS", "World", "begin_world", "find_problem", "is_quiet", "is_settled", "moves"]
