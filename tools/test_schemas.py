"""Checks constrained JSON against Python's jsonschema.

usage: python3 tools/test_schemas.py [--count N] [--seed S]     needs: pip install jsonschema

Makes N random schemas, lets Tests/ConstraintsTests write answers to each with a model that chooses any token
that the mask offers, and validates every answer. The last line is "N passed, N failed"; a schema that is refused
counts as neither and is listed with its reason.

       python3 tools/test_schemas.py --fixture     writes Tests/Fixtures/constraints/schemas.json anew
"""

import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
FIXTURE = ROOT / "Tests/Fixtures/constraints/schemas.json"

NAMES = ["name", "age", "id", "tags", "äpfel", "a/b", 'quo"te', "kind", "x", "y1", "date of birth", "emoji😀"]
WORDS = ["red", "green", "blue", "", "naïve", "a\nb", 'say "hi"', "back\\slash", "日本", "😀"]
PATTERNS = [
    r"^[a-z]+$", r"^\d{3}-\d{4}$", r"^[A-Z][a-z]*( [A-Z][a-z]*){0,2}$", r"[0-9]", r"^(foo|bar|)$",
    r"^\w+@\w+\.(com|org)$", r"^.{2,5}$", r"^[^\s\"]+$", r"ab|cd$", r"^#[0-9a-fA-F]{6}$", r"^(a|b)*c?$",
    r"^[äöü€😀]{1,4}$", r"^\S+$", r"^\D*$",
]
FORMATS = ["date", "time", "date-time", "uuid", "email", "ipv4", "ipv6", "uri", "hostname", "duration", "unknown"]


class Maker:
    """Random schemas, of which most can be fulfilled."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.definitions = {}

    def schema(self):
        if self.random.random() < 0.3:
            for name in ["node", "leaf"]:
                self.definitions[name] = None
            self.definitions["leaf"] = self.value(3)
            self.definitions["node"] = {
                "type": "object",
                "properties": {
                    "value": {"$ref": "#/$defs/leaf"},
                    "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                    "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
                },
                "required": self.random.sample(["value", "next"], self.random.randint(0, 2)),
                "additionalProperties": False,
            }
        root = self.object(0) if self.random.random() < 0.8 else self.value(0)
        if self.definitions:
            root = {**root, "$defs": self.definitions} if isinstance(root, dict) else root
        return root

    def value(self, depth):
        kinds = [self.string, self.string, self.integer, self.number, self.enumeration, self.constant, self.simple]
        if depth < 3:
            kinds += [self.object, self.object, self.array, self.array, self.any_of, self.one_of, self.all_of,
                      self.condition, self.negation, self.unique, self.contains, self.map]
        if self.definitions:
            kinds += [self.reference]
        return self.random.choice(kinds)(depth)

    def reference(self, depth):
        names = [name for name in self.definitions if self.definitions[name] is not None or depth > 0]
        return {"$ref": "#/$defs/" + self.random.choice(names or ["leaf"])} if depth < 3 else {"type": "null"}

    def simple(self, depth):
        return self.random.choice([
            {"type": "boolean"}, {"type": "null"}, {}, True, {"type": ["string", "null"]},
            {"type": ["integer", "boolean"]}, {"title": "anything"}, {"type": "object"}, {"type": "array"},
        ])

    def string(self, depth):
        schema = {"type": "string"}
        choice = self.random.random()
        if choice < 0.25:
            schema["minLength"] = self.random.randint(0, 8)
        if 0.15 < choice < 0.4:
            schema["maxLength"] = schema.get("minLength", 0) + self.random.randint(0, 12)
        if 0.4 < choice < 0.65:
            schema["pattern"] = self.random.choice(PATTERNS)
            if self.random.random() < 0.2:
                schema["maxLength"] = 12
                schema["minLength"] = self.random.randint(0, 2)
        if choice > 0.8:
            schema["format"] = self.random.choice(FORMATS)
        return schema

    def bound(self):
        return self.random.choice([
            self.random.randint(-20, 20), self.random.randint(-10**6, 10**6), self.random.randint(-10**12, 10**12),
            round(self.random.uniform(-100, 100), 3), 0, 0.1, -0.5, 1e-3, 12.75,
        ])

    def bounds(self, schema):
        bounds = sorted([self.bound(), self.bound()])
        if self.random.random() < 0.6:
            schema[self.random.choice(["minimum", "exclusiveMinimum"])] = bounds[0]
        if self.random.random() < 0.6:
            schema[self.random.choice(["maximum", "exclusiveMaximum"])] = bounds[1]
        return schema

    def integer(self, depth):
        schema = {"type": "integer"}
        if self.random.random() < 0.6:
            self.bounds(schema)
        if self.random.random() < 0.25:
            schema["multipleOf"] = self.random.choice([1, 2, 3, 5, 7, 10, 12, 25, 100, 0.5])
        return schema

    def number(self, depth):
        schema = {"type": "number"}
        if self.random.random() < 0.7:
            self.bounds(schema)
        if self.random.random() < 0.15:
            schema["multipleOf"] = self.random.choice([1, 3, 0.5, 0.25])
        return schema

    def enumeration(self, depth):
        values = WORDS + [1, 2.5, -3, None, True, {"a": 1}, [1, 2]]
        return {"enum": self.random.sample(values, self.random.randint(1, 5))}

    def constant(self, depth):
        return {"const": self.random.choice(WORDS + [0, 3.5, None, False, {"k": "v"}, []])}

    def object(self, depth):
        names = self.random.sample(NAMES, self.random.randint(0, 5))
        schema = {"type": "object", "properties": {name: self.value(depth + 1) for name in names}}
        schema["required"] = [name for name in names if self.random.random() < 0.5]
        choice = self.random.random()
        if choice < 0.4:
            schema["additionalProperties"] = False
        elif choice < 0.5:
            schema["additionalProperties"] = True
        elif choice < 0.65:
            schema["additionalProperties"] = self.value(depth + 1)
        if self.random.random() < 0.15:
            schema["patternProperties"] = {
                pattern: self.value(depth + 1)
                for pattern in self.random.sample(["^n", "[0-9]$", "^x-", "e"], self.random.randint(1, 2))
            }
        if self.random.random() < 0.15:
            schema["minProperties"] = self.random.randint(0, max(1, len(names)))
        if self.random.random() < 0.15:
            schema["maxProperties"] = max(len(schema["required"]), schema.get("minProperties", 0)) + 1
        if self.random.random() < 0.1:
            schema["propertyNames"] = {"maxLength": 14}
        if names and self.random.random() < 0.15:
            schema["dependentRequired"] = {names[0]: self.random.sample(names, 1)}
        return schema

    def map(self, depth):
        schema = {"type": "object", "additionalProperties": self.value(depth + 1)}
        if self.random.random() < 0.3:
            schema["propertyNames"] = self.random.choice([{"pattern": "^[a-z]{1,5}$"}, {"enum": ["a", "b", "c"]}])
        if self.random.random() < 0.3:
            schema["minProperties"] = 1
        return schema

    def array(self, depth):
        schema = {"type": "array"}
        if self.random.random() < 0.25:
            schema["prefixItems"] = [self.value(depth + 1) for _ in range(self.random.randint(1, 3))]
            if self.random.random() < 0.5:
                schema["items"] = self.random.choice([False, self.value(depth + 1)])
        else:
            schema["items"] = self.value(depth + 1)
        if self.random.random() < 0.4:
            schema["minItems"] = self.random.randint(0, 3)
        if self.random.random() < 0.4:
            schema["maxItems"] = schema.get("minItems", 0) + self.random.randint(0, 4)
        return schema

    def unique(self, depth):
        values = self.random.sample(WORDS + [1, 2, 3, None], self.random.randint(1, 9))
        schema = {"type": "array", "items": {"enum": values}, "uniqueItems": True}
        if self.random.random() < 0.5:
            schema["minItems"] = self.random.randint(0, len(values))
        return schema

    def contains(self, depth):
        schema = {"type": "array", "contains": self.random.choice([{"const": 7}, {"type": "string"}])}
        if self.random.random() < 0.5:
            schema["minContains"] = self.random.randint(0, 2)
        return schema

    def any_of(self, depth):
        return {"anyOf": [self.value(depth + 1) for _ in range(self.random.randint(1, 3))]}

    def one_of(self, depth):
        kinds = self.random.sample(["cat", "dog", "fish"], self.random.randint(2, 3))
        tagged = [
            {
                "type": "object",
                "properties": {"kind": {"const": kind}, "data": self.value(depth + 1)},
                "required": ["kind"] if self.random.random() < 0.8 else [],
            }
            for kind in kinds
        ]
        return self.random.choice([
            {"oneOf": tagged},
            {"oneOf": [self.string(depth), self.integer(depth)]},
            {"oneOf": [{"type": "integer", "minimum": 5}, {"type": "integer", "maximum": 10}]},
            {"oneOf": [{"type": "string", "maxLength": 4}, {"type": "string", "pattern": "^a"}]},
        ])

    def all_of(self, depth):
        return self.random.choice([
            {"allOf": [self.object(depth), self.object(depth)]},
            {"allOf": [self.string(depth), {"maxLength": 20}]},
            {"allOf": [self.integer(depth), {"minimum": -5}]},
            {"type": "object", "properties": {"a": self.value(depth + 1), "b": self.value(depth + 1)},
             "anyOf": [{"required": ["a"]}, {"required": ["b"]}]},
        ])

    def condition(self, depth):
        return {
            "type": "object",
            "properties": {"country": {"enum": ["US", "DE"]}, "code": {"type": "string"}},
            "required": self.random.choice([["country"], ["country", "code"], []]),
            "if": {"properties": {"country": {"const": "US"}}, "required": ["country"]},
            "then": {"properties": {"code": {"pattern": "^[0-9]{5}$"}}, "required": ["code"]},
            "else": self.random.choice([True, {"properties": {"code": {"pattern": "^[A-Z]{2}$"}}}]),
        }

    def negation(self, depth):
        return self.random.choice([
            {"type": "string", "not": {"enum": ["a", "bad", ""]}},
            {"not": {"type": "string"}},
            {"type": "integer", "not": {"const": 7}, "minimum": 0, "maximum": 12},
            {"type": "string", "not": {"pattern": "[0-9]"}},
            {"type": "object", "properties": {"a": {"type": "string"}}, "not": {"required": ["b"]}},
            {"not": {"anyOf": [{"type": "object"}, {"type": "array"}]}},
        ])


def schemas(count, seed):
    return [Maker(seed * 1_000_003 + index).schema() for index in range(count)]


def answers(cases, seed):
    """Runs the Swift driver: a list of {"schema": index, "text": ...} or {"schema": index, "refused": ...}."""
    with tempfile.TemporaryDirectory() as folder:
        cases_path = os.path.join(folder, "cases.json")
        outputs_path = os.path.join(folder, "outputs.json")
        with open(cases_path, "w", encoding="utf-8") as file:
            json.dump(cases, file)
        environment = {
            **os.environ, "SLUICE_SCHEMA_CASES": cases_path, "SLUICE_SCHEMA_OUTPUTS": outputs_path,
            "SLUICE_SCHEMA_SEED": str(seed),
        }
        command = ["swift", "test", "--skip-build", "--disable-xctest", "--filter", "writesAnswersForTheOracle"]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        if done.returncode != 0 or not os.path.exists(outputs_path):
            sys.exit(done.stdout[-4000:] + done.stderr[-4000:])
        with open(outputs_path, encoding="utf-8") as file:
            return json.load(file)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fixture", action="store_true")
    arguments = parser.parse_args()
    if arguments.fixture:
        with open(FIXTURE, "w", encoding="utf-8") as file:
            lines = [json.dumps(case, ensure_ascii=False) for case in schemas(240, 1)]
            file.write("[\n" + ",\n".join(lines) + "\n]\n")
        return

    import jsonschema

    cases = schemas(arguments.count, arguments.seed)
    passed = failed = refused = 0
    for answer in answers(cases, arguments.seed):
        schema = cases[answer["schema"]]
        if "refused" in answer:
            refused += 1
            print("refused", answer["refused"], "of", json.dumps(schema, ensure_ascii=False)[:300])
            continue
        try:
            value = json.loads(answer["text"])
            jsonschema.Draft202012Validator(schema).validate(value)
            passed += 1
        except (ValueError, jsonschema.ValidationError) as error:
            failed += 1
            print("FAILED", str(error).splitlines()[0], "\n  ", json.dumps(schema, ensure_ascii=False), "\n  ",
                  answer["text"])
    print(f"{refused} of {arguments.count} schemas refused")
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
