import re
from pathlib import Path

import pytest

from headrace.messages import Datatype
from headrace.model_config import DeclaredTensor, QueuePolicy, Warmup, WarmupInput
from headrace.repository import model_config_proto as proto
from headrace.repository import triton, triton_fields
from headrace.repository.triton_fields import Fate

PAGE = Path(__file__).parents[2] / "docs" / "triton.md"
TENSORS = """
input [ { name: "x" data_type: TYPE_FP32 dims: [ 64 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 10 ] } ]
"""
BATCHED = f"max_batch_size: 8 {TENSORS}"


@pytest.fixture
def model(tmp_path):
    """Makes a model's folder from its config.pbtxt and files, and reads it."""

    def make(config, files=("1/model.onnx",), name="m", **options):
        folder = tmp_path / name
        contents = dict.fromkeys(files, "") if not isinstance(files, dict) else files
        for file, content in {**contents, "config.pbtxt": config}.items():
            path = folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return triton.read(folder, **options)

    return make


def only(sources):
    (source,) = sources
    assert source.problem == ""
    return source


def refused(sources):
    (source,) = sources
    assert source.problem.startswith(f"failed to load '{source.name}'")
    return source.problem


def test_an_empty_configuration_leaves_everything_to_the_model(model):
    source = only(model("", ["1/model.onnx", "3/model.onnx"]))
    assert (source.version, source.backend, source.path.parts[-2:]) == (
        "3",
        "onnxruntime",
        ("3", "model.onnx"),
    )
    config = source.config
    assert (config.max_batch_size, config.instances, config.threads) == (None, None, None)
    assert (config.inputs, config.outputs, config.notes) == ((), (), ())


def test_a_classifier_as_people_write_them(model):
    config = only(
        model(
            """
            name: "sentiment"
            platform: "onnxruntime_onnx"
            max_batch_size: 16
            input [
              { name: "input_ids" data_type: TYPE_INT64 dims: [ -1 ] },
              { name: "attention_mask" data_type: TYPE_INT64 dims: [ -1 ] }
            ]
            output [ { name: "logits" data_type: TYPE_FP32 dims: [ 2 ] label_filename: "labels.txt" } ]
            instance_group [ { count: 2 kind: KIND_CPU } ]
            dynamic_batching { }
            """,
            {"1/model.onnx": "", "labels.txt": "negative\r\npositive \n"},
            "sentiment",
        )
    ).config
    assert config.max_batch_size == 16
    assert config.instances == 2
    assert config.inputs == (
        DeclaredTensor("input_ids", Datatype.INT64, (-1,)),
        DeclaredTensor("attention_mask", Datatype.INT64, (-1,)),
    )
    assert config.outputs == (
        DeclaredTensor(
            "logits", Datatype.FP32, (2,), labels=("negative", "positive"), label_file="labels.txt"
        ),
    )
    assert config.queue == QueuePolicy()
    assert config.notes == ()


def test_an_image_model_with_a_batch_axis_of_its_own(model):
    config = only(
        model(
            """
            backend: "onnxruntime"
            default_model_filename: "densenet.onnx"
            input { name: "data_0" data_type: TYPE_FP32 format: FORMAT_NCHW dims: [ 3, 224, 224 ]
                    reshape { shape: [ 1, 3, 224, 224 ] } }
            output { name: "fc6_1" data_type: TYPE_FP32 dims: [ 1000 ] reshape { shape: [ 1, 1000, 1, 1 ] } }
            """,
            ["1/densenet.onnx"],
        )
    ).config
    assert config.max_batch_size == 0
    assert config.inputs[0].dims == (3, 224, 224)
    assert config.inputs[0].reshape == (1, 3, 224, 224)
    assert config.outputs[0].reshape == (1, 1000, 1, 1)
    assert config.notes == ("'input.format' is not needed: it changes no tensor",)


def test_a_model_with_priorities_and_queue_policies(model):
    config = only(
        model(
            BATCHED
            + """
            dynamic_batching {
              preferred_batch_size: [ 4, 8 ]
              max_queue_delay_microseconds: 100
              priority_levels: 3
              default_priority_level: 2
              default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 250000 max_queue_size: 64 }
              priority_queue_policy { key: 1 value { allow_timeout_override: true } }
            }
            """
        )
    ).config
    usual = QueuePolicy(64, 0.25, allow_timeout_override=False, on_timeout="delay")
    assert config.queue == usual
    assert config.levels == {1: QueuePolicy(), 2: usual, 3: usual}
    assert config.default_level == 2
    assert [note.split("'")[1] for note in config.notes] == [
        "dynamic_batching.preferred_batch_size",
        "dynamic_batching.max_queue_delay_microseconds",
    ]


def test_a_model_that_is_warmed_up(model):
    source = only(
        model(
            BATCHED
            + """
            model_warmup [
              { name: "zeros" batch_size: 8 inputs { key: "x" value { data_type: TYPE_FP32 dims: [64] zero_data: true } } },
              { name: "noise" batch_size: 1 count: 3
                inputs { key: "x" value { data_type: TYPE_FP32 dims: 64 random_data: true } } },
              { name: "real" batch_size: 2
                inputs { key: "x" value { data_type: TYPE_FP32 dims: 64 input_data_file: "sample" } } },
              { name: "none" inputs { key: "x" value { data_type: TYPE_FP32 dims: 64 zero_data: true } } }
            ]
            """,
            {"1/model.onnx": "", "warmup/sample": bytes(256)},
        )
    )
    zeros = WarmupInput("x", Datatype.FP32, (64,))
    noise = WarmupInput("x", Datatype.FP32, (64,), "random")
    sample = str(source.path.parents[1] / "warmup" / "sample")
    real = WarmupInput("x", Datatype.FP32, (64,), "file", sample)
    assert source.config.warmups == (
        Warmup("zeros", (zeros,), 8, 1),
        Warmup("noise", (noise,), 1, 3),
        Warmup("real", (real,), 2, 1),
    )
    assert source.config.notes == ("'model_warmup' 'none' is skipped, as by Triton: its batch_size is 0",)


def test_a_model_with_options_of_the_runtime(model):
    config = only(
        model(
            BATCHED
            + """
            optimization {
              graph { level: 1 }
              execution_accelerators { cpu_execution_accelerator: [ { name: "openvino" } ] }
              cuda { graphs: true }
              input_pinned_memory { enable: false }
            }
            parameters { key: "intra_op_thread_count" value: { string_value: "2" } }
            parameters { key: "inter_op_thread_count" value: { string_value: "1" } }
            parameters { key: "execution_mode" value: { string_value: "0" } }
            parameters { key: "session.set_denormal_as_zero" value: { string_value: "1" } }
            parameters { key: "gpu_mem_limit" value: { string_value: "1000" } }
            parameters { key: "team" value: { string_value: "search" } }
            """
        )
    ).config
    assert config.threads == 2
    assert config.options == {
        "graph_optimization_level": "1",
        "inter_op_thread_count": "1",
        "execution_mode": "0",
        "session.set_denormal_as_zero": "1",
    }
    assert config.parameters["team"] == "search"
    assert sorted(note.split("'")[1] for note in config.notes) == [
        "optimization.cuda",
        "optimization.execution_accelerators.cpu_execution_accelerator",
        "optimization.input_pinned_memory",
        "parameters.gpu_mem_limit",
    ]


def test_a_model_with_half_of_its_tensors_declared(model):
    config = only(model('input { name: "x" data_type: TYPE_FP32 dims: [ 64 ] }')).config
    assert config.max_batch_size is None
    assert config.inputs == (DeclaredTensor("x", Datatype.FP32),)


def test_a_model_of_strings_with_an_optional_input_and_passive_instances(model):
    config = only(
        model(
            """
            max_batch_size: 4
            input [
              { name: "text" data_type: TYPE_STRING dims: 1 },
              { name: "scale" data_type: TYPE_BF16 dims: 1 optional: true }
            ]
            output { name: "y" data_type: TYPE_BOOL dims: 1 }
            instance_group [ { count: 3 kind: KIND_MODEL }, { count: 5 kind: KIND_CPU passive: true } ]
            response_cache { enable: true }
            metric_tags { key: "team" value: "a" }
            """
        )
    ).config
    assert [(each.datatype, each.is_optional) for each in config.inputs] == [
        (Datatype.BYTES, False),
        (Datatype.BF16, True),
    ]
    assert config.instances == 3
    assert [note.split("'")[1] for note in config.notes] == ["metric_tags", "response_cache.enable"]


def test_a_python_model(model):
    source = only(
        model(
            f'{BATCHED} backend: "python" parameters {{ key: "url" value {{ string_value: "a" }} }}',
            {"1/model.py": "class Model: ..."},
        )
    )
    assert (source.backend, source.path.name) == ("python", "model.py")
    assert source.config.parameters == {"url": "a"}
    assert source.config.options == {}


def test_a_model_with_links_external_data_and_other_configurations(model, tmp_path):
    weights = tmp_path / "weights.onnx"
    weights.touch()
    folder = tmp_path / "m"
    (folder / "2").mkdir(parents=True)
    (folder / "2" / "model.onnx").symlink_to(weights)
    sources = model(
        "version_policy { all { } }",
        [
            "1/model.onnx/model.onnx",
            "1/model.onnx/data",
            "configs/big.pbtxt",
            "old/model.onnx",
            "007/model.onnx",
        ],
    )
    assert [each.version for each in sources] == ["1", "2"]
    assert sources[0].path.parts[-2:] == ("model.onnx", "model.onnx")
    assert sources[1].path == folder / "2" / "model.onnx"
    assert sources[0].config.notes == ("big.pbtxt in configs/ is not read: config.pbtxt is",)


@pytest.mark.parametrize(
    ("policy", "chosen", "notes"),
    [
        ("", ["10"], 0),
        ("version_policy { latest { num_versions: 2 } }", ["2", "10"], 0),
        ("version_policy { latest { num_versions: 9 } }", ["1", "2", "10"], 0),
        ("version_policy { all { } }", ["1", "2", "10"], 0),
        ("version_policy: { specific: { versions: [ 1, 10 ] } }", ["1", "10"], 0),
        ("version_policy { specific { versions: [ 2, 3 ] } }", ["2"], 1),
    ],
    ids=range(6),
)
def test_the_policy_chooses_versions(model, policy, chosen, notes):
    sources = model(policy, [f"{version}/model.onnx" for version in (1, 2, 10)])
    assert [each.version for each in sources] == chosen
    assert len(sources[0].config.notes) == notes


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "max_batch: 8",
            "config.pbtxt, line 1, column 1: .*no field named \"max_batch\"; is 'max_batch_size'",
        ),
        ('name: "other"', "unexpected directory name 'm' for model 'other', directory name must equal"),
        (
            'platform: "ensemble" ensemble_scheduling { step { model_name: "a" } }',
            "ensembles are not supported",
        ),
        (f"{BATCHED} sequence_batching {{ }}", "sequences are not supported"),
        (f"{BATCHED} model_transaction_policy {{ decoupled: true }}", "decoupled models are not supported"),
        ('backend: "tensorrt"', "backend 'tensorrt' is not one of onnxruntime, python: convert"),
        ('platform: "pytorch_libtorch"', "platform 'pytorch_libtorch' is not one of"),
        ('platform: "tensorrt_plan" backend: "onnxruntime"', "unexpected 'platform' and 'backend' pair"),
        ("max_batch_size: -1", "'max_batch_size' must be non-negative value for m"),
        ("input { data_type: TYPE_FP32 dims: 1 }", "model input must specify 'name' for m"),
        ('input { name: "x" dims: 1 }', "model input 'x' must specify 'data_type' for m"),
        ('output { name: "y" data_type: TYPE_FP32 }', "model output 'y' must specify 'dims' for m"),
        (f'{TENSORS} input {{ name: "x" data_type: TYPE_FP32 dims: 1 }}', "'x' is declared 2 times"),
        ('input { name: "x" data_type: TYPE_FP32 dims: [ 1, 0 ] }', "dimension must be integer >= 1, or -1"),
        (
            'input { name: "x" data_type: TYPE_FP32 dims: [ 4 ] reshape { shape: [ 2, 3 ] } }',
            "has different size for dims and reshape",
        ),
        (
            'input { name: "x" data_type: TYPE_FP32 dims: [ 2, -1 ] reshape { shape: [ -1, 2 ] } }',
            "has different size for dims and reshape",
        ),
        (
            'input { name: "x" data_type: TYPE_FP32 dims: [ -1 ] reshape { shape: [ -1, -1 ] } }',
            "different number of variable-size dimensions",
        ),
        (
            'input { name: "x" data_type: TYPE_FP32 dims: 1 reshape { } }',
            "cannot have empty reshape for non-batching",
        ),
        ('input { name: "x" data_type: TYPE_FP32 dims: 1 format: FORMAT_NHWC }', "NHWC/NCHW require 3 dims"),
        (
            'input { name: "x" data_type: TYPE_FP32 dims: 1 is_shape_tensor: true }',
            "only supported for TensorRT",
        ),
        (
            'input { name: "x" data_type: TYPE_INT32 dims: -1 allow_ragged_batch: true }',
            "never laid end to end",
        ),
        ("batch_input { kind: BATCH_ELEMENT_COUNT }", "'batch_input' cannot be honoured"),
        (
            f"{BATCHED} dynamic_batching {{ preferred_batch_size: 9 }}",
            "preferred size must be <= max batch size",
        ),
        (
            f"{BATCHED} dynamic_batching {{ priority_levels: 2 }}",
            r"default priority level must be in range \[1, 2\]",
        ),
        (
            f"{BATCHED} dynamic_batching {{ priority_levels: 1000000000 default_priority_level: 1 }}",
            "there may be 1000 priority levels",
        ),
        (
            f"{BATCHED} dynamic_batching {{ preserve_ordering: true priority_levels: 2 default_priority_level: 1 }}",
            "Only one priority level is allowed when 'preserve_ordering' is true",
        ),
        ("instance_group { kind: KIND_GPU }", "instance group m_0 of model m has kind KIND_GPU but no GPUs"),
        ("instance_group { kind: KIND_CPU gpus: 0 }", "has kind KIND_CPU but specifies one or more GPUs"),
        ('instance_group { profile: "0" }', "profiles are only supported for TensorRT"),
        (
            "instance_group { count: -1 }",
            "instance group m_0 of model m has count -1: it has to be 1 or more",
        ),
        (
            "instance_group { count: 200 } instance_group { count: 2000000000 }",
            "there may be 256 instances and not 2000000200 for m",
        ),
        (
            'optimization { execution_accelerators { cpu_execution_accelerator { name: "abacus" } } }',
            "unknown Execution Accelerator 'abacus' is requested",
        ),
        ("version_policy { specific { versions: 7 } }", "at least one version must be available.*has 1"),
        ("version_policy { latest { } }", "at least one version must be available under the version policy"),
        ('default_model_filename: "net.onnx"', "must specify 'platform' or 'backend'"),
        ('output { name: "y" data_type: TYPE_FP32 dims: 1 label_filename: "l.txt" }', "l.txt cannot be read"),
        ('output { name: "y" data_type: TYPE_FP32 dims: 1 label_filename: "../l" }', "in the model's folder"),
        (
            'parameters { key: "intra_op_thread_count" value { string_value: "two" } }',
            "'two' to integral number",
        ),
    ],
    ids=range(38),
)
def test_what_cannot_work_is_refused_by_name(model, text, reason):
    assert re.search(reason, refused(model(text)), re.DOTALL)


@pytest.mark.parametrize(
    ("sample", "reason"),
    [
        (
            "batch_size: 9 inputs { key: 'x' value { data_type: TYPE_FP32 dims: 64 zero_data: true } }",
            "must be <= 8",
        ),
        (
            "batch_size: 1 inputs { key: 'x' value { data_type: TYPE_FP32 dims: -1 zero_data: true } }",
            "variable-size",
        ),
        ("batch_size: 1 inputs { key: 'x' value { dims: 64 zero_data: true } }", "must specify 'data_type'"),
        (
            "batch_size: 1 inputs { key: 'x' value { data_type: TYPE_FP32 dims: 64 } }",
            "say one of zero_data: true",
        ),
        (
            "batch_size: 1 inputs { key: 'x' value { data_type: TYPE_FP32 dims: 64 input_data_file: 'no' } }",
            "warmup/no cannot be read",
        ),
        (
            "batch_size: 1 inputs { key: 'x' value { data_type: TYPE_FP32 dims: 63 input_data_file: 'all' } }",
            r"has 256 bytes, and FP32 of shape \[63\] takes 252",
        ),
        (
            "batch_size: 1 inputs { key: 'x' value { data_type: TYPE_FP32 dims: 64 input_data_file: '../l' } }",
            "in the model's folder",
        ),
    ],
    ids=range(7),
)
def test_a_warm_up_that_cannot_run_is_refused(model, sample, reason):
    files = {"1/model.onnx": "", "warmup/all": bytes(256)}
    assert re.search(reason, refused(model(f'{BATCHED} model_warmup {{ name: "w" {sample} }}', files)))


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (["labels.txt"], "at least one version must be available.*no version folder"),
        (["1/model.plan"], "must specify 'platform' or 'backend'.*convert the TensorRT model to ONNX"),
        (["1/other.onnx"], "must specify 'platform' or 'backend'.*it has other.onnx"),
    ],
    ids=["no version", "another runtime's", "another name"],
)
def test_a_folder_without_a_model_is_refused(model, files, reason):
    assert re.search(reason, refused(model("", files)))


def test_a_model_that_is_refused_as_a_whole_has_its_highest_version(model):
    (source,) = model("max_batch_size: -1", ["2/model.onnx", "10/model.onnx"])
    assert source.version == "10"
    assert source.problem


def test_a_version_without_its_file_costs_only_itself(model):
    sources = model('backend: "onnxruntime" version_policy { all { } }', ["1/model.onnx", "2/model.pt"])
    assert [bool(each.problem) for each in sources] == [False, True]
    assert re.match(r"failed to load 'm' version 2, unable to find '.*2/model.onnx'", sources[1].problem)


def test_a_model_of_tritons_own_python_api_is_refused_without_being_imported(model):
    code = "raise SystemExit\nclass TritonPythonModel:\n    ..."
    problem = refused(model('backend: "python"', {"1/model.py": code}))
    assert "class TritonPythonModel" in problem


def test_text_that_is_none_is_refused(model):
    assert "config.pbtxt, line 1" in refused(model("\x00\x01"))
    (source,) = model("", {"1/model.onnx": "", "labels.txt": b"\xff"}, "n")
    (source.path.parents[1] / "config.pbtxt").write_bytes(b"\xff\xfe")
    assert "config.pbtxt is not UTF-8 at byte 0" in refused(triton.read(source.path.parents[1]))


def test_a_folder_that_was_given_itself_has_the_name_its_configuration_says(model):
    source = only(model('name: "resnet"', name="models", is_given=True))
    assert source.name == "resnet"
    assert source.config.described["name"] == "resnet"


def test_a_configuration_may_be_given_in_place_of_the_file(model):
    config = only(model(BATCHED, config_json='{"max_batch_size": "16"}')).config
    assert (config.max_batch_size, config.described["max_batch_size"]) == (16, 16)
    assert "is none: " in refused(model(BATCHED, config_json='{"max_batch": 1}'))


def test_a_configuration_is_given_back_completed(model):
    described = only(
        model(f"{BATCHED} instance_group {{ count: 2 }} dynamic_batching {{ }}")
    ).config.described
    assert described["name"] == "m"
    assert described["platform"] == "onnxruntime_onnx"
    assert described["backend"] == "onnxruntime"
    assert described["default_model_filename"] == "model.onnx"
    assert described["version_policy"] == {"latest": {"num_versions": 1}}
    assert described["instance_group"][0]["name"] == "m_0"
    assert described["instance_group"][0]["kind"] == "KIND_CPU"
    assert described["input"][0]["dims"] == [64]
    assert described["dynamic_batching"]["max_queue_delay_microseconds"] == 0


ALL_FIELDS = dict(triton_fields.all_fields(proto.message_class().DESCRIPTOR))


def test_every_field_has_a_fate():
    assert set(triton_fields.FIELDS) <= set(ALL_FIELDS), "remove the rows of fields that are not there"
    for path, has_parts in ALL_FIELDS.items():
        row = triton_fields.fate_of(path)
        if has_parts:
            continue
        assert row is not None, f"say in triton_fields.FIELDS what becomes of {path}"
        name, fate, _ = row
        assert fate is not Fate.HONOURED or name == path, f"give {path} a row of its own"


def test_the_page_says_of_every_field_what_becomes_of_it():
    rows = re.findall(r"^\| `([\w.]+)` \| ([\w, ]+) \| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    expected = [(name, str(fate), text) for name, (fate, text) in triton_fields.FIELDS.items()]
    assert rows == expected, "keep the table in docs/triton.md equal to triton_fields.FIELDS"
