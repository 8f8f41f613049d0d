#!/usr/bin/env python3
"""Makes Tests/Fixtures/gguf: small GGUF files of every kind, and what the `gguf` package reads in them.

Needs numpy and gguf (pip install "gguf==0.19.0"). The files are committed; the script always writes the
same ones.

    types.gguf              version 3, every metadata type, nested arrays, another alignment
    version2.gguf           version 2
    formats.gguf            a tensor of every weight format, one to four dimensions
    vocabulary.gguf         metadata only, no tensors
    split-0000N-of-00003    one model in three files

EXPECTED.txt has one line per fact, fields separated by tabs:
    file NAME VERSION | key NAME KEY TYPE VALUE | tensor NAME TENSOR TYPE SHAPE OFFSET BYTES
    array NAME KEY DEPTH TYPE COUNT ITEM...   (arrays in arrays come flattened; DEPTH counts the levels)
Strings are given as the hexadecimal of their UTF-8, floats as the hexadecimal of their bits as a double.
"""
import argparse
import struct
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as T
from gguf import GGUFReader, GGUFValueType as V, GGUFWriter
from gguf.constants import GGML_QUANT_SIZES


def write(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def small_model(writer, random, layers):
    for layer in layers:
        name = f"blk.{layer}.ffn_gate_exps.weight"
        writer.add_tensor(name, random.random((2, 3, 32), dtype=np.float32))


def types(path, random):
    writer = GGUFWriter(path, "fixture")
    writer.add_custom_alignment(64)
    writer.add_uint8("a.uint8", 255)
    writer.add_int8("a.int8", -128)
    writer.add_uint16("a.uint16", 65535)
    writer.add_int16("a.int16", -32768)
    writer.add_uint32("a.uint32", 4294967295)
    writer.add_int32("a.int32", -2147483648)
    writer.add_uint64("a.uint64", 18446744073709551615)
    writer.add_int64("a.int64", -9223372036854775808)
    writer.add_float32("a.float32", 0.1)
    writer.add_float64("a.float64", 1e-300)
    writer.add_bool("a.true", True)
    writer.add_bool("a.false", False)
    writer.add_string("a.string", "Gr\u00fc\u00dfe, \u4e16\u754c \U0001f600\n")
    writer.add_string("a.empty", "x")
    writer.add_array("b.int32", [1, -2, 3])
    writer.add_array("b.float32", [0.5, -1.25, 3e38])
    writer.add_array("b.bool", [True, False, True])
    writer.add_array("b.string", ["one", "", "\u00e9", "four and twenty"])
    writer.add_array("b.bytes", b"\x00\x01\xff")
    writer.add_array("c.nested", [[1, 2], [3], [4, 5, 6]])
    writer.add_array("c.strings", [["a", "b"], ["c"]])
    writer.add_array("c.deep", [[[1], [2, 3]], [[4]]])
    writer.add_tensor("weight", random.random((4, 8), dtype=np.float32))
    writer.add_tensor("bias", random.random((8,), dtype=np.float32))
    write(writer)


def version2(path, random):
    writer = GGUFWriter(path, "fixture")
    writer.add_uint32("fixture.block_count", 2)
    writer.add_token_list(["<s>", "</s>", "a", "b"])
    small_model(writer, random, range(2))
    write(writer)
    content = bytearray(path.read_bytes())
    # Version 3 added nothing but the other byte order.
    content[4:8] = struct.pack("<I", 2)
    path.write_bytes(content)


def formats(path, random):
    writer = GGUFWriter(path, "fixture")
    shapes = [(1,), (3,), (2, 2), (1, 2, 2)]
    kinds = [T.F32, T.F16, T.BF16, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0, T.Q2_K, T.Q3_K, T.Q4_K, T.Q5_K,
             T.Q6_K, T.IQ4_NL, T.IQ4_XS, T.MXFP4, T.TQ1_0, T.TQ2_0]
    for index, kind in enumerate(kinds):
        elements, size = GGML_QUANT_SIZES[kind]
        shape = shapes[index % len(shapes)]
        block_bytes = random.integers(0, 256, (*shape[:-1], shape[-1] * size), dtype=np.uint8)
        if kind == T.F32:
            block_bytes = block_bytes.view(np.float32)
        elif kind == T.F16:
            block_bytes = block_bytes.view(np.float16)
        writer.add_tensor(f"tensor.{kind.name}", block_bytes, raw_dtype=kind)
    write(writer)


def vocabulary(path, _):
    writer = GGUFWriter(path, "fixture")
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"token{index}" for index in range(200)])
    writer.add_token_scores([index / 7 for index in range(200)])
    writer.add_token_types([1] * 200)
    writer.add_token_merges([f"to ken{index}" for index in range(100)])
    write(writer)


def split(directory, random):
    count = 3
    total = 5
    layers = [range(0, 2), range(2, 3), range(3, 5)]
    for number in range(count):
        path = directory / f"split-{number + 1:05d}-of-{count:05d}.gguf"
        writer = GGUFWriter(path, "fixture")
        if number == 0:
            writer.add_uint32("fixture.block_count", total)
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", count)
        writer.add_int32("split.tensors.count", total)
        small_model(writer, random, layers[number])
        write(writer)


def scalar(value, kind):
    if kind == V.STRING:
        return bytes(value).hex() or "-"
    if kind in (V.FLOAT32, V.FLOAT64):
        return struct.pack(">d", float(value[0])).hex()
    return str(int(value[0]))


def describe(path, lines):
    reader = GGUFReader(path)
    lines.append(("file", path.name, reader.fields["GGUF.version"].parts[0][0]))
    for key, field in reader.fields.items():
        if key.startswith("GGUF."):
            continue
        kind = field.types[0]
        if kind == V.ARRAY:
            # Nested arrays come flattened; their own test looks at the nesting.
            items = [scalar(field.parts[index], field.types[-1]) for index in field.data]
            depth = sum(1 for each in field.types if each == V.ARRAY)
            lines.append(("array", path.name, key, depth, field.types[-1].name.lower(), len(items), *items))
        else:
            lines.append(("key", path.name, key, kind.name.lower(), scalar(field.parts[-1], kind)))
    for tensor in reader.tensors:
        shape = "x".join(str(length) for length in tensor.shape)
        lines.append(("tensor", path.name, tensor.name, tensor.tensor_type.name, shape, tensor.data_offset, tensor.n_bytes))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    default = Path(__file__).resolve().parent.parent / "Tests" / "Fixtures" / "gguf"
    parser.add_argument("--output", type=Path, default=default)
    output = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(7)
    for make in (types, version2, formats, vocabulary):
        make(output / f"{make.__name__}.gguf", random)
    split(output, random)
    lines = []
    for path in sorted(output.glob("*.gguf")):
        describe(path, lines)
    text = "".join("\t".join(str(field) for field in line) + "\n" for line in lines)
    (output / "EXPECTED.txt").write_text(text)


if __name__ == "__main__":
    main()
