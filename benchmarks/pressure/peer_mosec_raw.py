"""An MLP behind mosec that takes a row's bytes and gives its outputs' bytes: nothing is parsed, which is its best case.

Runs in the peers' environment: MODEL names the file, ROWS the largest batch, mosec's own options follow.
"""

import os

import numpy as np
import onnxruntime as ort
from mosec import Server, Worker

RUN_LIMIT_S = 3.0
"""Apart from the time a request may take in all: mosec ends a worker whose run takes longer."""


class Mlp(Worker):
    def __init__(self) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = ort.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])

    def deserialize(self, data: bytes) -> np.ndarray:
        return np.frombuffer(data, "<f4")

    def forward(self, data: list[np.ndarray]) -> list[np.ndarray]:
        return list(self.session.run(None, {"input": np.stack(data)})[0])

    def serialize(self, data: np.ndarray) -> bytes:
        return data.tobytes()


if __name__ == "__main__":
    server = Server()
    rows = int(os.environ["ROWS"])
    server.append_worker(Mlp, num=1, max_batch_size=rows, timeout=RUN_LIMIT_S, route="/infer")
    server.run()
