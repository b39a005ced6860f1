"""What a skill's own transform.py holds: a class that turns items into tensors, and tensors into answers.

It is an ordinary class and can be tested as one:

    answer = Transform().after(outputs)
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


class Transform:
    """Base of a skill's `class Transform(headrace.Transform)`; deriving from it is not needed, its names are.

    `transform.py` defines a class `Transform` with `before`, with `after`, or with both. A worker of its own makes one
    object of it and calls it for one item at a time; a worker may be ended and started again at any time, so nothing
    that matters should be kept in the object. What is printed goes to the server's standard error.

    `raise headrace.InvalidItem("why")` tells the sender what is wrong with the item. Any other exception is answered as a
    fault of the skill, with its text and its line in transform.py.
    """

    def load(self, folder: Path) -> None:
        """Read what is needed from the skill's folder. Called once, first."""

    def before(self, item: dict[str, Any]) -> Mapping[str, Any]:
        """Turn an item into tensors.

        Args:
            item: name → value of each input that skill.yaml declares with `value`: text as str, bytes as bytes, number
                as float, json as what it holds, image as an array [height, width, 3] of uint8, red first.

        Returns:
            The model's inputs for this one item, without a batch axis: name → array, or what numpy.asarray takes.
        """
        raise NotImplementedError

    def after(self, outputs: dict[str, np.ndarray]) -> Any:
        """Turn one item's outputs of the model into its answer.

        Args:
            outputs: name → array, without a batch axis.

        Returns:
            The answer: anything JSON has, and numpy's numbers and arrays.
        """
        raise NotImplementedError
