"""
A replica that goes bad on purpose: ``python -m lastgood.drill.replica DIGEST FAULT SEED SWITCH FD``.

It is the product's replica with another model inside: it verifies, warms up and gives the golden answers like any
other, and then, if it serves the digest that is to be bad, its requests meet the fault. Other digests are served as
they are. The product's own replica knows nothing of faults.
"""

import sys
from pathlib import Path

from lastgood.drill.models import make_model
from lastgood.serving.replica.program import main

if __name__ == "__main__":
    wanted, fault, seed, switch = sys.argv[1:5]
    sys.exit(
        main(lambda package: make_model(package, wanted, fault, seed=int(seed), switch=Path(switch) if switch else None), sys.argv[5:])
    )
