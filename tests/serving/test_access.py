"""Who is let in: a token that is none lets nobody in, and is said before anything listens."""

from pathlib import Path

import pytest

from lastgood.errors import UsageError
from lastgood.serving.client.access import make_headers, read_token
from lastgood.settings import Settings


def test_a_token_is_read_without_what_an_editor_adds(tmp_path: Path) -> None:
    """And goes into each request."""
    path = tmp_path / "token"
    path.write_bytes(b"s3cret\n")
    assert "s3cret" == read_token(path)
    assert "Bearer s3cret" == make_headers(Settings(project=tmp_path, home=tmp_path, token_file=path))["authorization"]


@pytest.mark.parametrize("data", [b"", b"\n", b" \t\n", b"two words", b"two\nlines", "schl\u00fcssel".encode(), b"\xff\xfe", b"nul\0"])
def test_a_file_that_holds_no_token_is_refused(tmp_path: Path, data: bytes) -> None:
    """An empty one would let everybody in who sends nothing: it is what a secret looks like that is not mounted yet."""
    path = tmp_path / "token"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=r"token"):
        read_token(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """With its name."""
    with pytest.raises(UsageError, match="nowhere"):
        read_token(tmp_path / "nowhere")
