#!/usr/bin/env python3
"""Writes Tests/Fixtures/profiling/*.json: what numpy makes of the inputs that the tests of Profiling use.

super-experts.json: random matrices (layers, experts) of largest outputs, and the experts that the criterion of arXiv
2507.23279 picks, in numpy's terms. ridge.json: inputs, outputs and penalty, and the ridge regression by numpy's
least squares on the system augmented with sqrt(penalty) rows; the intercept is not penalised.
Needs numpy; installs it into .venv if it is missing.
"""

import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

try:
    import numpy as np
except ImportError:
    python = ROOT / ".venv" / "bin" / "python"
    if pathlib.Path(sys.prefix) == python.parent.parent:
        raise
    if not python.exists():
        subprocess.check_call([sys.executable, "-m", "venv", str(ROOT / ".venv")])
    subprocess.check_call([str(python), "-m", "pip", "install", "-q", "numpy"])
    sys.exit(subprocess.call([str(python), *sys.argv]))


def super_experts(matrix):
    """[layer, expert] pairs; a zero stands for an expert that was never used and has no entry."""
    kept = [(layer, expert) for layer, expert in np.argwhere(matrix > 0) if layer < round(len(matrix) * 0.75)]
    values = [matrix[place] for place in kept]
    if not values:
        return []
    percentile = np.percentile(values, 99.5)
    found = [place for place in kept if matrix[place] > percentile and matrix[place] > np.max(values) // 10]
    return [[int(layer), int(expert)] for layer, expert in found]


def make_super_experts(generator):
    cases = []
    for layers, experts in [(1, 4), (2, 8), (6, 32), (8, 32), (10, 7), (48, 16), (26, 64)]:
        for spread in (0.3, 1.5, 6.0):
            matrix = np.exp(generator.standard_normal((layers, experts)) * spread).astype(np.float32)
            matrix[generator.random((layers, experts)) < 0.1] = 0
            found = super_experts(matrix.astype(np.float64))
            cases.append({"outputs": [[float(f"{v:.9g}") for v in row] for row in matrix], "found": found})
    return cases


def make_ridge(generator):
    cases = []
    for samples, inputs, outputs, penalty in [(60, 7, 3, 0.5), (40, 12, 5, 20.0), (9, 12, 2, 0.01)]:
        x = (generator.standard_normal((samples, inputs)) * generator.uniform(0.2, 3, inputs)).astype(np.float32)
        y = (x @ generator.standard_normal((inputs, outputs)) + generator.standard_normal((samples, outputs)) + 2)
        y = y.astype(np.float32)
        rows = np.hstack([x.astype(np.float64), np.ones((samples, 1))])
        penalties = np.hstack([np.sqrt(penalty) * np.eye(inputs), np.zeros((inputs, 1))])
        solution, *_ = np.linalg.lstsq(
            np.vstack([rows, penalties]), np.vstack([y.astype(np.float64), np.zeros((inputs, outputs))]), rcond=None)
        cases.append({
            "samples": samples, "inputs": inputs, "outputs": outputs, "penalty": penalty,
            "x": [float(f"{v:.9g}") for v in x.ravel()], "y": [float(f"{v:.9g}") for v in y.ravel()],
            "weights": solution[:inputs].T.ravel().tolist(), "bias": solution[inputs].tolist()})
    return cases


def main():
    folder = ROOT / "Tests/Fixtures/profiling"
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(20)
    for name, cases in [("super-experts", make_super_experts(generator)), ("ridge", make_ridge(generator))]:
        text = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
        (folder / f"{name}.json").write_text(f"[\n{text}\n]\n")


if __name__ == "__main__":
    main()
