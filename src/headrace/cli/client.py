"""A conversation with a server of the protocol, whose errors say what to do."""

import http.client
import json
import time
from http import HTTPStatus
from typing import Any, NamedTuple, NoReturn
from urllib.parse import SplitResult, quote, urlsplit

import click

from headrace.cli.query import Body, Json, Metadata, Query, encode, split_body
from headrace.cli.values import Tensor
from headrace.messages import Datatype

JSON = {"Content-Type": "application/json"}
ITEMS_FAULT = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY})
"""What an item is answered with that cannot be answered."""
HEADER_LENGTH = "Inference-Header-Content-Length"
UNKNOWN = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND})
"""What servers of the protocol answer for a model they do not have."""


class Answer(NamedTuple):
    """A response; header_length is set where binary tensors follow its JSON."""

    status: int
    header_length: int | None
    content: bytes
    seconds: float

    @property
    def is_ok(self) -> bool:
        return self.status == HTTPStatus.OK

    def json(self) -> Any:
        return json.loads(self.content[: self.header_length])


class Client:
    """Blocks. One connection a request, since few are made.

    Every method raises click.ClickException where there is no answer, or not the one that was asked for.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        parts = split(url)
        if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname:
            raise click.BadParameter(f"'{url}' is not a URL like http://127.0.0.1:8000", param_hint="'--url'")
        self._url = f"{parts.scheme}://{parts.netloc}"
        self._parts = parts
        self._timeout_s = timeout_s

    def infer(self, query: Query) -> Answer:
        """Ask what the model takes, and then the model."""
        return self._infer(query, encode(query, self._metadata(query)))

    def send(self, query: Query, content: bytes) -> Answer:
        """Ask with a whole body, as it is."""
        return self._infer(query, split_body(content))

    def server(self) -> str:
        """Its name and version, as it says."""
        answer = self._request("GET", "/v2")
        found = self._json(answer) if answer.is_ok else {}
        return " ".join(filter(None, (found.get("name"), found.get("version")))) or "a server"

    def get(self, path: str) -> Any:
        """What an endpoint of this server's own has to say."""
        return self._own(self._request("GET", path))

    def post(self, path: str, content: Json) -> Any:
        """The same, told something."""
        return self._own(self._request("POST", path, json.dumps(content).encode(), JSON))

    def _own(self, answer: Answer) -> Any:
        content = self._json(answer)
        if answer.is_ok:
            return content
        if not (isinstance(content, dict) and "code" in content):
            raise click.ClickException(
                f"{self._url} has no such endpoint: is it headrace, and as new as this?"
            )
        raise click.ClickException(content["error"])

    def ready_model(self, name: str | None) -> str:
        """The model of that name if it is ready, or the only one that is if none is named.

        Raises:
            click.ClickException: it is not there or not ready, or there is not exactly one.
        """
        index = self._index() or self._listed()
        if name is not None:
            return self._checked(name, index)
        ready = [each["name"] for each in index if each.get("state", "READY") == "READY"]
        match list(dict.fromkeys(ready)):
            case [only]:
                return str(only)
            case []:
                raise click.ClickException(f"{self._url} has no model that is ready: name one that will be")
            case several:
                raise click.ClickException(
                    f"{self._url} has several models: name one of {', '.join(several)}"
                )

    def _checked(self, name: str, index: list[Json]) -> str:
        entries = [each for each in index if each["name"] == name]
        if index and not entries:
            there = ", ".join(dict.fromkeys(each["name"] for each in index))
            raise click.ClickException(f"{self._url} has no model '{name}'; it has: {there}")
        if self._request("GET", f"/v2/models/{quote(name, safe='')}/ready").is_ok:
            return name
        reason = next((each["reason"] for each in entries if each.get("reason")), "it may be loading")
        raise click.ClickException(f"model '{name}' of {self._url} is not ready: {reason}")

    def _listed(self) -> list[Json]:
        """The models of a server that has no index: KServe lists the names of those that are ready."""
        answer = self._request("GET", "/v2/models")
        return [{"name": each} for each in self._json(answer).get("models", [])] if answer.is_ok else []

    def describe(self, path: str, skill: str) -> Json:
        """What a skill takes and gives."""
        answer = self._request("GET", path)
        if not answer.is_ok:
            self._refuse_skill(skill, answer)
        described: Json = self._json(answer)
        if not described.get("inputs"):
            raise click.ClickException(
                f"skill '{skill}' is not ready: {described.get('reason') or 'it is loading'}"
            )
        return described

    def ask(self, path: str, skill: str, item: Json) -> Answer:
        """Ask a skill for one item's answer."""
        answer = self._request("POST", path, json.dumps(item).encode(), JSON)
        if not answer.is_ok:
            self._refuse_skill(skill, answer)
        return answer

    def ask_each(self, path: str, skill: str, items: list[Json]) -> list[Json]:
        """Ask a skill for the answers, or errors, of several items in one request."""
        answer = self._request("POST", path, json.dumps({"items": items}).encode(), JSON)
        content = self._json(answer)
        if answer.is_ok:
            answers: list[Json] = content["answers"]
            return answers
        if answer.status in ITEMS_FAULT and len(items) > 1:
            # All of them failed, and the answer has the first's error only.
            return [each for item in items for each in self.ask_each(path, skill, [item])]
        if answer.status not in ITEMS_FAULT or not isinstance(content, dict) or "error" not in content:
            self._refuse_skill(skill, answer)
        return [{"error": {"code": content.get("code", ""), "message": content["error"]}}]

    def _refuse_skill(self, skill: str, answer: Answer) -> NoReturn:
        """Raise the server's error, or say what there is instead of a skill that it does not know."""
        content = self._json(answer)
        if not (isinstance(content, dict) and "error" in content):
            raise self._foreign(answer)
        if content.get("code") == "not_found":
            listed = self._request("GET", "/v1/skills")
            there = ", ".join(each["name"] for each in self._json(listed)["skills"]) if listed.is_ok else ""
            raise click.ClickException(f"{self._url} has no skill '{skill}'; it has: {there}")
        raise click.ClickException(content["error"])

    def _infer(self, query: Query, body: Body) -> Answer:
        headers = JSON
        if body.header_length is not None:
            headers = {
                "Content-Type": "application/octet-stream",
                HEADER_LENGTH: str(body.header_length),
            }
        answer = self._request("POST", f"{query.path}/infer", body.content, headers)
        if not answer.is_ok:
            self._refuse(query, answer)
        return answer

    def _metadata(self, query: Query) -> Metadata:
        answer = self._request("GET", query.path)
        if not answer.is_ok:
            self._refuse(query, answer)
        found = self._json(answer)
        config = self._request("GET", f"{query.path}/config")  # not every server of the protocol has one
        is_batched = config.is_ok and self._json(config).get("max_batch_size", 0) > 0
        return Metadata(tensors(found["inputs"]), tensors(found["outputs"]), is_batched)

    def _request(
        self, verb: str, path: str, content: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(self._parts.hostname or "", self._parts.port, timeout=self._timeout_s)
        started = time.perf_counter()
        try:
            connection.request(verb, self._parts.path.rstrip("/") + path, content, headers or {})
            response = connection.getresponse()
            received = response.read()
        except ConnectionRefusedError as exc:
            raise click.ClickException(
                f"nothing listens on {self._url}: start it with: headrace serve PATH…"
            ) from exc
        except TimeoutError as exc:
            raise click.ClickException(f"{self._url} did not answer within {self._timeout_s:g} s") from exc
        except (OSError, http.client.HTTPException) as exc:
            raise click.ClickException(
                f"cannot talk to {self._url}: {str(exc) or type(exc).__name__}"
            ) from exc
        finally:
            connection.close()
        length = response.getheader(HEADER_LENGTH)
        return Answer(
            response.status, int(length) if length else None, received, time.perf_counter() - started
        )

    def _refuse(self, query: Query, answer: Answer) -> NoReturn:
        """Raise the server's error, or say what there is instead of a model or version that it does not know."""
        content = self._json(answer)
        if not (isinstance(content, dict) and "error" in content):
            raise self._foreign(answer)
        if answer.status in UNKNOWN and (index := self._index()):
            versions = [each["version"] for each in index if each["name"] == query.model]
            if not versions:
                models = ", ".join(dict.fromkeys(each["name"] for each in index))
                raise click.ClickException(f"{self._url} has no model '{query.model}'; it has: {models}")
            if query.version and query.version not in versions:
                raise click.ClickException(
                    f"model '{query.model}' has no version {query.version}; it has: {', '.join(versions)}"
                )
        raise click.ClickException(content["error"])

    def _index(self) -> list[Json]:
        """What there is; nothing where the server does not say."""
        answer = self._request("POST", "/v2/repository/index")
        entries: list[Json] = self._json(answer) if answer.is_ok else []
        return entries

    def _json(self, answer: Answer) -> Any:
        try:
            return answer.json()
        except ValueError:
            raise self._foreign(answer) from None

    def _foreign(self, answer: Answer) -> click.ClickException:
        return click.ClickException(
            f"{self._url} does not speak the Open Inference Protocol: it answered with status {answer.status} and "
            f"{answer.content[:100]!r}"
        )


def tensors(entries: list[Json]) -> dict[str, Tensor]:
    return {
        each["name"]: Tensor(each["name"], Datatype(each["datatype"]), tuple(each["shape"]))
        for each in entries
    }


def split(url: str) -> SplitResult | None:
    """Its parts; None if it has a port that is no number, or one too large."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        port = parts.port
    except ValueError:
        return None
    return None if port == 0 else parts
