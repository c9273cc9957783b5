"""
A gateway whose replicas allocate until their limit when a file appears, one of them and once: ``python greedy_gateway.py FILE``.

The same program with a socket's descriptor after FILE is such a replica.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lastgood.serving.replica.model import Model
from lastgood.serving.replica.program import main
from lastgood.serving.replica.slots import Array


class GreedyModel(Model):
    """A model that uses its memory up when told to."""

    flag = Path()

    def run(self, feeds: Mapping[str, Array]) -> Sequence[Array]:
        """Compute, or allocate until nothing is left."""
        if self.flag.exists():
            self.flag.unlink()
            kept = []
            while True:
                kept.append(np.ones(1 << 20))
        return super().run(feeds)


if __name__ == "__main__":
    file, *descriptor = sys.argv[1:]
    if descriptor:
        GreedyModel.flag = Path(file)
        sys.exit(main(GreedyModel.open, descriptor))

    from lastgood.serving.gateway import program  # not for replicas, which import nothing that they do not need

    sys.exit(program.main(program=(sys.executable, "-P", __file__, file)))
