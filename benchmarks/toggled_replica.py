"""A replica of its own that fails every request while a file exists: ``python toggled_replica.py DIGEST FILE FD``."""

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
        if self.flag.exists():
            raise RuntimeError("bad since somebody made a file")
        return super().run(feeds)


if __name__ == "__main__":
    digest, file = sys.argv[1:3]

    def make_model(package: Package) -> Model:
        """Give a model that is bad while the file exists, if it is the version meant."""
        if package.digest != digest:
            return Model.open(package)
        model = ToggledModel.open(package)
        model.flag = Path(file)
        return model

    sys.exit(main(make_model, sys.argv[3:]))
