import inspect

import pytest

from headrace import errors
from headrace.errors import HeadraceError

CLASSES = [each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, HeadraceError)]


def test_every_code_is_one_class_only():
    codes = [each.code for each in CLASSES]
    assert sorted(set(codes)) == sorted(codes)


@pytest.mark.parametrize("each", CLASSES, ids=lambda each: each.__name__)
def test_the_tree_drawn_above_the_classes_names_each_below_its_parent(each):
    drawing = errors.__doc__.splitlines()
    lines = {line.strip("├└─│ ").split()[0]: line for line in drawing if line.strip("├└─│ ")}
    assert each.__name__ in lines
    if each is not HeadraceError:
        parent = lines[each.__base__.__name__]
        child = lines[each.__name__]
        assert drawing.index(child) > drawing.index(parent)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (errors.NotFound("m"), "Request for unknown model: 'm' is not found"),
        (errors.UnknownVersion("m", "99"), "Request for unknown model: 'm' version 99 is not found"),
        (errors.UnknownVersion("m", None), "Request for unknown model: 'm' has no available versions"),
        (
            errors.NotReady("m", "1", "it loads"),
            "Request for unknown model: 'm' version 1 is not at ready state: it loads",
        ),
        (errors.NotReady("m", "1", ""), "Request for unknown model: 'm' version 1 is not at ready state"),
        (errors.RequestTimeout(), "Request timeout expired"),
        (errors.ServerExiting(), "Server exiting"),
        (errors.QueueFull("m", "9 bytes"), "Exceeds maximum queue size: 9 bytes wait for model 'm' already"),
        (
            errors.RequestTooLarge(9, 8),
            (
                "request JSON size of 9 bytes exceeds the maximum allowed input size of 8 bytes. "
                "Use --http-max-input-size to increase the limit."
            ),
        ),
    ],
    ids=str,
)
def test_texts_that_clients_look_for(error, text):
    assert str(error) == text
