"""A gateway that writes how many tasks its event loop has, once a second: ``python counted_gateway.py FILE``."""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from lastgood.serving.gateway import program as product
from lastgood.settings import Settings

_SECONDS = 1.0
serve = product.serve


def write_counts(path: Path) -> None:
    """Write the number of tasks now, and again every second."""
    path.write_text(str(len(asyncio.all_tasks())), "ascii")
    asyncio.get_running_loop().call_later(_SECONDS, write_counts, path)


async def serve_counted(settings: Settings, *, program: Sequence[str] | None = None) -> None:
    """Run the gateway, and count beside."""
    write_counts(Path(sys.argv[1]))
    await serve(settings, program=program)


if __name__ == "__main__":
    product.serve = serve_counted
    sys.exit(product.main())
