"""A bell: whoever waits is woken when something may have changed, and looks for themselves."""

import asyncio


class Changes:
    """Wakes all that wait; belongs to one event loop."""

    def __init__(self) -> None:
        """Begin with nobody waiting."""
        self._waiting: set[asyncio.Future[None]] = set()

    def tell(self) -> None:
        """Wake who waits."""
        for own in self._waiting:
            if not own.done():
                own.set_result(None)

    async def wait(self) -> None:
        """Wait for the next word. Between looking and this call there may be no other ``await``, else a change can be missed."""
        own: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(own)
        try:
            await own
        finally:
            self._waiting.discard(own)
