"""Whose request is it: from what its headers and parameters say to a tenant's name.

Names decide how the device is shared and what metrics are counted under; they let nobody in and keep nobody out. An API
key is never kept or shown: it is looked up by its digest, and one that nobody listed goes by the first digits of that.
"""

import re
from collections.abc import Iterable
from hashlib import sha256
from typing import TypeVar

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


class Tenants:
    """The tenants of the settings, and names for everybody else. Lives on the loop."""

    def __init__(self, settings: Settings) -> None:
        self._header = settings.tenant_header.lower().encode()
        self.headers = frozenset({AUTHORIZATION, API_KEY, self._header})
        """Names of the headers that say whose a request is."""
        self._by_digest = {
            key.removeprefix(DIGEST): name for name, tenant in settings.tenants.items() for key in tenant.keys
        }
        self._with_keys = frozenset(self._by_digest.values())
        # The mutable state: what was worked out once, as API keys and names come again and again.
        self._of_keys: dict[bytes, str] = {}
        self._of_names: dict[str, str] = {}

    def of_headers(self, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
        """Whose a request with these headers is, None if they do not say; keys before names, and the last of several.

        Args:
            headers: names in lower case; others than `headers` are ignored.
        """
        key, named = b"", b""
        for name, value in headers:
            if name == AUTHORIZATION:
                match = BEARER.fullmatch(value.strip())
                key = match[1] if match else key
            elif name == API_KEY:
                key = value.strip() or key
            elif name == self._header:
                named = value
        if key:
            return self._of_key(key)
        return self.of_name(named.decode("latin-1")) or None

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

    def _of_key(self, key: bytes) -> str:
        known = self._of_keys.get(key)
        if known is None:
            hashed = digest(key)
            known = self._by_digest.get(hashed) or f"key-{hashed[:DIGITS]}"
            remember(self._of_keys, key, known)
        return known


def remember(names: dict[Said, str], said: Said, name: str) -> None:
    """Keep what was worked out, within bounds."""
    if len(said) <= LONGEST_KNOWN:
        if len(names) >= MOST_KNOWN:
            names.clear()
        names[said] = name


def digest(content: bytes) -> str:
    return sha256(content).hexdigest()
