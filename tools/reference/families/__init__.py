"""Every family of tiny models, by name. A file holds one family, or the variants of one."""

import importlib

#: Modules of this package; each has a list `FAMILIES` of `Family` instances.
MODULES = [
    "qwen3moe", "qwen2moe", "olmoe", "mixtral", "deepseek2", "granitemoe", "phimoe", "ernie4_5_moe", "glm4moe",
    "dense", "gpt_oss", "lfm2moe", "qwen3next", "smallthinker",
]


def every():
    """All families, {name: family}."""
    found = {}
    for module in MODULES:
        for family in importlib.import_module(f"{__name__}.{module}").FAMILIES:
            if family.name in found:
                raise ValueError(f"two families are called {family.name}")
            found[family.name] = family
    return found
