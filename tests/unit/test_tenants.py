from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.cli.tenants import read_tenants
from headrace.config import Settings, Tenant
from headrace.errors import ConfigurationError
from headrace.frontends import tenants as module
from headrace.frontends.tenants import Tenants

SECRET = "s3cret-key"
DIGEST = sha256(SECRET.encode()).hexdigest()
KNOWN = Settings(
    tenants={
        "acme": Tenant(weight=3, keys=(SECRET, f"sha256:{sha256(b'other').hexdigest().upper()}")),
        "nightly": Tenant(weight=0.2),
    }
)


STRANGER = f"key-{sha256(b'stranger').hexdigest()[:8]}"


def whose(*headers, settings=KNOWN):
    return Tenants(settings).of_headers([(name.encode(), value.encode()) for name, value in headers])


def of(*headers, settings=KNOWN):
    return whose(*headers, settings=settings).tenant


@pytest.mark.parametrize(
    "header",
    [
        ("authorization", f"Bearer {SECRET}"),
        ("authorization", f"bearer  {SECRET} "),
        ("x-api-key", SECRET),
        ("x-api-key", "other"),
    ],
    ids=["bearer", "in lower case", "X-API-Key", "by its digest"],
)
def test_a_key_tells_its_tenant(header):
    assert of(header) == "acme"


def test_a_key_nobody_listed_stands_for_itself_without_being_shown():
    assert whose(("x-api-key", "stranger")) == (None, STRANGER)
    assert whose(("authorization", "Bearer stranger")) == (None, STRANGER)


def test_a_key_that_is_listed_goes_before_names_and_before_one_that_is_not():
    assert of(("x-tenant", "nightly"), ("x-api-key", SECRET)) == "acme"
    assert of(("authorization", f"Bearer {SECRET}"), ("x-api-key", "stranger")) == "acme"
    assert of(("x-api-key", "stranger"), ("authorization", f"Bearer {SECRET}")) == "acme"


def test_a_name_goes_before_a_key_that_a_proxy_may_send_for_everybody():
    assert whose(("authorization", "Bearer stranger"), ("x-tenant", "nightly")) == ("nightly", STRANGER)
    assert whose(("authorization", "Bearer stranger"), ("x-tenant", "acme")) == (None, STRANGER)


def test_a_name_is_what_the_header_says():
    assert of(("x-tenant", " nightly ")) == "nightly"
    assert of(("x-tenant", "anybody else")) == "anybody else"
    assert of(("x-team", "red"), settings=Settings(tenant_header="X-Team")) == "red"


def test_nobody_takes_the_name_of_a_tenant_that_has_keys():
    assert of(("x-tenant", "acme")) is None
    assert Tenants(KNOWN).of_name("acme") == ""


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("x-tenant", "")],
        [("authorization", "Basic eDp5")],
        [("authorization", "Bearer")],
        [("x-api-key", " ")],
    ],
    ids=["no header", "an empty one", "another scheme", "no token", "an empty key"],
)
def test_whoever_says_nothing_is_nobody(headers):
    assert whose(*headers) == (None, None)


def test_what_cannot_be_a_label_goes_by_its_digest():
    assert of(("x-tenant", "x" * 65)) == f"name-{sha256(b'x' * 65).hexdigest()[:8]}"


@given(st.text(max_size=80))
def test_every_name_can_be_a_label(text):
    name = Tenants(Settings()).of_name(text)
    assert name == "" or module.NAME.fullmatch(name)
    assert Tenants(Settings()).of_name(name) == name


def test_what_is_remembered_has_a_bound(monkeypatch):
    monkeypatch.setattr(module, "MOST_KNOWN", 8)
    tenants = Tenants(KNOWN)
    for number in range(100):
        tenants.of_headers([(b"x-api-key", b"%d" % number)])
        tenants.of_name(str(number))
    tenants.of_headers([(b"x-api-key", b"k" * 10_000)])
    tenants.of_name("n" * 10_000)
    assert max(map(len, tenants._of_keys)) < 10_000
    assert max(map(len, tenants._of_names)) < 10_000
    assert len(tenants._of_keys) <= 8
    assert len(tenants._of_names) <= 8
    assert tenants.of_headers([(b"x-api-key", SECRET.encode())]).tenant == "acme"


def read(tmp_path, text):
    (tmp_path / "tenants.yaml").write_text(text)
    return read_tenants(tmp_path / "tenants.yaml")


def problems(tmp_path, text):
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, text)
    return [line.partition("tenants.yaml:")[2] for line in str(caught.value).splitlines()]


def test_a_file_gives_weights_and_the_digests_of_keys(tmp_path):
    found = read(
        tmp_path,
        f"acme: {{weight: 3, keys: [{SECRET}, 'sha256:{'AB' * 32}']}}\nnightly: {{weight: 1e-1}}\nall:\n",
    )
    assert found == {
        "acme": Tenant(weight=3, keys=(f"sha256:{DIGEST}", f"sha256:{'ab' * 32}")),
        "nightly": Tenant(weight=0.1),
        "all": Tenant(),
    }
    assert found["acme"].keys[0] == f"sha256:{DIGEST}"


def test_a_file_may_be_empty(tmp_path):
    assert read(tmp_path, "") == {}


MISTAKES = {
    "a weight of nothing": ("a:\n  weight: 0", "2: a.weight: should be a number above 0, and is 0"),
    "a negative weight": ("a: {weight: -2}", "1: a.weight: should be a number above 0, and is -2"),
    "a weight that is no number": (
        "a: {weight: .nan}",
        "1: a.weight: should be a number above 0, and is nan",
    ),
    "a word": ("a: {weight: much}", "1: a.weight: should be a number above 0, as in weight: 2"),
    "an unknown key": ("a: {weihgt: 2}", "1: a.weihgt: unknown key; did you mean weight?"),
    "one like no other": ("a: {zzz: 2}", "1: a.zzz: unknown key; there are weight and keys"),
    "a number alone": ("a: 2", "1: a: should say its weight, its keys or both, as in {weight: 2}"),
    "a list": ("- a", "1: this should map tenants to what they get, as in acme: {weight: 2}"),
    "one key": (f"a: {{keys: {SECRET}}}", '1: a.keys: should be a list, as in keys: ["sha256:…"]'),
    "a key with a space": (
        "a: {keys: ['s3 cret']}",
        "1: a.keys[0]: should be 1 to 512 visible ASCII characters",
    ),
    "a short digest": ("a: {keys: ['sha256:12']}", "1: a.keys[0]: should be sha256: and 64 hex digits"),
    "a key of digits": ("a: {keys: [1234]}", "1: a.keys[0]: should be text: put it in quotes"),
    "a name": ("'a\u00e4': {}", "1: a\u00e4: a tenant's name is 1 to 64 printable ASCII characters"),
    "broken YAML": ("a: [1", "1: this is not YAML: "),
    "a key like an alias": (
        f"a: {{keys: [*{SECRET}]}}",
        "1: this is not YAML: text that begins with * has to be",
    ),
    "a key like a tag": (
        f"a: {{keys: [!{SECRET} x]}}",
        "1: a.keys[0]: a tag, as in !this, means nothing here",
    ),
    "a tenant twice": ("a: {}\na: {}", "2: a: given twice, first in line 1: keep one"),
    "a shared key": (
        f"a: {{keys: [{SECRET}]}}\nb:\n  keys:\n    - sha256:{DIGEST}",
        "4: b.keys[0]: is the same key as in line 1, of a: keep one",
    ),
}


@pytest.mark.parametrize(("text", "expected"), list(MISTAKES.values()), ids=list(MISTAKES))
def test_a_mistake_is_told_with_its_line_and_without_the_key(tmp_path, text, expected):
    said = problems(tmp_path, text)
    assert any(line.startswith(expected) for line in said), said
    assert not any(SECRET in line or "s3 cret" in line for line in said)


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file(tmp_path):
    said = problems(tmp_path, "a: {keys: [1]}\nb: {weight: 0, kyes: []}\nc: 3\n")
    assert [line.partition(":")[0] for line in said] == ["1", "2", "2", "3"]


def test_what_cannot_be_read_is_said(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff")
    for file in (tmp_path / "gone", tmp_path, tmp_path / "binary"):
        with pytest.raises(ConfigurationError, match=str(file)):
            read_tenants(file)
