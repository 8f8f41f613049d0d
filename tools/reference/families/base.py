"""What every family of tiny models has in common: random weights, llama.cpp's names and keys, clear decisions."""

import copy
import functools

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind

import moe_gguf

VOCABULARY = 272


class Family:
    """One kind of model: how to make one up, and how llama.cpp's converter writes it.

    `state` is what transformers' `state_dict` holds, {name: float32 array}: experts are stacked, buffers with
    weights (correction biases) are in it.
    """

    #: Name of the model's files. Several instances of one class, with different names, are variants.
    name = ""
    #: `general.architecture` of its GGUF file.
    architecture = ""
    #: transformers has `{transformers_name}Config` and `{transformers_name}ForCausalLM`.
    transformers_name = ""
    #: `tokenizer.ggml.pre`.
    pre_tokenizer = "qwen2"
    #: The least lead of a choice (an expert, a group) over the first one left out, in the units of `decisions`.
    clear_margin = 0.01
    #: None where llama.cpp computes the same thing; else a few words that say what it does differently.
    llama_cpp_differs = None
    #: What is in Tests/Fixtures: whether it is there, the format, whether config.json is in the older style, and which
    #: of `forms`.
    in_fixtures = True
    fixture_format = "bf16"
    fixture_older_config = False
    fixture_forms = ("",)
    #: Whether there is a checkpoint in Hugging Face's layout; a model that transformers does not have is GGUF only.
    saves_checkpoint = True

    def __init__(self, name=None, **members):
        """A variant may have a name of its own, and members of the configuration that are always so."""
        self.name = name or self.name
        self.members = members

    # What to make

    #: Members of the configuration: those of every model of the family, those of the ordinary one, and those of the
    #: small one in Tests/Fixtures. What comes later in this list counts: fixed, one of the others, `members`.
    fixed = {}
    default_members = {}
    fixture_members = {}

    def random_members(self, rng):
        """Members drawn at random, which replace ordinary ones."""
        return {}

    def config(self, rng, random_dimensions):
        """A transformers configuration; with `random_dimensions` its sizes are drawn from `rng`."""
        drawn = self.random_members(rng) if random_dimensions else {}
        return self.make_config(**{**self.fixed, **self.default_members, **drawn})

    def fixture_config(self, rng):
        """The configuration of the small model in Tests/Fixtures."""
        return self.make_config(**{**self.fixed, **self.fixture_members})

    def make_config(self, **members):
        """A configuration of the family's class, with what all tiny models share."""
        import transformers

        shared = dict(vocab_size=VOCABULARY, max_position_embeddings=256, bos_token_id=None, eos_token_id=None,
                      pad_token_id=None)
        if "rope_parameters" not in members:
            shared["rope_parameters"] = {"rope_type": "default", "rope_theta": 10000.0}
        return getattr(transformers, self.transformers_name + "Config")(
            **copy.deepcopy({**shared, **members, **self.members}))

    def reference_config(self, config):
        """The configuration, a copy, that the model computing the reference gets."""
        return moe_gguf.prepared(copy.deepcopy(config))

    def model(self, config):
        """A float32 model of the configuration, weights not set yet."""
        return moe_gguf.build_model(self.reference_config(config))

    def random_state(self, model, rng):
        """Random weights: matrices keep the size of what passes through, routers are sharpened.

        An embedding that is the output as well is small, else every token would be its own likeliest successor.
        """
        state = {name: self.random_weight(name, tuple(tensor.shape), rng) for name, tensor in trained(model).items()}
        if model.config.tie_word_embeddings:
            state["model.embed_tokens.weight"] /= 4
        return state

    def random_weight(self, name, shape, rng):
        values = rng.standard_normal(shape).astype(np.float32)
        if name.endswith("bias"):
            return values * np.float32(0.1 if "correction" in name or "expert_bias" in name else 0.3)
        if "norm" in name:
            return 1 + np.float32(0.2) * values
        gain = 3 if "embed_tokens" in name else 2.5 if self.is_router(name) or "lm_head" in name else 1.2
        return values * np.float32(gain / shape[-1] ** 0.5)

    def is_router(self, name):
        return name.endswith((".gate.weight", ".router.weight", ".router.layer.weight"))

    def older_config(self, members):
        """The members of config.json as most published checkpoints have them: transformers before 5 kept what
        belongs to the rotary embedding outside of `rope_parameters`."""
        members = dict(members)
        rope = members.pop("rope_parameters")
        members["rope_theta"] = rope.pop("rope_theta")
        if (partial := rope.pop("partial_rotary_factor", None)) is not None:
            members["partial_rotary_factor"] = partial
        kind = rope.pop("rope_type")
        members["rope_scaling"] = None if kind == "default" else rope | {
            "rope_type" if kind == "llama3" else "type": kind}
        members["torch_dtype"] = members.pop("dtype")
        return members

    #: Whether published checkpoints go on, after the last layer, with one that predicts the token after the next.
    predicts_further = False

    # How it is written

    def tensors(self, config, state):
        """The tensors of its GGUF file, {name: array}, as llama.cpp's converter writes them."""
        raise NotImplementedError

    def write_hyperparameters(self, writer, config):
        """The `{architecture}.*` keys of its GGUF file, as llama.cpp's converter writes them."""
        raise NotImplementedError

    def forms(self):
        """The GGUF files to write: {suffix of the name: (tensors, write_hyperparameters)}."""
        return {"": (self.tensors, self.write_hyperparameters)}

    def stays_float(self, name, array):
        """Whether a tensor is F32 in every file: vectors and routers are, as llama.cpp's converter has it."""
        return array.ndim == 1 or "ffn_gate_inp" in name

    def kind(self, name, wanted):
        """The block format of a tensor in a file whose matrices are to be `wanted`."""
        return wanted

    def rounded(self, name, array, kind):
        """A weight of `state` as a block format has it; routers and rows that are no whole blocks keep their values."""
        if self.is_router(name) or not fits(array, kind):
            return array
        return trip(array, kind)

    def save(self, model, folder, element):
        """Writes the checkpoint, its weights as torch's `element`, in Hugging Face's layout."""
        model.to(element).save_pretrained(folder)

    def load(self, folder, config):
        """The checkpoint as a float32 model."""
        import torch
        import transformers

        return getattr(transformers, self.transformers_name + "ForCausalLM").from_pretrained(
            folder, config=self.reference_config(type(config).from_pretrained(folder)), dtype=torch.float32,
            attn_implementation="eager", experts_implementation="eager").eval()

    # llama.cpp

    def llama_cpp_refuses(self, config):
        """None where llama.cpp loads the file; else a few words that say why it does not."""
        return None

    def imitate_llama_cpp(self, model):
        """Changes a model to compute what llama.cpp does where that differs; else it is never called."""
        raise NotImplementedError

    def padded_for_llama_cpp(self, config, state):
        """The same model as (configuration, weights) that llama.cpp loads."""
        return config, state

    # Clear decisions

    def routers(self, model):
        """The modules whose inputs decide on experts."""
        return [module for name, module in model.named_modules() if self.is_router(name + ".weight")]

    def decisions(self, router, hidden, config):
        """Every choice made for `hidden` (tokens, width): [(values (tokens, candidates), how many are taken)]."""
        return [(hidden @ router.weight.T, experts_used(config))]

    def other_decisions(self, router, hidden, config):
        """The last of `decisions` as it would be without something that is particular to the family: [values]. A
        prompt is one where each of them, somewhere, chooses other experts."""
        return []

    def decide(self, model, ids):
        """[(router, hidden (tokens, width))] while a sequence is computed."""
        import torch

        found = []
        hooks = [
            router.register_forward_hook(
                lambda router, inputs, _: found.append((router, inputs[0].reshape(-1, inputs[0].shape[-1]))))
            for router in self.routers(model)]
        try:
            with torch.no_grad():
                model(torch.tensor([ids]), use_cache=False)
        finally:
            for hook in hooks:
                hook.remove()
        return found

    def margin(self, model, config, ids):
        """The smallest lead of the last one taken over the first one left out, over all choices for `ids`; 0 where
        these do not tell the family's choices from others."""
        import torch

        margins, told = [np.inf], []
        with torch.no_grad():
            for router, hidden in self.decide(model, ids):
                choices = self.decisions(router, hidden, config)
                for values, count in choices:
                    if count < values.shape[-1]:
                        ranked = values.sort(-1, descending=True).values
                        margins.append(float((ranked[:, count - 1] - ranked[:, count]).min()))
                values, count = choices[-1]
                told.append([count == values.shape[-1] or chosen(values, count) != chosen(other, count)
                             for other in self.other_decisions(router, hidden, config)])
        return min(margins) if all(map(any, zip(*told))) else 0


def chosen(values, count):
    """The candidates taken, (tokens, count), in order of their numbers."""
    return values.topk(count, dim=-1).indices.sort(-1).values.tolist()


# ------------------------------------------------------------------------------------------ configurations


def member(config, *names, default=None):
    """The first of several members that a configuration has."""
    for name in names:
        value = getattr(config, name, None)
        if value is not None:
            return value
    return default


def experts_used(config):
    return member(config, "num_experts_per_tok", "moe_k")


def head_size(config):
    return member(config, "head_dim", default=config.hidden_size // config.num_attention_heads)


def trained(model):
    """What a checkpoint of the model holds: parameters and persistent buffers, tied ones once."""
    kept = set(model.state_dict())
    tensors = dict(model.named_parameters())
    tensors.update((name, buffer) for name, buffer in model.named_buffers() if name in kept)
    return tensors


def draw(rng, *values):
    """One of the values."""
    return values[int(rng.integers(len(values)))]


def draw_heads(rng, apart=False):
    """Heads, and the width that they make up; `apart` draws head size and width each for itself."""
    size, kv_heads = draw(rng, 12, 18, 20, 24, 40), draw(rng, 1, 1, 2, 3)
    heads = kv_heads * draw(rng, 1, 2, 3)
    found = dict(num_attention_heads=heads, num_key_value_heads=kv_heads)
    if apart:
        # Some configurations insist on a width that is a multiple of the heads.
        return found | dict(head_dim=size, hidden_size=-(-draw(rng, 36, 40, 88, 104) // (2 * heads)) * 2 * heads)
    return found | dict(hidden_size=heads * size)


def draw_rotary(rng, *types, theta=10000.0):
    """`rope_parameters` of one of the types. The context trained on is so short that prompts pass it."""
    kind = draw(rng, *types)
    rope = {"rope_type": kind, "rope_theta": theta * float(draw(rng, 1, 7))}
    if kind in ("linear", "yarn"):
        rope["factor"] = float(draw(rng, 2, 4, 6))
    if kind == "yarn":
        rope["original_max_position_embeddings"] = 32
    return rope


# ------------------------------------------------------------------------------------------------- tensors


def top_tensors(config, state):
    """Embedding, final norm and, unless tied, output."""
    out = {"token_embd.weight": state["model.embed_tokens.weight"], "output_norm.weight": state["model.norm.weight"]}
    for suffix in ("weight", "bias"):
        if f"model.norm.{suffix}" in state:
            out[f"output_norm.{suffix}"] = state[f"model.norm.{suffix}"]
        if f"lm_head.{suffix}" in state and not (suffix == "weight" and config.tie_word_embeddings):
            out[f"output.{suffix}"] = state[f"lm_head.{suffix}"]
    return out


def renamed(state, theirs, ours, names, required=True):
    """Weights and biases of a layer under GGUF's names: `names` is {GGUF name: transformers name}."""
    out = {}
    for short, long in names.items():
        found = {suffix: state[f"{theirs}{long}.{suffix}"] for suffix in ("weight", "bias")
                 if f"{theirs}{long}.{suffix}" in state}
        if required and not found:
            raise KeyError(f"{theirs}{long}")
        out.update((f"{ours}{short}.{suffix}", array) for suffix, array in found.items())
    return out


ATTENTION = {"attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
             "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm"}
HEAD_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
DENSE = {"ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}


def shared_expert(module):
    return {f"ffn_{part}_shexp": f"{module}.{part}_proj" for part in ("gate", "up", "down")}


def stacked_experts(state, theirs, ours):
    """The experts of a layer, which transformers keeps as (experts, 2 x width, hidden) and (experts, hidden, width)."""
    gate, up = np.split(state[theirs + "gate_up_proj"], 2, axis=1)
    return {f"{ours}ffn_gate_exps.weight": gate, f"{ours}ffn_up_exps.weight": up,
            f"{ours}ffn_down_exps.weight": state[theirs + "down_proj"]}


def interleave_heads(tensors, config):
    """Reorders the rows of queries and keys, biases too, for architectures whose rotary pairs lie side by side."""
    counts = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    out = {}
    for name, array in tensors.items():
        heads = counts.get(name.split(".")[2]) if name.startswith("blk.") else None
        out[name] = array if heads is None else moe_gguf.interleave_rotary(array, heads)
    return out


# ---------------------------------------------------------------------------------------------------- keys


def common_hyperparameters(writer, config, key_value_heads=None, predicting=0):
    """What llama.cpp's converter writes for every text model, from the members that config.json has.

    `predicting` blocks for tokens further ahead follow the model's own.
    """
    members = config.to_dict()

    def add(method, *names):
        value = next((members[name] for name in names if members.get(name) is not None), None)
        if value is not None:
            method(value)

    writer.add_block_count(config.num_hidden_layers + predicting)
    add(writer.add_context_length, "max_position_embeddings")
    add(writer.add_embedding_length, "hidden_size")
    add(writer.add_feed_forward_length, "intermediate_size")
    add(writer.add_head_count, "num_attention_heads")
    if key_value_heads is None:
        add(writer.add_head_count_kv, "num_key_value_heads", "num_attention_heads")
    else:
        writer.add_head_count_kv(key_value_heads)
    write_rotary(writer, config)
    add(writer.add_layer_norm_rms_eps, "rms_norm_eps", "norm_eps")
    add(writer.add_layer_norm_eps, "layer_norm_eps", "layer_norm_epsilon")
    add(writer.add_expert_count, "num_local_experts", "num_experts", "n_routed_experts")
    add(writer.add_expert_used_count, "num_experts_per_tok")
    add(writer.add_expert_group_count, "n_group")
    add(writer.add_expert_group_used_count, "topk_group")
    add(lambda name: writer.add_expert_gating_func(gguf.ExpertGatingFuncType[name.upper()]), "scoring_func")


def write_head_size(writer, config):
    """Written where config.json names a head size."""
    if (size := member(config, "head_dim")) is not None:
        writer.add_key_length(size)
        writer.add_value_length(size)


def write_rotary(writer, config):
    """Base and scaling of the rotary embedding."""
    rope = config.rope_parameters
    kind = rope.get("rope_type", "default")
    writer.add_rope_freq_base(rope["rope_theta"])
    if kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    elif kind == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope["factor"])
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
        for name, add in [("extrapolation_factor", writer.add_rope_scaling_yarn_ext_factor),
                          ("attention_factor", writer.add_rope_scaling_yarn_attn_factor),
                          ("beta_fast", writer.add_rope_scaling_yarn_beta_fast),
                          ("beta_slow", writer.add_rope_scaling_yarn_beta_slow)]:
            if rope.get(name) is not None:
                add(rope[name])
    elif kind == "longrope":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LONGROPE)
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])


# ----------------------------------------------------------------------------------------- element formats


@functools.cache
def kinds():
    return {"f32": Kind.F32, "f16": Kind.F16, "bf16": Kind.BF16, "q8_0": Kind.Q8_0, "q4_0": Kind.Q4_0,
            "q5_0": Kind.Q5_0, "q4_1": Kind.Q4_1, "q5_1": Kind.Q5_1, "mxfp4": Kind.MXFP4}


def fits(array, kind):
    """Whether rows of an array are whole blocks of a format."""
    return array.ndim >= 2 and array.shape[-1] % gguf.GGML_QUANT_SIZES[kind][0] == 0


def trip(array, kind):
    """What an array's values are after a stay in a format."""
    return moe_gguf.decode(moe_gguf.encode(array, kind), kind).reshape(array.shape)
