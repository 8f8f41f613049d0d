#!/usr/bin/env python3
"""Makes the fixtures of chat templates: templates, variables, and what Python's jinja2 makes of them.

The reference is jinja2, set up as transformers does it in utils/chat_template_utils.py: ImmutableSandboxedEnvironment with
trim_blocks and lstrip_blocks, the tag `generation`, loop controls, and its own tojson, raise_exception, strftime_now, dict
and namespace. The one difference is that `now` is given, so that a case has one answer.

    tools/make_template_fixtures.py                        # the committed ones
    tools/make_template_fixtures.py --cases FILE --templates ../shared/templates --random 5000 --seed 7
    SLUICE_TEMPLATE_CASES=FILE swift test --filter PythonTests
    tools/make_template_fixtures.py --templates ../shared/templates --compare .build/debug/sluice

A case is an object with name, template, variables, now (seconds since 1970), and expected: the rendering, or null where
Python raises an error. `--templates` adds a matrix of conversations for every *.jinja of a folder, `--random`
templates made at random. `--compare` renders all cases with `BINARY template --file` and prints what differs.

Needs jinja2; without it it makes itself a virtual environment in .venv.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(Path(__file__).resolve().parent))

try:
    import jinja2
except ImportError:
    if os.environ.get("SLUICE_FIXTURES_VENV"):
        raise
    venv = ROOT / ".venv" / "template-fixtures"
    subprocess.check_call([sys.executable, "-m", "venv", str(venv)])
    subprocess.check_call([str(venv / "bin" / "pip"), "install", "--quiet", "jinja2==3.1.6"])
    os.environ["SLUICE_FIXTURES_VENV"] = "1"
    python = str(venv / "bin" / "python")
    os.execv(python, [python, *sys.argv])

import jinja2.ext
import jinja2.nodes
import jinja2.sandbox
import jinja2.utils

from template_cases import conversations, language, random_template

NOW = 1721998805.25


class Generation(jinja2.ext.Extension):
    """The tag `generation`, without the marks that transformers keeps of it."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        call = self.call_method("_render")
        return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _render(self, caller):
        return caller()


class TemplateDict:
    def __call__(self, *args, **kwargs):
        return dict(*args, **kwargs)

    def fromkeys(self, *args, **kwargs):
        return dict.fromkeys(*args, **kwargs)


class TemplateNamespace(jinja2.utils.Namespace):
    def __init__(*args, **kwargs):
        self, args = args[0], args[1:]
        attributes = dict(*args, **kwargs)
        for name in attributes:
            TemplateNamespace.check(name)
        jinja2.utils.Namespace.__init__(self, attributes)

    def __setitem__(self, name, value):
        TemplateNamespace.check(name)
        jinja2.utils.Namespace.__setitem__(self, name, value)

    @staticmethod
    def check(name):
        if isinstance(name, str) and name.startswith("_"):
            raise jinja2.exceptions.SecurityError(name)


def environment(now):
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(
            x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
        )

    result = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    result.filters["tojson"] = tojson
    result.globals["raise_exception"] = raise_exception
    result.globals["strftime_now"] = lambda format: datetime.fromtimestamp(now).strftime(format)
    result.globals["dict"] = TemplateDict()
    result.globals["namespace"] = TemplateNamespace
    return result


def rendered(template, variables, now=NOW):
    """The rendering, or None and the error."""
    try:
        text = environment(now).from_string(template).render(**variables)
        text.encode()
        return text, None
    except Exception as error:
        return None, error


def case(name, template, variables, now=NOW):
    expected, error = rendered(template, variables, now)
    result = {"name": name, "template": template, "variables": variables, "now": now}
    result["expected"] = expected
    if error is not None:
        result["error"] = f"{type(error).__name__}: {error}"
    return result


def cases_of(folder):
    for path in sorted(Path(folder).glob("*.jinja")):
        template = path.read_text(encoding="utf-8")
        for name, variables in conversations():
            yield case(f"{path.stem}: {name}", template, variables)


def random_cases(count, seed):
    made = 0
    generator = random.Random(seed)
    while made < count:
        template, variables = random_template(generator)
        result = case(f"random {seed}/{made}", template, variables)
        # What depends on addresses of objects has no one answer.
        if " at 0x" in (result["expected"] or ""):
            continue
        yield result
        made += 1


def compare(cases, binary):
    differing = 0
    for one in cases:
        with tempfile.NamedTemporaryFile("wb", suffix=".jinja") as file:
            file.write(one["template"].encode())
            file.flush()
            variables = json.dumps({**one["variables"], "now": one["now"]}, ensure_ascii=False)
            run = subprocess.run(
                [binary, "template", "--file", file.name], input=variables.encode(), capture_output=True
            )
        expected = one["expected"]
        if expected is None:
            right = run.returncode == 65 and run.stderr.count(b"\n") == 1
        else:
            right = run.returncode == 0 and run.stdout == expected.encode()
        if not right:
            differing += 1
            print(f"{one['name']}: {run.returncode} {run.stderr.decode()[:200]}")
    print(f"{len(cases)} cases, {differing} differ")
    return 1 if differing else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", metavar="FILE", help="write cases there, and not the committed ones")
    parser.add_argument("--templates", metavar="FOLDER", help="add a matrix for each *.jinja in it")
    parser.add_argument("--random", metavar="N", type=int, default=0, help="add random templates")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--compare", metavar="BINARY", help="render all cases with this sluice")
    options = parser.parse_args()

    cases = [case(name, template, variables) for name, template, variables in language()]
    if not options.cases and not options.compare:
        for one in cases:
            if ("error" in one) != one["name"].startswith("error"):
                sys.exit(f"{one['name']}: {one.get('error', one['expected'])}")
        path = ROOT / "Tests" / "Fixtures" / "templates" / "language.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"cases": cases}, ensure_ascii=False, indent=1) + "\n")
        print(f"{len(cases)} cases")
        return 0
    if options.templates:
        cases += cases_of(options.templates)
    cases += random_cases(options.random, options.seed)
    if options.compare:
        return compare(cases, options.compare)
    Path(options.cases).write_text(json.dumps({"cases": cases}, ensure_ascii=False))
    errors = sum(one["expected"] is None for one in cases)
    print(f"{len(cases)} cases, {errors} of them errors")
    return 0


if __name__ == "__main__":
    sys.exit(main())
