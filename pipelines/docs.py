"""Which library a docstring comes from: words hashed into counts, a small dense network, tested on whole, short and misspelt texts."""

import ast
import importlib.util
import re
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from lastgood.pipelines.data import Array, Data
from lastgood.pipelines.errors import DataError
from lastgood.pipelines.gate_settings import GateSettings
from lastgood.pipelines.pipeline import Pipeline

LIBRARIES = ("numpy", "scipy", "sklearn", "matplotlib", "sqlalchemy")
BUCKETS = 2048
_TEXTS = 1200  # of each library at most
_FILES = 110  # read of each library at most
_LENGTH = 120  # characters a docstring has at least
_MISSPELT = 0.04  # share of letters that are another one
_SPLIT_SEED = 13
_WORD = re.compile(r"[a-z][a-z_]+")
# What names the library outright would make this no question.
_GIVEAWAYS = re.compile(r"numpy|np|scipy|sklearn|scikit|matplotlib|mpl|plt|pyplot|pylab|sqlalchemy|sql")


class Docs(Pipeline):
    """Which of five installed libraries a docstring comes from, by its words (the libraries' names left out)."""

    parameters: ClassVar[Mapping[str, Any]] = {"width": 32, "epochs": 12, "batch_size": 64, "learning_rate": 3e-3}
    gate = GateSettings(accuracy_floor=0.62, set_floors={"whole": 0.72})
    input_name = "words"
    rollout: ClassVar[Mapping[str, Any]] = {"step_requests": 100, "step_seconds": 2.0, "soak_requests": 300, "soak_seconds": 10.0}

    def load(self) -> Data:
        """Read the installed libraries' docstrings; a quarter of each library's files is for testing only."""
        rng = np.random.default_rng(_SPLIT_SEED)
        train: list[tuple[str, int]] = []
        held: list[tuple[str, int]] = []
        for label, library in enumerate(LIBRARIES):
            files = _list_files(library)
            tested = set(rng.permutation(len(files))[: len(files) // 4].tolist())
            for index, file in enumerate(files):
                (held if index in tested else train).extend((text, label) for text in read_docstrings(file))
        train, held = _thin(train, _TEXTS), _thin(held, _TEXTS // 4)
        texts, labels = [text for text, _ in held], np.array([label for _, label in held])
        originals = np.arange(len(held))
        sets = {
            "whole": texts,
            "first paragraph": [text.split("\n\n")[0] for text in texts],
            "misspelt": [_misspell(text, rng) for text in texts],
        }
        return Data(
            train=(count_words([text for text, _ in train]), np.array([label for _, label in train])),
            evaluation={name: (count_words(own), labels) for name, own in sets.items()},
            groups=dict.fromkeys(sets, originals),
        )

    def build(self, parameters: Mapping[str, Any]) -> Any:
        """One hidden layer."""
        from tf_keras import Sequential, layers

        return Sequential(
            [
                layers.Input((BUCKETS,), name=self.input_name),
                layers.Dense(int(parameters["width"]), activation="relu"),
                layers.Dense(len(LIBRARIES), activation="softmax"),
            ]
        )

    def slices(self, x: Array, y: Array) -> Mapping[str, Array]:
        """Each library."""
        del x
        return {library: y == label for label, library in enumerate(LIBRARIES)}


def count_words(texts: Sequence[str]) -> Array:
    """
    Give what the model takes: damped counts of hashed words, each text of length 1.

    Args:
        texts: In any case; words that name a library are left out.

    Returns:
        "text bucket" float32.

    Source: Weinberger, Dasgupta, Langford, Smola, Attenberg, "Feature Hashing for Large Scale Multitask Learning", 2009.
    """
    counts = np.zeros((len(texts), BUCKETS), np.float32)
    for row, text in enumerate(texts):
        for word in _WORD.findall(text.lower()):
            if not _GIVEAWAYS.search(word):
                counts[row, zlib.crc32(word.encode()) % BUCKETS] += 1
    damped = np.log1p(counts)
    length = np.linalg.norm(damped, axis=1, keepdims=True)
    damped /= np.maximum(length, 1e-9)
    return damped


def read_docstrings(file: Path) -> Iterator[str]:
    """Give the docstrings of a source file's functions and classes that are long enough to say something; it is not imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other people's escapes in other people's strings
        tree = ast.parse(file.read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            text = ast.get_docstring(node)
            if text is not None and len(text) >= _LENGTH:
                yield text


def _list_files(library: str) -> list[Path]:
    """Give source files of an installed library, spread over it, its tests left out."""
    spec = importlib.util.find_spec(library)
    if spec is None or spec.origin is None:
        raise DataError(f"{library} is not installed: this pipeline reads the docstrings of {', '.join(LIBRARIES)}.")
    root = Path(spec.origin).parent
    files = sorted(file for file in root.rglob("*.py") if not {"tests", "testing"} & set(file.relative_to(root).parts))
    places = np.linspace(0, len(files) - 1, min(_FILES, len(files))).astype(np.int64)
    return [files[place] for place in places]


def _thin(texts: list[tuple[str, int]], most: int) -> list[tuple[str, int]]:
    """Keep each text once, and of each library an equal spread of at most ``most``."""
    once = list(dict.fromkeys(texts))
    kept = []
    for label in range(len(LIBRARIES)):
        own = [pair for pair in once if pair[1] == label]
        kept += [own[place] for place in np.linspace(0, len(own) - 1, min(most, len(own))).astype(np.int64)] if own else []
    return kept


def _misspell(text: str, rng: np.random.Generator) -> str:
    letters = np.array(list(text))
    wrong = rng.random(len(letters)) < _MISSPELT
    letters[wrong] = rng.choice(list("abcdefghijklmnopqrstuvwxyz"), int(wrong.sum()))
    return "".join(letters)
