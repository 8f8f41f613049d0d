"""SmallThinker: routers that read a layer's input before attention, ReGLU experts, layers without positions.

transformers has no such model; published checkpoints bring their own code. The reference here is written from the
report (arXiv 2507.20984, section 2) and the published configuration, names of tensors and members included; llama.cpp
is the independent word on it.
"""

import json
import types

import gguf
import numpy as np

from . import base


class SmallThinker(base.Family):
    name = "smallthinker"
    architecture = "smallthinker"
    clear_margin = 0.003
    fixture_format = "f16"
    # llama.cpp decides by the position of a layer: without a position embedding and without a window is every fourth
    # one, from the first, if the file has a window at all.
    period = 4

    fixed = dict(moe_primary_router_apply_softmax=False, tie_word_embeddings=False, sliding_window_size=4096)
    default_members = dict(
        hidden_size=96, num_hidden_layers=5, num_attention_heads=6, num_key_value_heads=2, head_dim=32,
        moe_num_primary_experts=9, moe_num_active_primary_experts=3, moe_ffn_hidden_size=64)
    fixture_members = dict(
        hidden_size=20, num_hidden_layers=5, num_attention_heads=2, num_key_value_heads=1, head_dim=12,
        moe_num_primary_experts=5, moe_num_active_primary_experts=2, moe_ffn_hidden_size=8, tie_word_embeddings=True)

    def random_members(self, rng):
        kv_heads = base.draw(rng, 1, 2, 3)
        return dict(
            hidden_size=base.draw(rng, 44, 60, 88), num_hidden_layers=base.draw(rng, 3, 5, 6),
            num_attention_heads=kv_heads * base.draw(rng, 1, 2, 3), num_key_value_heads=kv_heads,
            head_dim=base.draw(rng, 12, 20, 24, 40), moe_num_primary_experts=base.draw(rng, 5, 7, 9, 12),
            moe_num_active_primary_experts=base.draw(rng, 1, 2, 3), moe_ffn_hidden_size=base.draw(rng, 20, 28, 36),
            rope_theta=base.draw(rng, 10000.0, 1500000.0), tie_word_embeddings=base.draw(rng, True, False))

    def make_config(self, **members):
        members = {**members, **self.members}
        layers, windows = members["num_hidden_layers"], members.pop("windows", True)
        layout = [int(not windows or layer % self.period != 0) for layer in range(layers)]
        return types.SimpleNamespace(**{
            "vocab_size": base.VOCABULARY, "max_position_embeddings": 256, "rms_norm_eps": 1e-6,
            "rope_theta": 10000.0, "rope_layout": layout,
            "sliding_window_layout": layout if windows else [0] * layers, **members})

    def older_config(self, members):
        return members

    def reference_config(self, config):
        return config

    def model(self, config):
        return reference(config).eval().float()

    def is_router(self, name):
        return name.endswith("primary_router.weight")

    def decisions(self, router, hidden, config):
        logits, count = hidden @ router.weight.T, config.moe_num_active_primary_experts
        if config.moe_primary_router_apply_softmax:
            return [(logits, count)]
        # The published model chooses by logits, llama.cpp by their sigmoids, and those of large logits are all 1.
        return [(logits, count), (1000 * logits.sigmoid(), count)]

    def imitate_llama_cpp(self, model):
        for module in model.modules():
            if getattr(module, "window", None) is not None:
                module.window = 4096

    def save(self, model, folder, element):
        from safetensors.torch import save_file

        config = dict(
            architectures=["SmallThinkerForCausalLM"], model_type="smallthinker",
            torch_dtype=str(element).removeprefix("torch."), rope_scaling=None, norm_topk_prob=True,
            attention_dropout=0.0, initializer_range=0.02, use_cache=True,
            auto_map={"AutoConfig": "configuration_smallthinker.SmallThinkerConfig",
                      "AutoModelForCausalLM": "modeling_smallthinker.SmallThinkerForCausalLM"}, **vars(model.config))
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        save_file({name: tensor.detach().to(element).contiguous() for name, tensor in base.trained(model).items()},
                  folder / "model.safetensors", {"format": "pt"})

    def load(self, folder, config):
        from safetensors.torch import load_file

        model = self.model(types.SimpleNamespace(**json.loads((folder / "config.json").read_text())))
        model.load_state_dict(load_file(folder / "model.safetensors"))
        return model

    def tensors(self, config, state):
        out = base.top_tensors(config, state)
        for layer in range(config.num_hidden_layers):
            ours, theirs = f"blk.{layer}.", f"model.layers.{layer}."
            out |= base.renamed(state, theirs, ours, {
                **base.ATTENTION, "ffn_gate_inp": "block_sparse_moe.primary_router"})
            for part in ("gate", "up", "down"):
                out[f"{ours}ffn_{part}_exps.weight"] = np.stack([
                    state[f"{theirs}block_sparse_moe.experts.{expert}.{part}.weight"]
                    for expert in range(config.moe_num_primary_experts)])
        return out

    def write_hyperparameters(self, writer, config):
        writer.add_block_count(config.num_hidden_layers)
        writer.add_context_length(config.max_position_embeddings)
        writer.add_embedding_length(config.hidden_size)
        writer.add_head_count(config.num_attention_heads)
        writer.add_head_count_kv(config.num_key_value_heads)
        writer.add_rope_freq_base(config.rope_theta)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        base.write_head_size(writer, config)
        writer.add_expert_count(config.moe_num_primary_experts)
        writer.add_expert_used_count(config.moe_num_active_primary_experts)
        writer.add_expert_feed_forward_length(config.moe_ffn_hidden_size)
        writer.add_feed_forward_length(config.moe_ffn_hidden_size)
        softmax = config.moe_primary_router_apply_softmax
        writer.add_expert_gating_func(
            gguf.ExpertGatingFuncType.SOFTMAX if softmax else gguf.ExpertGatingFuncType.SIGMOID)
        if any(config.sliding_window_layout):
            writer.add_sliding_window(config.sliding_window_size)


def reference(config):
    """The model in plain torch, its modules named so that a state dict has the published names."""
    import torch
    from torch import nn

    class Norm(nn.Module):
        def __init__(self, size):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(size))

        def forward(self, x):
            return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + config.rms_norm_eps)

    def linear(inputs, outputs):
        return nn.Linear(inputs, outputs, bias=False)

    def rotated(x):
        """x (heads, positions, head size), its pairs half a head apart, each turned by position x frequency."""
        half = x.shape[-1] // 2
        frequencies = config.rope_theta ** (-torch.arange(half, dtype=torch.float32) / half)
        angles = torch.arange(x.shape[-2], dtype=torch.float32)[:, None] * frequencies
        first, second = x[..., :half], x[..., half:]
        return torch.cat([first * angles.cos() - second * angles.sin(), second * angles.cos() + first * angles.sin()],
                         dim=-1)

    class Attention(nn.Module):
        def __init__(self, layer):
            super().__init__()
            heads, kv_heads, size = config.num_attention_heads, config.num_key_value_heads, config.head_dim
            self.q_proj = linear(config.hidden_size, heads * size)
            self.o_proj = linear(heads * size, config.hidden_size)
            self.k_proj, self.v_proj = (linear(config.hidden_size, kv_heads * size) for _ in range(2))
            self.rotates = bool(config.rope_layout[layer])
            self.window = config.sliding_window_size if config.sliding_window_layout[layer] else None

        def forward(self, x):  # (positions, hidden)
            count, size = x.shape[0], config.head_dim
            q, k, v = (f(x).view(count, -1, size).transpose(0, 1) for f in (self.q_proj, self.k_proj, self.v_proj))
            if self.rotates:
                q, k = rotated(q), rotated(k)
            k, v = (y.repeat_interleave(q.shape[0] // y.shape[0], dim=0) for y in (k, v))
            ago = torch.arange(count)[:, None] - torch.arange(count)
            hidden = (ago < 0) if self.window is None else (ago < 0) | (ago >= self.window)
            scores = (q @ k.transpose(1, 2) * size ** -0.5).masked_fill(hidden, float("-inf"))
            return self.o_proj((scores.softmax(-1) @ v).transpose(0, 1).reshape(count, -1))

    class Expert(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate, self.up = (linear(config.hidden_size, config.moe_ffn_hidden_size) for _ in range(2))
            self.down = linear(config.moe_ffn_hidden_size, config.hidden_size)

        def forward(self, x):
            return self.down(self.gate(x).relu() * self.up(x))

    class Experts(nn.Module):
        def __init__(self):
            super().__init__()
            self.primary_router = linear(config.hidden_size, config.moe_num_primary_experts)
            self.experts = nn.ModuleList(Expert() for _ in range(config.moe_num_primary_experts))

        def forward(self, before, x):
            values, chosen = self.primary_router(before).topk(config.moe_num_active_primary_experts, dim=-1)
            if config.moe_primary_router_apply_softmax:
                weights = values.softmax(-1)
            else:
                weights = values.sigmoid() / values.sigmoid().sum(-1, keepdim=True)
            shares = torch.zeros(x.shape[0], len(self.experts)).scatter(1, chosen, weights)
            # An expert that is not chosen has no share, so that what it computes does not count.
            return sum(shares[:, [index]] * expert(x) for index, expert in enumerate(self.experts))

    class Layer(nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.input_layernorm, self.post_attention_layernorm = Norm(config.hidden_size), Norm(config.hidden_size)
            self.self_attn, self.block_sparse_moe = Attention(layer), Experts()

        def forward(self, x):
            before = x
            x = x + self.self_attn(self.input_layernorm(x))
            return x + self.block_sparse_moe(before, self.post_attention_layernorm(x))

    class Body(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
            self.layers = nn.ModuleList(Layer(layer) for layer in range(config.num_hidden_layers))
            self.norm = Norm(config.hidden_size)

        def forward(self, ids):
            x = self.embed_tokens(ids)
            for layer in self.layers:
                x = layer(x)
            return self.norm(x)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.config, self.model = config, Body()
            if not config.tie_word_embeddings:
                self.lm_head = linear(config.hidden_size, config.vocab_size)

        def forward(self, ids, use_cache=False):
            x = self.model(ids[0])
            output = self.model.embed_tokens.weight if config.tie_word_embeddings else self.lm_head.weight
            return types.SimpleNamespace(logits=(x @ output.T)[None])

    return Model()


FAMILIES = [
    SmallThinker(),
    SmallThinker("smallthinker-softmax", moe_primary_router_apply_softmax=True, tie_word_embeddings=True,
                 windows=False),
    SmallThinker("smallthinker-window", sliding_window_size=6),
]
# The one with a window has everything that the first has.
FAMILIES[0].in_fixtures = False
FAMILIES[-1].llama_cpp_differs = "takes every window for one of 4096 positions"
