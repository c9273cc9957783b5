"""The gateway's address as its clients take it."""

from pathlib import Path

import pytest

from lastgood.settings import Settings


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("gateway", "gateway"),
        ("0.0.0.0", "127.0.0.1"),
        ("::", "[::1]"),
        ("fd00::7", "[fd00::7]"),
    ],
)
def test_a_url_has_an_address_that_can_be_reached(host: str, address: str, tmp_path: Path) -> None:
    """What stands for every address of a machine is loopback for its own clients; IPv6 is in brackets."""
    settings = Settings(project=tmp_path, home=tmp_path, host=host, token_file=tmp_path / "token", port_rest=81, port_control=82)
    assert (f"http://{address}:81", f"http://{address}:82") == (settings.rest_url, settings.control_url)
