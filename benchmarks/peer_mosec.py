"""The light MLP behind mosec. Runs in the peers' environment: MODEL names the file, ROWS the largest batch,
mosec's own options follow.

JSON goes through msgspec with types, the fastest way its Python worker has: the same library headrace uses.
"""

import os

import msgspec
import numpy as np
import onnxruntime as ort
from mosec import Server, Worker


class Tensor(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: list[float]


class Request(msgspec.Struct):
    inputs: list[Tensor]


decode = msgspec.json.Decoder(Request).decode
encode = msgspec.json.Encoder().encode


class Mlp(Worker):
    def __init__(self) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = ort.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])

    def deserialize(self, data: bytes) -> list[float]:
        return decode(data).inputs[0].data

    def forward(self, data: list[list[float]]) -> list[list[float]]:
        return self.session.run(None, {"input": np.array(data, "f4")})[0].tolist()

    def serialize(self, data: list[float]) -> bytes:
        output = {"name": "output", "datatype": "FP32", "shape": [1, len(data)], "data": data}
        return encode({"model_name": "mlp", "model_version": "1", "outputs": [output]})


if __name__ == "__main__":
    server = Server()
    server.append_worker(Mlp, num=1, max_batch_size=int(os.environ["ROWS"]), route="/v2/models/mlp/infer")
    server.run()
