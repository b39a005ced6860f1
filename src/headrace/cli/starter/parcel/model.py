"""What it costs to send a parcel: a price list as a model. A learned one would stand here in the same way."""

from typing import Any

import numpy as np

from headrace import InvalidItem, Tensor

BASE, A_KG, A_KM, A_HUNDRED_INSURED = 3.2, 0.45, 0.002, 0.9
EXPRESS = 1.6
HEAVIEST_KG = 31.5


class Model:
    """Prices, from rows of weight, distance, speed (0 normal, 1 express) and insured value."""

    inputs = (Tensor("x", "FP32", [-1, 4]),)
    outputs = (Tensor("price", "FP64", [-1]),)

    def infer(self, inputs: dict[str, np.ndarray]) -> Any:
        """A batch. A parcel that is too heavy fails by itself, and the others get their prices."""
        weight, distance, speed, insured = inputs["x"].astype(float).T
        price = BASE + A_KG * weight + A_KM * distance + A_HUNDRED_INSURED * insured / 100
        price = np.where(speed == 1, price * EXPRESS, price)
        wrong = {
            int(row): InvalidItem(f"a parcel may weigh {HEAVIEST_KG} kg, and this one has {weight[row]:g}")
            for row in np.flatnonzero(weight > HEAVIEST_KG)
        }
        return {"price": np.round(price, 2)}, wrong
