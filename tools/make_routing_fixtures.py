#!/usr/bin/env python3
"""Makes Tests/Fixtures/routing/routers.json: what transformers' own routers choose for random logits.

usage: make_routing_fixtures.py [OUT]     (OUT: Tests/Fixtures/routing/routers.json)

Every router gets the identity for its weights, so that its input is its logits, to the bit. Rows are drawn until a
choice stays the same under small changes of the logits: experts and groups are never close to a tie. The experts of a
row are in ascending order; a case's settings are those of transformers' configuration.
Needs: pip install torch 'transformers>=5'
"""

import json
import pathlib
import sys
from types import SimpleNamespace

import torch
from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2TopkRouter
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3TopkRouter
from transformers.models.ernie4_5_moe.modeling_ernie4_5_moe import Ernie4_5_MoeTopKRouter
from transformers.models.glm4_moe.modeling_glm4_moe import Glm4MoeTopkRouter
from transformers.models.gpt_oss.modeling_gpt_oss import GptOssTopKRouter
from transformers.models.granitemoe.modeling_granitemoe import GraniteMoeTopKRouter
from transformers.models.lfm2_moe.modeling_lfm2_moe import Lfm2MoeTopKRouter
from transformers.models.mixtral.modeling_mixtral import MixtralTopKRouter
from transformers.models.olmoe.modeling_olmoe import OlmoeTopKRouter
from transformers.models.phimoe.modeling_phimoe import PhimoeTopKRouter
from transformers.models.qwen2_moe.modeling_qwen2_moe import Qwen2MoeTopKRouter
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeTopKRouter
from transformers.models.qwen3_next.modeling_qwen3_next import Qwen3NextTopKRouter

ROUTERS = {
    "deepseek_v2": DeepseekV2TopkRouter, "deepseek_v3": DeepseekV3TopkRouter, "ernie4_5_moe": Ernie4_5_MoeTopKRouter,
    "glm4_moe": Glm4MoeTopkRouter, "gpt_oss": GptOssTopKRouter, "granitemoe": GraniteMoeTopKRouter,
    "lfm2_moe": Lfm2MoeTopKRouter, "mixtral": MixtralTopKRouter, "olmoe": OlmoeTopKRouter, "phimoe": PhimoeTopKRouter,
    "qwen2_moe": Qwen2MoeTopKRouter, "qwen3_moe": Qwen3MoeTopKRouter, "qwen3_next": Qwen3NextTopKRouter,
}

# family, experts, experts per token, spread of the logits, spread of the correction bias, settings
CASES = [
    ("qwen3_moe", 16, 4, 2, 0, {"norm_topk_prob": True}),
    ("qwen3_moe", 7, 1, 2, 0, {"norm_topk_prob": True}),
    ("qwen3_moe", 16, 4, 2, 0, {"norm_topk_prob": False}),
    ("qwen3_next", 40, 10, 2, 0, {"norm_topk_prob": True}),
    ("qwen2_moe", 15, 4, 2, 0, {"norm_topk_prob": False}),
    ("olmoe", 16, 8, 8, 0, {"norm_topk_prob": False}),
    ("olmoe", 5, 5, 2, 0, {"norm_topk_prob": True}),
    ("mixtral", 8, 2, 3, 0, {}),
    ("gpt_oss", 12, 4, 3, 0, {}),
    ("gpt_oss", 6, 1, 3, 0, {}),
    ("granitemoe", 20, 8, 40, 0, {}),
    ("phimoe", 16, 2, 3, 0, {"router_jitter_noise": 0.01}),
    ("phimoe", 16, 2, 0.5, 0, {"router_jitter_noise": 0.25}),
    ("phimoe", 3, 2, -1, 0, {"router_jitter_noise": 0.4}),
    ("deepseek_v2", 16, 6, 2, 0, {"topk_method": "greedy", "routed_scaling_factor": 1.0}),
    ("deepseek_v2", 24, 6, 2, 0,
     {"topk_method": "group_limited_greedy", "n_group": 8, "topk_group": 3, "routed_scaling_factor": 16.0}),
    ("deepseek_v2", 12, 3, 2, 0,
     {"topk_method": "group_limited_greedy", "n_group": 4, "topk_group": 1, "routed_scaling_factor": 2.5}),
    ("deepseek_v3", 32, 8, 2, 0.3,
     {"n_group": 8, "topk_group": 4, "norm_topk_prob": True, "routed_scaling_factor": 2.5}),
    ("deepseek_v3", 16, 4, 2, 2,
     {"n_group": 4, "topk_group": 2, "norm_topk_prob": False, "routed_scaling_factor": 1.5}),
    ("deepseek_v3", 12, 6, 30, 0.2,
     {"n_group": 2, "topk_group": 1, "norm_topk_prob": True, "routed_scaling_factor": 1.0}),
    ("glm4_moe", 16, 4, 2, 0.3, {"n_group": 1, "topk_group": 1, "norm_topk_prob": True, "routed_scaling_factor": 1.0}),
    ("lfm2_moe", 16, 4, 2, 0.3, {"use_expert_bias": True, "norm_topk_prob": True, "routed_scaling_factor": 1.0}),
    ("lfm2_moe", 16, 4, 12, 0, {"use_expert_bias": False, "norm_topk_prob": True, "routed_scaling_factor": 2.0}),
    ("lfm2_moe", 9, 3, 2, 0.3, {"use_expert_bias": True, "norm_topk_prob": False, "routed_scaling_factor": 1.0}),
    ("ernie4_5_moe", 16, 6, 2, 0.05, {"moe_norm_min": 1e-12}),
    ("ernie4_5_moe", 16, 2, 40, 0.8, {"moe_norm_min": 1e-3}),
]
ROWS = 8


def router(family, experts, k, correction, settings):
    """The router of a family in evaluation, as a function of (rows, experts) logits."""
    config = SimpleNamespace(
        hidden_size=experts, num_experts=experts, num_local_experts=experts, n_routed_experts=experts,
        num_experts_per_tok=k, input_jitter_noise=0.01, n_group=None, topk_group=None, norm_topk_prob=True,
        router_jitter_noise=0.0)
    vars(config).update(settings)
    module = ROUTERS[family](config).eval()
    parameters = {"weight": torch.eye(experts)}
    if family in ("deepseek_v3", "glm4_moe"):
        parameters["e_score_correction_bias"] = correction
    if family == "ernie4_5_moe":
        parameters["moe_statics.e_score_correction_bias"] = correction[None]
    if family == "gpt_oss":
        parameters["bias"] = torch.zeros(experts)
    module.load_state_dict(parameters)

    def choose(logits):
        arguments = [correction] if family == "lfm2_moe" else []
        given, weights, chosen = module(logits, *arguments)
        assert torch.equal(given, logits)
        order = chosen.argsort(dim=-1)
        return chosen.gather(-1, order), weights.gather(-1, order)

    return choose


@torch.no_grad()
def case(family, experts, k, spread, correction_spread, settings, generator):
    correction = torch.randn(experts, generator=generator) * correction_spread
    choose = router(family, experts, k, correction, settings)
    rows = []
    while len(rows) < ROWS:
        # A negative spread makes negative logits.
        logits = torch.randn(1, experts, generator=generator) * abs(spread)
        logits = -logits.abs() if spread < 0 else logits
        chosen, weights = choose(logits)
        steady = True
        for _ in range(40):
            noise = 1 + 1e-4 * torch.randn(1, experts, generator=generator)
            others, near = choose(logits * noise)
            # A weight may leap too, where the sparse mixer's threshold is close.
            steady = steady and torch.equal(others, chosen) and bool((near / weights - 1).abs().max() < 0.1)
        if steady:
            rows.append({
                "logits": numbers(logits[0]), "experts": chosen[0].tolist(), "weights": numbers(weights[0])})
    return {
        "family": family, "k": k, "settings": settings, "rows": rows,
        "correction": numbers(correction) if correction_spread else None}


def numbers(tensor):
    return [float(f"{value:.9g}") for value in tensor.tolist()]


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else root / "Tests/Fixtures/routing/routers.json"
    generator = torch.Generator().manual_seed(17)
    torch.set_num_threads(1)
    cases = [case(*one, generator) for one in CASES]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("[\n" + ",\n".join(json.dumps(one) for one in cases) + "\n]\n")
    print(f"{out}: {len(cases)} cases, {out.stat().st_size} bytes")


main()
