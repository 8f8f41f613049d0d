#!/usr/bin/env python3
"""Ill-mannered clients against a running service, and what it loses by them.

usage: soak_serve.py --socket PATH [--pid PID] [--clients 8] [--minutes 10] [--seed 1] [--tokens 64]

Every client goes on picking one of these at random until the time is over: a whole answer, a stream read to its end, a stream left
in the middle, a request left before the answer, a reader of one byte at a time, a connection that sends half a request and
waits, one that closes its sending side, a body over the limit, a malformed request, a bad JSON value, an unknown path.

A well-formed request must be answered with 200 and a whole body (a stream: up to [DONE]) or refused with 429 or 503 in OpenAI's
shape; a bad one must be refused with the right status. At the end nothing may run or wait, a request must be answered, and the
process may hold no more descriptors than before and no more than 10 % (at least 16 MB) more memory than after the first tenth of
the time. Prints "N passed, N failed", N being the kinds of things done and these checks. Needs no package.
"""

import argparse
import asyncio
import collections
import json
import os
import random
import re
import sys
import time


class Wrong(Exception):
    pass


def request(method, path, body=b"", headers=()):
    head = [f"{method} {path} HTTP/1.1", "Host: sluice", f"Content-Length: {len(body)}"]
    head += ["Content-Type: application/json", "Connection: close", *headers]
    return ("\r\n".join(head) + "\r\n\r\n").encode() + body


class Client:
    def __init__(self, options, seed, counts):
        self.options = options
        self.random = random.Random(seed)
        self.counts = counts

    def chat(self, stream):
        words = ["the", "king", "int", "def", "river", "return", "night", "🦥", "für", "struct"]
        text = " ".join(self.random.choice(words) for _ in range(self.random.choice([1, 5, 40, 200])))
        body = {"messages": [{"role": "user", "content": text}], "stream": stream,
                "max_tokens": self.random.randint(1, self.options.tokens), "seed": self.random.randint(0, 999)}
        if stream:
            body["stream_options"] = {"include_usage": True}
        if self.random.random() < 0.2:
            body["n"] = 2
        if self.random.random() < 0.2:
            body["response_format"] = {"type": "json_object"}
        return request("POST", "/v1/chat/completions", json.dumps(body).encode())

    async def open(self):
        return await asyncio.open_unix_connection(self.options.socket, limit=1 << 20)

    async def answer(self, reader, slowly=False):
        """(status, body) of the whole response."""
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 120)
        status = int(head.split()[1])
        parts = []
        while True:
            piece = await asyncio.wait_for(reader.read(1 if slowly else 65536), 120)
            if not piece:
                break
            parts.append(piece)
            if slowly and len(parts) < 400:
                await asyncio.sleep(0.005)
        body = b"".join(parts)
        if b"transfer-encoding: chunked" in head.lower():
            body = self.dechunk(body)
        return status, body

    @staticmethod
    def dechunk(body):
        whole, position = b"", 0
        while True:
            end = body.find(b"\r\n", position)
            if end < 0:
                raise Wrong("a chunked body that does not end")
            size = int(body[position:end], 16)
            if size == 0:
                return whole
            whole += body[end + 2:end + 2 + size]
            position = end + 2 + size + 2

    @staticmethod
    def check(status, body, stream):
        if status in (429, 503):
            if not json.loads(body)["error"]["message"]:
                raise Wrong(f"status {status} without a message")
            return f"refused {status}"
        if status != 200:
            raise Wrong(f"status {status}: {body[:200]!r}")
        if stream:
            if not body.rstrip().endswith(b"data: [DONE]"):
                raise Wrong(f"a stream without [DONE]: ...{body[-200:]!r}")
        else:
            answer = json.loads(body)
            if not all(choice["finish_reason"] for choice in answer["choices"]):
                raise Wrong("a choice that did not finish")
        return "answered"

    async def whole(self, slowly=False):
        stream = self.random.random() < 0.5
        reader, writer = await self.open()
        try:
            writer.write(self.chat(stream))
            await writer.drain()
            return self.check(*await self.answer(reader, slowly), stream)
        finally:
            writer.close()

    async def slow_reader(self):
        return await self.whole(slowly=True)

    async def leave_stream(self):
        reader, writer = await self.open()
        writer.write(self.chat(True))
        await asyncio.wait_for(reader.read(self.random.randint(1, 2000)), 120)
        writer.transport.abort() if self.random.random() < 0.5 else writer.close()
        return "left"

    async def leave_early(self):
        _, writer = await self.open()
        writer.write(self.chat(self.random.random() < 0.5))
        await writer.drain()
        await asyncio.sleep(self.random.random() * 0.1)
        writer.transport.abort()
        return "left"

    async def half_request(self):
        _, writer = await self.open()
        data = self.chat(False)
        writer.write(data[:self.random.randint(0, len(data) - 1)])
        await writer.drain()
        await asyncio.sleep(self.random.random() * 2)
        writer.transport.abort()
        return "left"

    async def half_open(self):
        reader, writer = await self.open()
        try:
            writer.write(self.chat(True))
            writer.write_eof()
            # Counts as gone: whatever comes, the connection ends.
            while await asyncio.wait_for(reader.read(65536), 120):
                pass
            return "ended"
        finally:
            writer.close()

    async def expect(self, data, *statuses):
        reader, writer = await self.open()
        try:
            try:
                writer.write(data)
                await writer.drain()
                status, body = await self.answer(reader)
            except (ConnectionError, asyncio.IncompleteReadError):
                # A server may close before it has read all of a body that it refuses.
                if 413 in statuses:
                    return "closed"
                raise
            if status not in statuses:
                raise Wrong(f"status {status} where {statuses} was due: {body[:200]!r}")
            if body and "error" not in json.loads(body):
                raise Wrong(f"status {status} without an error object")
            return f"refused {status}"
        finally:
            writer.close()

    async def oversized(self):
        return await self.expect(request("POST", "/v1/chat/completions", b'"' + b"x" * (20 << 20) + b'"'), 413)

    async def malformed(self):
        reader, writer = await self.open()
        try:
            writer.write(self.random.choice([b"\x16\x03\x01\x00\x05hello\r\n\r\n", b"GET\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
                                             b"GET / HTTP/9.9\r\n\r\n", bytes(self.random.randrange(256) for _ in range(300)) + b"\r\n\r\n"]))
            writer.write_eof()
            data = b""
            while piece := await asyncio.wait_for(reader.read(65536), 120):
                data += piece
            if data and not re.match(rb"HTTP/1\.[01] [45]\d\d", data):
                raise Wrong(f"a malformed request was answered with {data[:80]!r}")
            return "refused"
        except ConnectionError:
            return "closed"
        finally:
            writer.close()

    async def bad_value(self):
        body = self.random.choice([b"{", b"[]", b'{"messages": 3}', b'{"messages": []}', b'{"messages": [{"role": "user", "content": "a"}], "temperature": "hot"}',
                                   b"[" * 5000, b"\xff\xfe", b'{"messages": [{"role": "user", "content": "a"}], "n": 100000}'])
        return await self.expect(request("POST", "/v1/chat/completions", body), 400, 422)

    async def unknown_path(self):
        return await self.expect(request("GET", "/" + "x" * self.random.randint(1, 3000)), 404, 414, 431)

    KINDS = dict(whole=6, slow_reader=2, leave_stream=3, leave_early=3, half_request=2, half_open=1, oversized=0.3, malformed=1,
                 bad_value=2, unknown_path=1)

    async def run(self, until):
        while time.monotonic() < until:
            kind = self.random.choices(list(self.KINDS), list(self.KINDS.values()))[0]
            try:
                result = await getattr(self, kind)()
                self.counts[kind, result] += 1
            except (Wrong, OSError, asyncio.TimeoutError, asyncio.IncompleteReadError, ValueError, KeyError) as error:
                self.counts[kind, f"WRONG {type(error).__name__}: {str(error)[:160]}"] += 1
                await asyncio.sleep(0.1)


def holds(pid):
    """(descriptors, bytes of anonymous memory) of a process."""
    status = open(f"/proc/{pid}/status").read()
    return len(os.listdir(f"/proc/{pid}/fd")), int(re.search(r"RssAnon:\s+(\d+)", status)[1]) * 1024


async def get(options, path):
    client = Client(options, 0, None)
    reader, writer = await client.open()
    writer.write(request("GET", path))
    status, body = await client.answer(reader)
    writer.close()
    return status, body


async def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--socket", required=True)
    parser.add_argument("--pid", type=int, help="of the service: its descriptors and memory are compared")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=64)
    options = parser.parse_args()
    counts = collections.Counter()
    problems = []
    seconds = options.minutes * 60
    descriptors = holds(options.pid)[0] if options.pid else 0
    early = []

    async def remember():
        await asyncio.sleep(seconds / 10)
        early.append(holds(options.pid)[1] if options.pid else 0)

    until = time.monotonic() + seconds
    await asyncio.gather(remember(), *(Client(options, options.seed * 1000 + index, counts).run(until) for index in range(options.clients)))
    await asyncio.sleep(3)
    for (kind, result), count in sorted(counts.items()):
        print(f"{count:7}  {kind}: {result}")

    status, body = await get(options, "/metrics")
    values = {name: float(value) for name, value in re.findall(r"^(sluice_requests_(?:running|queued)) (\S+)$", body.decode(), re.M)}
    if status != 200 or len(values) != 2 or any(values.values()):
        problems.append(f"something still runs or waits: {values}")
    client = Client(options, 7, counts)
    reader, writer = await client.open()
    writer.write(client.chat(False))
    if (last := await client.answer(reader))[0] != 200:
        problems.append(f"the last request was answered with {last}")
    writer.close()
    if options.pid:
        await asyncio.sleep(1)
        now = holds(options.pid)
        print(f"descriptors {descriptors} before, {now[0]} after; anonymous memory {early[0] / 1e6:.1f} MB early, {now[1] / 1e6:.1f} MB after")
        if now[0] > descriptors:
            problems.append(f"{now[0] - descriptors} descriptors are left open")
        if now[1] > max(early[0] * 1.1, early[0] + (16 << 20)):
            problems.append("memory has grown")
    for problem in problems:
        print("FAILED ", problem)
    kinds = set(kind for kind, _ in counts)
    wrong = set(kind for kind, result in counts if result.startswith("WRONG"))
    failed = len(wrong) + len(problems)
    print(f"{len(kinds) - len(wrong) + 4 - len(problems)} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    asyncio.run(main())
