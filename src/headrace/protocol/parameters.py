"""What the parameters of a request, of its inputs and of its outputs may say."""

from typing import Any, NamedTuple

from headrace.errors import InvalidRequest, Unsupported

MICROSECONDS = 1e-6
LONGEST_TIMEOUT_US = 1 << 64

Parameters = dict[str, Any]


class Asked(NamedTuple):
    """What a request asks for beside its outputs; as in InferRequest."""

    timeout_s: float | None = None
    priority: int = 0
    tenant: str = ""


NOTHING_ASKED = Asked()


def read_parameters(parameters: Parameters) -> Asked:
    """The request's own timeout, priority and tenant, if it names them.

    Raises:
        InvalidRequest: one of them cannot be read.
        Unsupported: it uses an extension this server does not have.
    """
    for name in parameters:
        if name.startswith("triton_"):
            raise InvalidRequest(f"parameter keys starting with 'triton_' are reserved: '{name}'")
    if parameters.get("sequence_id"):
        raise Unsupported("sequences ('sequence_id') are not supported: send the state as an input")
    priority = parameters.get("priority", 0)
    if type(priority) is not int or priority < 0:
        raise InvalidRequest("Unable to parse 'priority': expected an unsigned integer, 1 first")
    tenant = parameters.get("tenant")
    if tenant is None:
        tenant = ""
    if type(tenant) is not str:
        raise InvalidRequest("Unable to parse 'tenant': expected a string, the tenant's name")
    timeout_us = parameters.get("timeout")
    if timeout_us is None:
        return Asked(None, priority, tenant)
    if type(timeout_us) is not int or not 0 <= timeout_us < LONGEST_TIMEOUT_US:
        raise InvalidRequest("Unable to parse 'timeout': expected microseconds as an unsigned integer")
    return Asked(timeout_us * MICROSECONDS or None, priority, tenant)


def read_binary_size(name: str, parameters: Parameters | None) -> int | None:
    """An input's binary_data_size, or None if its data is JSON.

    Raises:
        InvalidRequest: it cannot be read.
        Unsupported: the input uses an extension this server does not have.
    """
    if not parameters:
        return None
    refuse_extensions(parameters, "input", name)
    size = parameters.get("binary_data_size")
    if size is None:
        return None
    if type(size) is not int or size < 0:
        raise InvalidRequest(
            f"Unable to parse 'binary_data_size' of input '{name}': expected an unsigned integer"
        )
    return size


def refuse_extensions(parameters: Parameters, kind: str, name: str) -> None:
    """Raise for what an input's or output's parameters may not say here."""
    if "shared_memory_region" in parameters:
        raise Unsupported(f"{kind} '{name}' is in shared memory, which this server does not offer")
    if "classification" in parameters and kind == "input":
        raise InvalidRequest(f"input '{name}' has the parameter 'classification', which is one of outputs")
