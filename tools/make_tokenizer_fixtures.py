#!/usr/bin/env python3
"""Makes the tokenizer fixtures: tiny vocabularies, random texts, and what the reference libraries make of them.

The reference for byte-level BPE is the `tokenizers` package, for SentencePiece the `sentencepiece` package. Both
vocabularies are trained here, on random text made here. The BPE is trained without any pre-tokeniser, so that some
of its merges reach across places where a pre-tokeniser cuts.

    tools/make_tokenizer_fixtures.py                        # the committed ones
    tools/make_tokenizer_fixtures.py --texts 20000 --seed 7 -o /some/folder
    SLUICE_TOKENIZER_CASES=/some/folder swift test --filter TokenizerFixtureTests

texts.hex holds the texts, UTF-8 in hexadecimal, one line each. NAME.words has the lengths in bytes of the words that
a pre-tokeniser cuts each text into, one line each. NAME.gguf is a vocabulary, NAME.ids the tokens it gives for each
text. `--tokenizer-json FILE --pre NAME` adds json.gguf and json.ids with the vocabulary, merges and pre-tokeniser of a
tokenizer.json.

Needs tokenizers, sentencepiece, gguf and numpy; without them it makes itself a virtual environment in .venv.
"""

import argparse
import io
import json
import os
import random
import subprocess
import sys
import unicodedata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ["tokenizers==0.23.3", "sentencepiece==0.2.3", "gguf==0.19.0", "numpy"]

try:
    import gguf
    import sentencepiece
    import tokenizers
    from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
except ImportError:
    if os.environ.get("SLUICE_FIXTURES_VENV"):
        raise
    venv = ROOT / ".venv" / "tokenizer-fixtures"
    subprocess.check_call([sys.executable, "-m", "venv", str(venv)])
    subprocess.check_call([str(venv / "bin" / "pip"), "install", "--quiet", *PACKAGES])
    os.environ["SLUICE_FIXTURES_VENV"] = "1"
    # Python finds its environment by its own name, so that must be the whole path.
    python = str(venv / "bin" / "python")
    os.execv(python, [python, *sys.argv])

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
SPACE = r"\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + SPACE
QWEN2 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + SPACE
QWEN35 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|" + SPACE
SEED_CODER = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|" + SPACE
UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*|\p{{N}}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + SPACE
)
GPT4O = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{CONTRACTIONS}?|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{CONTRACTIONS}?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + SPACE
)
DEEPSEEK_V3 = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|" + SPACE
)
EAST_ASIAN = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
# The letters of DeepSeek LLM's expression, as code points: some of them do not survive being typed as text.
DEEPSEEK_LETTERS = """
41-5A 61-7A B5 C0-D6 D8-F6 F8-1BA 1BC-1BF 1C4-293 295-2AF 370-373 376-377 37B-37D 37F 386 388-38A 38C 38E-3A1 3A3-3F5
3F7-481 48A-52F 531-556 10A0-10C5 13A0-13F5 13F8-13FD 1C90-1CBA 1CBD-1CBF 1D00-1D2B 1D6B-1D77 1D79-1D9A 1E00-1F15
1F18-1F1D 1F20-1F45 1F48-1F4D 1F50-1F57 1F59 1F5B 1F5D 1F5F-1F7D 1F80-1FB4 1FB6-1FBC 1FBE 1FC2-1FC4 1FC6-1FCC
1FD0-1FD3 1FD6-1FDB 1FE0-1FEC 1FF2-1FF4 1FF6-1FFC 2102 2107 210A-2113 2115 2119-211D 2124 2126 2128 212A-212D
212F-2134 2139 213C-213F 2145-2149 214E 2183-2184 2C00-2C7B 2C7E-2CE4 2CEB-2CEE 2CF2-2CF3 A640-A66D A680-A69B
A722-A76F A771-A787 A78B-A78E AB70-ABBF FB00-FB06 FB13-FB17 FF21-FF3A FF41-FF5A 10400-1044F 104B0-104D3 104D8-104FB
10C80-10CB2 10CC0-10CF2 118A0-118DF 1E900-1E943
"""


def character_class(ranges):
    parts = []
    for entry in ranges.split():
        first, _, last = entry.partition("-")
        parts.append(rf"\x{{{first}}}-\x{{{last or first}}}")
    return "[" + "".join(parts) + "]"


def split(*expressions):
    return [pre_tokenizers.Split(Regex(e), "isolated") for e in expressions]


def byte_level(use_regex=False):
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


DIGITS = pre_tokenizers.Digits(individual_digits=True)

# Name in tokenizer.ggml.pre: the pre-tokeniser as the model's tokenizer.json has it, and whether whole words in the
# vocabulary go before merges. falcon and default are llama.cpp's own: their expressions come from there.
PRE_TOKENIZERS = {
    "gpt-2": ([byte_level(use_regex=True)], False),
    "starcoder": ([DIGITS, byte_level(use_regex=True)], False),
    "llama-bpe": (split(LLAMA3) + [byte_level()], True),
    "qwen2": (split(QWEN2) + [byte_level()], False),
    "qwen35": (split(QWEN35) + [byte_level()], False),
    "seed-coder": (split(SEED_CODER) + [byte_level()], False),
    "gpt-4o": (split(GPT4O) + [byte_level()], False),
    "tekken": (split(TEKKEN) + [byte_level()], True),
    "deepseek-llm": (
        split(
            r"[\r\n]",
            r"\s?" + character_class(DEEPSEEK_LETTERS) + "+",
            "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+",
            r"\s+$",
            EAST_ASIAN,
        )
        + [DIGITS, byte_level()],
        False,
    ),
    "deepseek-coder": (
        split(r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", EAST_ASIAN) + [DIGITS, byte_level()],
        False,
    ),
    "deepseek-v3": (
        split(r"\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+", DEEPSEEK_V3) + [byte_level()],
        False,
    ),
    "falcon": (split(r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]") + [byte_level()], False),
    "default": (split(r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]") + [byte_level()], False),
}
# These get a vocabulary of their own; for the others the words are enough.
WITH_VOCABULARY = ["gpt-2", "starcoder", "llama-bpe", "qwen2", "deepseek-llm", "deepseek-coder"]
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


class Texts:
    """Random text that is rich in what pre-tokenisers look at."""

    SPACES = [" ", " ", " ", "  ", "\t", "\n", "\r\n", "\r", "\n\n", "\v", "\f", "\x85", "\xa0", "\u1680", "\u2003",
              "\u2028", "\u2029", "\u202f", "\u205f", "\u3000", "\u200b", "\ufeff", "\x1c", "\x1f", "\u180e"]
    ENDINGS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'T", "'Re", "'vE", "'M", "'LL", "'lL", "'D", "'\u017f",
               "\u2019s", "'", "''", "'x", "'l", "'R", "'\u00e9"]
    PUNCTUATION = list("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~") + list("¡¿«»–—‘’“”…·§©®°±×÷€£¥¢₿→∑∞√≠■★♥、。「」！？：；～｟｠・，")
    DIGITS = list("0123456789") * 3 + list("٠١٢٣०१२０１２３²³¹½¼ⅠⅧⅫ①⑩一二三") + ["\U0001d7d8", "\U0001f100"]
    MARKS = list("\u0300\u0301\u0308\u0327\u20dd\u20d0\u093e\u0902\u0e34\u0e48\u064b\u05b0\u3099\ufe0f")
    WORDS = ("the and over while Hello WORLD iPhone McDonald camelCase snake_case HTTPServer naïve Führer Œuvre ǅungla "
             "ʰello Привет МИР слово нещо Ελληνικά ΣΊΣΥΦΟΣ שלום مرحبا हिन्दी ไทย ខ្មែរ Հայերեն ქართული ᏣᎳᎩ 漢字 日本語 ひらがな "
             "カタカナ ｶﾀｶﾅ 한국어 ᄒᆞᆫ 中文 Việt ﬁne ﬆop ßtraße ſtop K Å Ω ℵ 𝒳𝓎 𐐀𐐨 I'VE don't we'll x1y2 a.b 3.14 1,000 </s> <s> <unk> "
             "<0x0A> [INST] ▁ ▁▁x").split()
    EMOJI = ["😀", "🦙", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪", "👍🏽", "😶‍🌫️", "✅", "❤️", "☺", "1️⃣"]
    OTHERS = ["\x00", "\x01", "\x07", "\x1b", "\x7f", "\x80", "\x9f", "\xad", "\u200d", "\u200e", "\u2060", "\ufffd",
              "\ufffe", "\ue000", "\U000f0000", "\U0010ffff", "\U000e0041"]

    def __init__(self, seed, unassigned=False):
        self.random = random.Random(seed)
        self.unassigned = unassigned

    def character(self):
        while True:
            top = self.random.choice([0x80, 0x250, 0x600, 0x3100, 0xFFFF, 0x1FFFF, 0x10FFFF if self.unassigned else 0x323AF])
            code = self.random.randrange(top + 1)
            if 0xD800 <= code < 0xE000:
                continue
            # Characters of newer Unicode versions are where libraries may rightly differ.
            if not self.unassigned and unicodedata.category(chr(code)) == "Cn":
                continue
            return chr(code)

    def piece(self, kinds=14):
        pick = self.random.choice
        match self.random.randrange(kinds):
            case 0 | 1 | 2: return pick(self.WORDS)
            case 3 | 4: return pick(self.SPACES)
            case 5: return pick([" ", "\n", "\t", "\r\n"]) * self.random.randrange(1, 12)
            case 6: return pick(self.ENDINGS)
            case 7: return pick(self.PUNCTUATION)
            case 8: return "".join(pick(self.PUNCTUATION) for _ in range(self.random.randrange(1, 6)))
            case 9: return "".join(pick(self.DIGITS) for _ in range(self.random.randrange(1, 9)))
            case 10: return pick(self.MARKS)
            case 11: return pick(self.EMOJI)
            case 12: return pick(self.OTHERS)
            case _: return "".join(self.character() for _ in range(self.random.randrange(1, 5)))

    def text(self, pieces, kinds=14):
        return "".join(self.piece(kinds) for _ in range(pieces))


def byte_alphabet():
    """The character of each byte in byte-level vocabularies."""
    direct = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in direct]
    return {b: chr(b) for b in direct} | {b: chr(256 + i) for i, b in enumerate(others)}


def trained_bpe(seed, size=600):
    """Vocabulary and merges of a BPE trained over everything, words or not."""
    texts = Texts(seed)
    alphabet = byte_alphabet()
    lines = ["".join(alphabet[b] for b in texts.text(30).encode()) for _ in range(600)]
    tokenizer = tokenizers.Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=sorted(alphabet.values()), show_progress=False)
    tokenizer.train_from_iterator(lines, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in model["merges"]]
    vocabulary = dict(sorted(model["vocab"].items(), key=lambda item: item[1]))
    # Words that no merge makes: only whole-word look-up finds them.
    for word in ["Hello", " while", " WORLD", "slovo", "\n\n", "ひらがな"]:
        vocabulary.setdefault("".join(alphabet[b] for b in word.encode()), len(vocabulary))
    return vocabulary, merges


def write_bpe(path, pre, tokens, types, merges, end):
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_eos_token_id(end)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def write_numbers(path, lines):
    path.write_text("".join(" ".join(map(str, line)) + "\n" for line in lines))


def make_bpe(output, vocabulary, merges, texts):
    special = {text: len(vocabulary) + i for i, text in enumerate(SPECIAL)}
    tokens = list(vocabulary) + SPECIAL
    types = [gguf.TokenType.NORMAL] * len(vocabulary) + [gguf.TokenType.CONTROL] * len(SPECIAL)
    lines = [" ".join(m) for m in merges]
    for name, (stages, ignore_merges) in PRE_TOKENIZERS.items():
        cut = pre_tokenizers.Sequence(stages)
        # A word comes out in the byte alphabet, one character for each byte.
        words = ([len(word) for word, _ in cut.pre_tokenize_str(t)] for t in texts)
        write_numbers(output / f"{name}.words", words)
        if name not in WITH_VOCABULARY:
            continue
        tokenizer = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=ignore_merges))
        tokenizer.pre_tokenizer = cut
        tokenizer.decoder = decoders.ByteLevel()
        write_bpe(output / f"{name}.gguf", name, tokens, types, lines, special[SPECIAL[0]])
        write_numbers(output / f"{name}.ids", (tokenizer.encode(t, add_special_tokens=False).ids for t in texts))


def make_sentencepiece(output, seed, texts):
    samples = Texts(seed)
    # No rare characters: they would fill the vocabulary, and are to be spelled in bytes instead.
    sentences = [line for _ in range(800) for line in samples.text(30, kinds=10).splitlines() if line]
    trained = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences), model_writer=trained, model_type="bpe", vocab_size=1000,
        character_coverage=0.99, byte_fallback=True, normalization_rule_name="identity",
        remove_extra_whitespaces=False, split_digits=True, allow_whitespace_only_pieces=True, minloglevel=2)
    pieces = sentencepiece.SentencePieceProcessor(model_proto=trained.getvalue())
    writer = gguf.GGUFWriter(str(output / "llama.gguf"), "llama")
    writer.add_tokenizer_model("llama")
    count = pieces.get_piece_size()
    writer.add_token_list([pieces.id_to_piece(i) for i in range(count)])
    writer.add_token_scores([pieces.get_score(i) for i in range(count)])
    writer.add_token_types([
        gguf.TokenType.UNKNOWN if pieces.is_unknown(i) else gguf.TokenType.CONTROL if pieces.is_control(i)
        else gguf.TokenType.BYTE if pieces.is_byte(i) else gguf.TokenType.NORMAL for i in range(count)])
    writer.add_bos_token_id(pieces.bos_id())
    writer.add_eos_token_id(pieces.eos_id())
    writer.add_unk_token_id(pieces.unk_id())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    write_numbers(output / "llama.ids", (pieces.encode(t) for t in texts))


def make_from_json(output, path, pre, texts):
    tokenizer = tokenizers.Tokenizer.from_file(str(path))
    content = json.loads(Path(path).read_text())
    model = content["model"]
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    tokens = dict(model["vocab"])
    added = {a["content"]: a["id"] for a in content["added_tokens"]}
    by_id = {i: (t, gguf.TokenType.NORMAL) for t, i in tokens.items()}
    by_id |= {i: (t, gguf.TokenType.CONTROL) for t, i in added.items()}
    ordered = [by_id[i] for i in range(len(by_id))]
    write_bpe(output / "json.gguf", pre, [t for t, _ in ordered], [k for _, k in ordered], merges,
              added.get("<|endoftext|>", 0))
    write_numbers(output / "json.ids", (tokenizer.encode(t, add_special_tokens=False).ids for t in texts))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "Tests" / "Fixtures" / "tokenizers")
    parser.add_argument("--texts", type=int, default=250, help="how many texts")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--unassigned", action="store_true", help="characters of any Unicode version, or none")
    parser.add_argument("--tokenizer-json", type=Path, help="a byte-level tokenizer.json to compare as well")
    parser.add_argument("--pre", default="qwen2", help="the name of its pre-tokeniser in GGUF files")
    arguments = parser.parse_args()

    arguments.output.mkdir(parents=True, exist_ok=True)
    source = Texts(arguments.seed, arguments.unassigned)
    texts = [source.text(1 + i % 24) for i in range(arguments.texts)]
    (arguments.output / "texts.hex").write_text("".join(t.encode().hex() + "\n" for t in texts))
    # The vocabularies are the same whatever the texts.
    vocabulary, merges = trained_bpe(seed=0)
    make_bpe(arguments.output, vocabulary, merges, texts)
    make_sentencepiece(arguments.output, 0, texts)
    if arguments.tokenizer_json:
        make_from_json(arguments.output, arguments.tokenizer_json, arguments.pre, texts)


if __name__ == "__main__":
    main()
