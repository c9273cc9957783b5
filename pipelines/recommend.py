"""Whether a person clicks on an article: two towers of embeddings, tested on known tastes, on busy hours and on a changed week."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from lastgood.pipelines.data import Array, Data
from lastgood.pipelines.gate_settings import GateSettings
from lastgood.pipelines.pipeline import Pipeline

PEOPLE, ARTICLES = 300, 200
_TASTES = 3  # hidden dimensions of what people like
_TRAIN, _EVALUATION = 40_000, 3_000
_SEED = 12  # the clicks are part of the data: another seed of the training must not change what is tested


class Recommend(Pipeline):
    """
    Whether a person clicks (1) or not (0) on an article they are shown.

    A row is "person, article, hour": two numbers that name them, and the hour of the day. The clicks are generated from hidden
    tastes; nobody's are in them.
    """

    parameters: ClassVar[Mapping[str, Any]] = {"width": 8, "epochs": 6, "batch_size": 256, "learning_rate": 2e-2}
    gate = GateSettings(accuracy_floor=0.77, slice_floor=0.7)
    input_name = "impression"
    rollout: ClassVar[Mapping[str, Any]] = {"step_requests": 100, "step_seconds": 2.0, "soak_requests": 300, "soak_seconds": 10.0}

    def load(self) -> Data:
        """Generate a month of impressions to train on, and three weeks to test on."""
        rng = np.random.default_rng(_SEED)
        world = _World(rng)
        return Data(
            train=world.show(rng, _TRAIN),
            evaluation={
                "next week": world.show(rng, _EVALUATION),
                "evenings": world.show(rng, _EVALUATION, hours=(18, 24)),
                "changed tastes": world.move(rng, 0.15).show(rng, _EVALUATION),
            },
        )

    def build(self, parameters: Mapping[str, Any]) -> Any:
        """A tower for the person, one for the article; what they have in common decides."""
        import tensorflow as tf
        from tf_keras import Input, Model, layers

        width = int(parameters["width"])
        row = Input((3,), name=self.input_name)
        numbers = tf.cast(row[:, :2], tf.int32)
        person = layers.Embedding(PEOPLE, width, name="people")(numbers[:, 0])
        article = layers.Embedding(ARTICLES, width, name="articles")(numbers[:, 1])
        person = layers.Dense(width, name="person")(layers.Dense(4 * width, activation="relu")(person))
        article = layers.Dense(width, name="article")(layers.Dense(4 * width, activation="relu")(article))
        meeting = layers.Concatenate()([layers.Multiply()([person, article]), row[:, 2:] / 24])
        return Model(row, layers.Dense(2, activation="softmax")(layers.Dense(2 * width, activation="relu")(meeting)))

    def slices(self, x: Array, y: Array) -> Mapping[str, Array]:
        """Clicks and others, and the rarest third of the articles."""
        return {"clicked": y == 1, "passed over": y == 0, "rare articles": x[:, 1] >= ARTICLES * 2 // 3}


class _World:
    """Hidden tastes of people and of articles, "one taste" float."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._people = rng.normal(size=(PEOPLE, _TASTES))
        self._articles = rng.normal(size=(ARTICLES, _TASTES))

    def move(self, rng: np.random.Generator, part: float) -> "_World":
        """Give a world where tastes have drifted by a part of their size."""
        moved = _World(rng)
        moved._people = self._people * (1 - part) + moved._people * part
        moved._articles = self._articles
        return moved

    def show(self, rng: np.random.Generator, rows: int, hours: tuple[int, int] = (6, 24)) -> tuple[Array, Array]:
        """Draw impressions, "row 3" float32, and whether each was clicked, "row" int64; low numbers are shown more often."""
        person = rng.integers(0, PEOPLE, rows)
        article = (ARTICLES * rng.random(rows) ** 1.5).astype(np.int64)
        hour = rng.uniform(*hours, rows)
        liking = (self._people[person] * self._articles[article]).sum(axis=1) + 0.4 * (hour > 18)
        clicked = rng.random(rows) < 1 / (1 + np.exp(-8 * liking))
        return np.stack([person, article, hour], axis=1).astype(np.float32), clicked.astype(np.int64)
