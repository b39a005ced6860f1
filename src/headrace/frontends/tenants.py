"""Whose request is it: from what its headers and parameters say to a tenant's name.

Names decide how the device is shared and what metrics are counted under; they let nobody in and keep nobody out. An API
key is never shown: it is looked up by its digest. One that nobody listed may be for something else, as what a proxy adds
for all its callers; it goes by the first digits of its digest, where nothing else says whose a request is.
"""

import re
from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import NamedTuple, TypeVar

from headrace.config import DIGEST, TENANT_NAME, Settings

API_KEY = b"x-api-key"
AUTHORIZATION = b"authorization"
BEARER = re.compile(rb"bearer +([^ ]+)", re.IGNORECASE)
NAME = re.compile(TENANT_NAME)
DIGITS = 8
"""Of a digest, where it stands for what may not be shown."""
MOST_KNOWN = 4096
LONGEST_KNOWN = 256
"""Of what is remembered; a longer one is worked out again each time."""

Said = TypeVar("Said", str, bytes)
Found = TypeVar("Found")


class Whose(NamedTuple):
    """What the headers of a request say of whose it is.

    Attributes:
        tenant: the owner of its API key, or else who the tenant header names; None where neither is there.
        stranger: what stands for its API key where nobody listed that; None where there is none such.
    """

    tenant: str | None = None
    stranger: str | None = None


class Tenants:
    """The tenants of the settings, and names for everybody else. Lives on the loop."""

    def __init__(self, settings: Settings) -> None:
        self._header = settings.tenant_header.lower().encode()
        self.headers = frozenset({*KEYS, self._header})
        """Names of the headers that say whose a request is."""
        self._by_digest = {
            key.removeprefix(DIGEST): name for name, tenant in settings.tenants.items() for key in tenant.keys
        }
        self._with_keys = frozenset(self._by_digest.values())
        # The mutable state: what was worked out once, as API keys and names come again and again.
        self._of_keys: dict[bytes, tuple[str, bool]] = {}
        self._of_names: dict[str, str] = {}

    def of_headers(self, headers: Iterable[tuple[bytes, bytes]]) -> Whose:
        """Whose a request with these headers is; of several of a kind, the last.

        Args:
            headers: names in lower case; others than `headers` are ignored.
        """
        owner = stranger = None
        named = b""
        for name, value in headers:
            if name in KEYS:
                if key := KEYS[name](value):
                    known, is_listed = self._of_key(key)
                    owner, stranger = (known, stranger) if is_listed else (owner, known)
            elif name == self._header:
                named = value
        return Whose(owner or self.of_name(named.decode("latin-1")) or None, stranger)

    def of_name(self, text: str) -> str:
        """Who says to be called so, in a header or a parameter; "" for nobody.

        A tenant that has keys is told by them alone: without one, a request that says its name is nobody's.
        """
        known = self._of_names.get(text)
        if known is None:
            known = text.strip()
            if known in self._with_keys:
                known = ""
            elif known and not NAME.fullmatch(known):
                known = f"name-{digest(known.encode())[:DIGITS]}"
            remember(self._of_names, text, known)
        return known

    def _of_key(self, key: bytes) -> tuple[str, bool]:
        """What stands for a key, and whether that is its owner."""
        found = self._of_keys.get(key)
        if found is None:
            hashed = digest(key)
            owner = self._by_digest.get(hashed)
            found = (owner or f"key-{hashed[:DIGITS]}", owner is not None)
            remember(self._of_keys, key, found)
        return found


def remember(names: dict[Said, Found], said: Said, name: Found) -> None:
    """Keep what was worked out, within bounds."""
    if len(said) <= LONGEST_KNOWN:
        if len(names) >= MOST_KNOWN:
            names.clear()
        names[said] = name


def bearer_token(value: bytes) -> bytes:
    """The key in an Authorization header; empty for another scheme."""
    match = BEARER.fullmatch(value.strip())
    return match[1] if match else b""


def digest(content: bytes) -> str:
    return sha256(content).hexdigest()


KEYS: dict[bytes, Callable[[bytes], bytes]] = {AUTHORIZATION: bearer_token, API_KEY: bytes.strip}
"""Headers that hold an API key, with how to read it; empty where there is none."""
