"""A gateway whose replicas of a digest fail while a file exists: ``python toggled_gateway.py DIGEST FILE [DIGEST FILE ...]``."""

import sys
from pathlib import Path

from lastgood.serving.gateway.program import main

if __name__ == "__main__":
    replica = Path(__file__).with_name("toggled_replica.py")
    sys.exit(main(program=(sys.executable, "-P", str(replica), *sys.argv[1:])))
