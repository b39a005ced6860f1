"""A model.py for Triton's Python backend: one onnxruntime session, all requests of a batch in one run."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        file = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        self.session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def execute(self, requests: list) -> list:
        inputs = [pb_utils.get_input_tensor_by_name(each, "input").as_numpy() for each in requests]
        rows = inputs[0] if len(inputs) == 1 else np.concatenate(inputs)
        outputs = self.session.run(None, {"input": rows})[0]
        responses, start = [], 0
        for each in inputs:
            own = outputs[start : start + len(each)]
            start += len(each)
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("output", own)]))
        return responses
