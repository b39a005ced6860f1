"""A server that answers everything with the same bytes: what the load generator can reach. `python fixed.py PORT`."""

import asyncio
import contextlib
import json
import os
import sys

import uvloop

VALUE = 0.5
OUTPUT = {"name": "output", "datatype": "FP32", "shape": [1, 1], "data": [VALUE]}
BODY = json.dumps({"model_name": "fixed", "model_version": "1", "outputs": [OUTPUT]}).encode()
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY


class Fixed(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.write = transport.write  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:  # noqa: ARG002 - one request, complete: they are small
        self.write(ANSWER)


async def main(port: int) -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    server = await asyncio.get_running_loop().create_server(Fixed, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(main(int(sys.argv[1])))
