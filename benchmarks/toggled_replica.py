"""
A replica of its own that fails requests while a file exists: ``python toggled_replica.py DIGEST FILE [DIGEST FILE ...] FD``.

What the file holds is the part of the inputs it fails on, ``0.05`` for one in twenty; an empty one fails them all. An input
that fails does so each time: requests of a batch that failed are tried alone.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from lastgood.serving.replica.model import Model
from lastgood.serving.replica.package import Package
from lastgood.serving.replica.program import main
from lastgood.serving.replica.slots import Array


class ToggledModel(Model):
    """A model that goes bad when told to."""

    flag = Path()

    def run(self, feeds: Mapping[str, Array]) -> Sequence[Array]:
        """Compute, or fail."""
        # Multiples of the golden ratio are spread evenly over [0, 1), whatever numbers come.
        if self.flag.exists() and (feeds["x"] * 0.6180339887498949 % 1 < float(self.flag.read_text("utf-8") or 1)).any():
            raise RuntimeError("bad since somebody made a file")
        return super().run(feeds)


if __name__ == "__main__":
    *pairs, descriptor = sys.argv[1:]
    flags = dict(zip(pairs[::2], map(Path, pairs[1::2]), strict=True))

    def make_model(package: Package) -> Model:
        """Give a model that is bad while its file exists, if it is a version meant."""
        if package.digest not in flags:
            return Model.open(package)
        model = ToggledModel.open(package)
        model.flag = flags[package.digest]
        return model

    sys.exit(main(make_model, [descriptor]))
