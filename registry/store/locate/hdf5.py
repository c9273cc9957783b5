"""
Datasets of an HDF5 file, also of one in a Keras archive.

The HDF5 library is not asked: damaged files end its process with a segmentation fault now and then (libhdf5 1.14.6 did
under random changes), and whether it is installed must not decide where a file is cut. What Keras and h5py write by
default is little of the format, and is read here.
"""

from collections.abc import Iterator
from typing import Final

from lastgood.registry.store.layout import Source, Tensor
from lastgood.registry.store.locate.archive import find_begin, list_stored
from lastgood.registry.store.locate.bounds import NAME_CHARS_MAX, arrange, count_bytes, shift
from lastgood.registry.store.locate.hdf5_objects import ADDRESS_BYTES, UNDEFINED, Message, Messages, read_dtype, read_messages, read_shape
from lastgood.registry.store.locate.window import Part, UnreadableError, Window

MAGIC: Final = b"\x89HDF\r\n\x1a\n"
_MEMBER: Final = "model.weights.h5"
_NODE_HEAD_BYTES: Final = 24
_SYMBOL_BYTES: Final = 40
_SHORT_BYTES: Final = 32
_CONTIGUOUS: Final = 1


def locate(source: Source) -> list[Tensor]:
    """
    Find the datasets that lie in one piece; chunked and compressed ones do not.

    Names are paths. Links to other files and soft links are not followed, and of a dataset with two names one counts.
    Not searched are groups with an index of their links by name, which h5py writes for more than 8 links in a group that
    tracks the order or a file of the latest version, and files with something else before HDF5's own begin.

    Source: The HDF Group, "HDF5 File Format Specification Version 3.0".
    """
    return arrange(_find(Window(source)), source.size)


def locate_archived(source: Source) -> list[Tensor]:
    """Find the datasets of a Keras archive's weights."""
    window = Window(source)
    try:
        for member in list_stored(window, _MEMBER):
            if member.name == _MEMBER:
                begin = find_begin(window, member)
                return shift(locate(Part(source, begin, member.size)), begin)
    except UnreadableError:
        pass  # an archive of something else
    return []


def _find(window: Window) -> Iterator[Tensor]:
    """Go through the groups without recursion, and to each object once: links may lead back."""
    left = [("", "", _find_root(window))]
    seen = set()
    while left:
        folder, name, address = left.pop()
        path = f"{folder}/{name}" if folder else name
        if address in seen or len(path) > NAME_CHARS_MAX:
            continue
        seen.add(address)
        window.charge(len(path))
        try:
            messages = read_messages(window, address)
            tensor = _read_dataset(window, path, messages)
            if tensor is not None:
                yield tensor
            links = sorted(_iterate_links(window, messages), reverse=True)
        except UnreadableError:
            continue  # one broken object says nothing about the others, and a spent window ends them all
        left.extend((path, name, target) for name, target in links)


def _find_root(window: Window) -> int:
    """
    Read the superblock; give the address of the root group's header.

    Raises:
        UnreadableError: Its version is not known, addresses are no 8 bytes, or they do not count from the file's begin.
    """
    if window.read(0, len(MAGIC)) != MAGIC:
        raise UnreadableError("no HDF5")
    version = window.read(8, 1)[0]
    if version in {0, 1}:
        sizes, base = window.read(13, 2), 24 + 4 * version
        root = base + 5 * ADDRESS_BYTES  # after three other addresses, in a symbol whose name is first
    elif version in {2, 3}:
        sizes, base = window.read(9, 2), 12
        root = base + 3 * ADDRESS_BYTES
    else:
        raise UnreadableError(f"a superblock of version {version}")
    if sizes != bytes([ADDRESS_BYTES, ADDRESS_BYTES]) or _read_number(window, base) != 0:
        raise UnreadableError("addresses of another kind")
    return _read_number(window, root)


def _read_dataset(window: Window, path: str, messages: Messages) -> Tensor | None:
    """Read what the header of an object says; None where that is no dataset, or none in one piece."""
    if messages.dataspace is None or messages.datatype is None or messages.layout is None or messages.is_elsewhere:
        return None
    shape, dtype = read_shape(window, messages.dataspace), read_dtype(window, messages.datatype)
    layout = window.read(messages.layout.begin, min(messages.layout.size, 2 + 2 * ADDRESS_BYTES))
    if shape is None or dtype is None or len(layout) < 2 + 2 * ADDRESS_BYTES or layout[0] not in {3, 4} or layout[1] != _CONTIGUOUS:
        return None
    offset, nbytes = (int.from_bytes(layout[at : at + ADDRESS_BYTES], "little") for at in (2, 2 + ADDRESS_BYTES))
    if offset == UNDEFINED or nbytes != count_bytes(dtype, shape):
        return None
    return Tensor(path, dtype, shape, offset, nbytes)


def _iterate_links(window: Window, messages: Messages) -> Iterator[tuple[str, int]]:
    """Give the names of a group's members and the addresses of their headers."""
    for message in messages.links:
        link = _read_link(window, message)
        if link is not None:
            yield link
    if messages.symbols is not None:
        tree, heap = (_read_number(window, messages.symbols.begin + at) for at in (0, ADDRESS_BYTES))
        yield from _iterate_symbols(window, tree, heap)


def _read_link(window: Window, message: Message) -> tuple[str, int] | None:
    """Read a link message; None where it leads by a name."""
    version, flags = window.read(message.begin, 2)
    at = message.begin + 2
    if version != 1:
        return None
    if flags & 0x08:  # the link's kind; without it a hard one
        if window.read(at, 1) != b"\0":
            return None
        at += 1
    at += (8 if flags & 0x04 else 0) + (1 if flags & 0x10 else 0)  # the order of creation, the character set
    length_bytes = 1 << (flags & 0x03)
    length = int.from_bytes(window.read(at, length_bytes), "little")
    at += length_bytes
    if at + length + ADDRESS_BYTES > message.begin + message.size:
        return None
    return window.read(at, length).decode(errors="replace"), _read_number(window, at + length)


def _iterate_symbols(window: Window, tree: int, heap: int) -> Iterator[tuple[str, int]]:
    """Give the links of a group of the older kind: a tree of nodes with symbols, whose names are in a heap."""
    if window.read(heap, 4) != b"HEAP":
        raise UnreadableError(f"no heap at {heap}")
    names_bytes, names = _read_number(window, heap + 8), _read_number(window, heap + 24)
    left, seen = [tree], set()
    while left:
        node = left.pop()
        if node in seen:
            continue
        seen.add(node)
        head = window.read(node, _NODE_HEAD_BYTES if window.peek(node, 4) == b"TREE" else 8)
        count = int.from_bytes(head[6:8], "little")
        if head.startswith(b"TREE\0"):
            # Each child's address stands between two keys.
            left.extend(_read_number(window, node + _NODE_HEAD_BYTES + 16 * each + ADDRESS_BYTES) for each in range(count))
        elif head.startswith(b"SNOD"):
            for each in range(count):
                at, target = (_read_number(window, node + 8 + _SYMBOL_BYTES * each + part) for part in (0, ADDRESS_BYTES))
                if at < names_bytes and target != UNDEFINED:  # as a soft link's is
                    yield _read_name(window, names + at, names_bytes - at), target


def _read_name(window: Window, begin: int, bytes_max: int) -> str:
    """Read a text that ends with a zero, or is too long for a name anyway."""
    short = window.peek(begin, min(bytes_max, _SHORT_BYTES))
    text = short if b"\0" in short else window.peek(begin, min(bytes_max, NAME_CHARS_MAX))
    window.charge(len(text))
    return text.partition(b"\0")[0].decode(errors="replace")


def _read_number(window: Window, at: int) -> int:
    return int.from_bytes(window.read(at, ADDRESS_BYTES), "little")
