"""
A replica that goes bad on purpose: ``python -m lastgood.drill.replica DIGEST FAULT FD``.

It is the product's replica with another model inside: it verifies, warms up and gives the golden answers like any
other, and then, if it serves the digest that is to be bad, every request meets the fault. Other digests are served
as they are. The product's own replica knows nothing of faults.
"""

import sys
from collections.abc import Mapping, Sequence

import numpy as np

from lastgood.serving.replica.model import WARM_UP_CALLS, Model
from lastgood.serving.replica.package import Package
from lastgood.serving.replica.program import main
from lastgood.serving.replica.slots import Array

FAULTS = ("dead", "nan")
_PROOF_CALLS = 1 + WARM_UP_CALLS  # golden answers, then warm-up


class DrilledError(Exception):
    """What a dead version raises."""


class DrilledModel(Model):
    """A model that is sound until it was proven."""

    fault = "dead"
    calls = 0

    def run(self, feeds: Mapping[str, Array]) -> Sequence[Array]:
        """Compute the proof; after that, meet the fault."""
        self.calls += 1
        if self.calls <= _PROOF_CALLS:
            return super().run(feeds)
        if self.fault == "nan":
            return [np.full_like(output, np.nan) for output in super().run(feeds)]
        raise DrilledError("this version is dead on purpose: it belongs to a drill")


def make_model(digest: str, fault: str, package: Package) -> Model:
    """Give the model of a package: one with the fault if its digest is the one that is to be bad."""
    if package.digest != digest:
        return Model.open(package)
    model = DrilledModel.open(package)
    model.fault = fault
    return model


if __name__ == "__main__":
    wanted_digest, wanted_fault = sys.argv[1:3]
    sys.exit(main(lambda package: make_model(wanted_digest, wanted_fault, package), sys.argv[3:]))
