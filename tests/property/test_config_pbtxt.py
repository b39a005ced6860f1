from hypothesis import given
from hypothesis import strategies as st

from headrace.repository import triton

PIECES = [
    *(
        "input {",
        "output {",
        "dynamic_batching {",
        "instance_group {",
        "model_warmup {",
        "version_policy {",
        "}",
        "}",
    ),
    *(
        'name: "x"',
        "data_type: TYPE_FP32",
        "dims: [ 4 ]",
        "dims: -1",
        "reshape { shape: 2 }",
        "optional: true",
    ),
    *(
        "max_batch_size: 4",
        "max_batch_size: 0",
        'backend: "onnxruntime"',
        'backend: "python"',
        "latest {",
        "all { }",
    ),
    *(
        "batch_size: 1",
        'inputs { key: "x" value {',
        "zero_data: true",
        "priority_levels: 2",
        "count: 2",
        "# a comment\n",
    ),
    *(
        "kind: KIND_MODEL",
        "cuda { graphs: true }",
        "optimization {",
        'label_filename: "labels.txt"',
        '"',
        "[",
        "\x00",
    ),
]


@given(st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=5)), max_size=20))
def test_whatever_is_written_is_read_or_refused_by_name(tmp_path_factory, pieces):
    folder = tmp_path_factory.getbasetemp() / "pieces"
    (folder / "1").mkdir(parents=True, exist_ok=True)
    (folder / "1" / "model.onnx").touch()
    (folder / "config.pbtxt").write_text(" ".join(pieces), "utf-8", errors="replace")
    for source in triton.read(folder):
        assert source.problem.startswith("failed to load 'pieces'") or source.path.name.startswith("model.")
