#!/usr/bin/env python3
"""The independent oracle of logits: transformers on the weights that a GGUF file decodes to.

usage: reference_logits.py MODEL.gguf (--ids 1,2,3 | --ids-file X.npy | --text FILE --tokens N) -o ref.npy

Every tensor is decoded to float32 by the gguf package and put into the transformers model of the file's
architecture (qwen3moe, olmoe, llama with experts), which runs in float32 with plain attention. Writes float32
[tokens, vocabulary], NumPy format 1.0; with --write-ids also the ids, comma-separated, for `sluice logits --ids`.
--text needs the tokenizer: TOKENIZER.json by --tokenizer, or llama.cpp's on the file itself without it.
Takes four bytes of memory per weight: a 7 B model needs 28 GB.

Needs: pip install numpy gguf torch 'transformers>=5'     (--text: tokenizers, or llama-cpp-python)
"""

import argparse
import pathlib
import sys

import numpy as np


def tokenize(model, text, tokenizer):
    """Ids of a text, no special tokens added or parsed."""
    if tokenizer:
        import tokenizers

        return tokenizers.Tokenizer.from_file(str(tokenizer)).encode(text, add_special_tokens=False).ids
    import llama_cpp

    reader = llama_cpp.Llama(str(model), vocab_only=True, verbose=False)
    return reader.tokenize(text.encode(), add_bos=False, special=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--ids", help="comma-separated token ids")
    source.add_argument("--ids-file", type=pathlib.Path, help=".npy of integer ids")
    source.add_argument("--text", type=pathlib.Path, help="a text file; see --tokens")
    parser.add_argument("--tokens", type=int, default=256, help="how many tokens of the text (256)")
    parser.add_argument("--tokenizer", type=pathlib.Path, help="tokenizer.json for --text")
    parser.add_argument("--write-ids", type=pathlib.Path, help="also write the ids, comma-separated")
    parser.add_argument("-o", "--out", type=pathlib.Path, required=True)
    arguments = parser.parse_args()

    import moe_gguf

    if arguments.ids:
        ids = [int(word) for word in arguments.ids.split(",")]
    elif arguments.ids_file:
        ids = np.load(arguments.ids_file).tolist()
    else:
        ids = tokenize(arguments.model, arguments.text.read_text(), arguments.tokenizer)[:arguments.tokens]
    try:
        model = moe_gguf.load_model(arguments.model)
    except moe_gguf.UnsupportedModel as error:
        sys.exit(f"{arguments.model}: {error}")
    if not ids or max(ids) >= model.config.vocab_size or min(ids) < 0:
        sys.exit(f"ids must be 1 or more numbers from 0 to {model.config.vocab_size - 1}")
    np.save(arguments.out, moe_gguf.logits(model, ids))
    if arguments.write_ids:
        arguments.write_ids.write_text(",".join(map(str, ids)) + "\n")


if __name__ == "__main__":
    main()
