"""Dense models: one feed-forward network that every token passes."""

import math

import numpy as np

from . import base


class Dense(base.Family):
    norms = {}
    fixed = dict(rms_norm_eps=1e-6, tie_word_embeddings=False)
    default_members = dict(
        hidden_size=64, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, intermediate_size=160)
    fixture_members = dict(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, intermediate_size=40,
        tie_word_embeddings=True)
    heads_apart = False

    def random_members(self, rng):
        return base.draw_heads(rng, apart=self.heads_apart) | dict(
            num_hidden_layers=base.draw(rng, 2, 3, 4), intermediate_size=base.draw(rng, 44, 100, 172),
            tie_word_embeddings=bool(base.draw(rng, 0, 1)),
            rope_parameters=base.draw_rotary(rng, "default", "linear", "yarn"))

    def tensors(self, config, state):
        out = base.top_tensors(config, state)
        for layer in range(config.num_hidden_layers):
            out |= base.renamed(
                state, f"model.layers.{layer}.", f"blk.{layer}.", base.ATTENTION | self.norms | base.DENSE)
        return out

    def write_hyperparameters(self, writer, config):
        base.common_hyperparameters(writer, config)
        base.write_head_size(writer, config)


class Qwen2(Dense):
    name = "qwen2"
    architecture = "qwen2"
    transformers_name = "Qwen2"


class Qwen3(Dense):
    name = "qwen3"
    architecture = "qwen3"
    transformers_name = "Qwen3"
    norms = base.HEAD_NORMS
    default_members = Dense.default_members | dict(head_dim=32)
    fixture_members = Dense.fixture_members | dict(head_dim=20)
    heads_apart = True


class Llama(Dense):
    name = "llama"
    architecture = "llama"
    transformers_name = "Llama"
    fixture_format = "f16"
    pre_tokenizer = "llama-bpe"
    heads_apart = True

    def tensors(self, config, state):
        out = base.interleave_heads(super().tensors(config, state), config)
        if config.rope_parameters["rope_type"] == "llama3":
            out["rope_freqs.weight"] = llama3_divisors(config)
        return out

    def write_hyperparameters(self, writer, config):
        super().write_hyperparameters(writer, config)
        writer.add_vocab_size(config.vocab_size)
        writer.add_rope_dimension_count(base.head_size(config))


class Llama3(Llama):
    """Rotary frequencies stretched by how often they turn within the context first trained on."""
    rope = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 32}

    def random_members(self, rng):
        rope = self.rope | dict(factor=base.draw(rng, 4.0, 32.0), high_freq_factor=base.draw(rng, 2.5, 4.0))
        return super().random_members(rng) | dict(rope_parameters=rope)

    fixed = Llama.fixed | dict(rope_parameters=rope)


def llama3_divisors(config):
    """What each rotary frequency is divided by, (head size / 2): 1 for fast ones, the factor for slow ones."""
    rope, size = config.rope_parameters, base.head_size(config)
    trained = rope["original_max_position_embeddings"]
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    divisors = []
    for pair in range(size // 2):
        turns = trained * rope["rope_theta"] ** (-2 * pair / size) / (2 * math.pi)
        share = min(max((turns - low) / (high - low), 0), 1)
        divisors.append(1 / ((1 - share) / rope["factor"] + share))
    return np.array(divisors, dtype=np.float32)


class DeepQwen3(Qwen3):
    """Of more layers than a cache in the tests holds, in a format that packages cut into planes."""
    saves_checkpoint = False
    fixture_format = "q8_0"
    fixture_members = Dense.fixture_members | dict(
        hidden_size=32, head_dim=32, intermediate_size=64, num_hidden_layers=5, tie_word_embeddings=True)


FAMILIES = [Llama(), Llama3("llama3"), Qwen3(), DeepQwen3("qwen3-deep"), Qwen2()]
