"""Asks a running server for answers to random JSON schemas and validates them with Python's jsonschema.

usage: python3 tools/check_json_schemas.py --socket PATH [--url http://127.0.0.1:8080] [--count 200] [--seed 1]
                                           [--max-tokens 400]                    needs: pip install jsonschema httpx

Each schema is sent as `response_format` of a chat at temperature 1; the answer must have ended by itself and
fulfil the schema. A schema that the server refuses (status 400, with the reason) is replaced by the next one. The last
line is "N passed, N failed"; status 1 if anything failed.
"""

import argparse
import json
import sys

import httpx
import jsonschema

import test_schemas


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket")
    parser.add_argument("--url", default="http://sluice")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--max-tokens", type=int, default=400)
    parser.add_argument("--key", default="none")
    arguments = parser.parse_args()

    transport = httpx.HTTPTransport(uds=arguments.socket) if arguments.socket else httpx.HTTPTransport()
    client = httpx.Client(transport=transport, base_url=arguments.url, timeout=600)
    headers = {"Authorization": f"Bearer {arguments.key}"}
    model = client.get("/v1/models", headers=headers).json()["data"][0]["id"]

    passed = failed = refused = 0
    index = 0
    while passed + failed < arguments.count and index < 2 * arguments.count:
        schema = test_schemas.Maker(arguments.seed * 1_000_003 + index).schema()
        index += 1
        response = client.post(
            "/v1/chat/completions",
            headers=headers,
            json={
                "model": model,
                "messages": [{"role": "user", "content": "Answer with an example that fits the schema."}],
                "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}},
                "max_tokens": arguments.max_tokens,
                "temperature": 1,
                "seed": index,
            },
        )
        if response.status_code == 400:
            refused += 1
            print("refused:", response.json()["error"]["message"])
            continue
        text = response.text
        try:
            response.raise_for_status()
            choice = response.json()["choices"][0]
            text = choice["message"]["content"]
            jsonschema.Draft202012Validator(schema).validate(json.loads(text))
            passed += 1
        except (httpx.HTTPError, KeyError, ValueError, jsonschema.ValidationError) as error:
            failed += 1
            print("FAILED", str(error).splitlines()[0], "\n  ", json.dumps(schema, ensure_ascii=False), "\n  ", text)
    print(f"{refused} of {index} schemas refused")
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed or passed + failed < arguments.count else 0)


if __name__ == "__main__":
    main()
