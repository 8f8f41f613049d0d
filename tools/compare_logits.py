#!/usr/bin/env python3
"""Compares two files of logits, float32 [tokens, vocabulary]: ours and the reference.

usage: compare_logits.py OURS.npy REF.npy [--max-relative 1e-3] [--max-kl 1e-3] [--equal]

Prints max |difference| as a share of the reference's range, KL(reference || ours) in nats (mean and max over the
positions), and how often both put the same token first. Status 1 when a stated bound is passed (the KL bound holds
for the mean), or, with --equal, when the two files differ in a single byte of their data; 2 when the shapes differ
or a value is not a number.

Needs: pip install numpy
"""

import argparse
import sys

import numpy as np


def log_softmax(logits):
    logits = logits.astype(np.float64)
    logits = logits - logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ours")
    parser.add_argument("reference")
    parser.add_argument("--max-relative", type=float, help="bound of max |difference| / range of the reference")
    parser.add_argument("--max-kl", type=float, help="bound of the mean KL divergence")
    parser.add_argument("--equal", action="store_true", help="the data must be the same, byte for byte")
    arguments = parser.parse_args()

    ours, reference = np.load(arguments.ours), np.load(arguments.reference)
    if ours.shape != reference.shape or ours.dtype != reference.dtype:
        print(f"shapes or types differ: {ours.dtype}{ours.shape} and {reference.dtype}{reference.shape}", file=sys.stderr)
        sys.exit(2)
    for name, array in ((arguments.ours, ours), (arguments.reference, reference)):
        if not np.isfinite(array).all():
            where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
            print(f"{name}: not finite at {where}", file=sys.stderr)
            sys.exit(2)

    span = float(reference.max() - reference.min())
    relative = float(np.abs(ours.astype(np.float64) - reference).max()) / span
    p, q = log_softmax(reference), log_softmax(ours)
    kl = (np.exp(p) * (p - q)).sum(-1)
    agreement = float((ours.argmax(-1) == reference.argmax(-1)).mean())
    same = ours.tobytes() == reference.tobytes()
    print(f"tokens {ours.shape[0]}  range {span:.3f}  max|diff|/range {relative:.3e}  KL mean {kl.mean():.3e}"
          f" max {kl.max():.3e}  top-1 agreement {agreement:.2%}{'  identical' if same else ''}")
    failed = []
    if arguments.max_relative is not None and relative > arguments.max_relative:
        failed.append(f"max|diff|/range {relative:.3e} > {arguments.max_relative:g}")
    if arguments.max_kl is not None and kl.mean() > arguments.max_kl:
        failed.append(f"mean KL {kl.mean():.3e} > {arguments.max_kl:g}")
    if arguments.equal and not same:
        failed.append("the data differ")
    if failed:
        print("; ".join(failed), file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
