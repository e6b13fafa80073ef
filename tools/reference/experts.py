"""The three ways in which files have the weights of a mixture's experts.

A state_dict of transformers 5 has `mlp.experts.gate_up_proj` [E, 2I, H] and `mlp.experts.down_proj` [E, H, I]
("fused"). Released checkpoints have `mlp.experts.N.gate_proj.weight` and so on for each expert ("hub"), and
mlx-lm's `mlp.switch_mlp.gate_proj.weight` [E, I, H] and so on ("switch"). Gemma 4's stand beside the MLP,
`experts.gate_up_proj`, are released fused, and are `experts.switch_glu.gate_proj.weight` to mlx-lm.
"""

import torch

MATRICES = ("gate_proj", "up_proj", "down_proj")


def spelled(state: dict[str, torch.Tensor], spelling: str) -> dict[str, torch.Tensor]:
    """A state_dict with its experts as files of this `spelling` have them."""
    if spelling == "fused":
        return dict(state)
    found = {}
    for name, tensor in state.items():
        module, _, matrix = name.rpartition(".")
        if not module.endswith(".experts"):
            found[name] = tensor
            continue
        parts = {"down_proj": tensor}
        if matrix == "gate_up_proj":
            gate, up = tensor.chunk(2, dim=1)
            parts = {"gate_proj": gate, "up_proj": up}
        for matrix, stack in parts.items():
            if spelling == "switch":
                switch = f"{module}.switch_glu"
                if module.endswith(".mlp.experts"):
                    switch = f"{module.removesuffix('experts')}switch_mlp"
                found[f"{switch}.{matrix}.weight"] = stack.contiguous()
                continue
            for expert, weight in enumerate(stack):
                found[f"{module}.{expert}.{matrix}.weight"] = weight.contiguous()
    return found


def fused(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state_dict that any of the spellings came from."""
    found, stacks = {}, {}
    for name, tensor in state.items():
        path = name.removesuffix(".weight").split(".")
        if "switch_mlp" in path:
            stacks.setdefault(".".join(path[:-2]), {})[path[-1]] = tensor
        elif "switch_glu" in path:
            stacks.setdefault(".".join(path[:-3]), {})[path[-1]] = tensor
        elif len(path) > 2 and path[-3] == "experts":
            experts = stacks.setdefault(".".join(path[:-3]), {})
            experts.setdefault(path[-1], {})[int(path[-2])] = tensor
        else:
            found[name] = tensor
    for mlp, matrices in stacks.items():
        as_one = lambda m: m if isinstance(m, torch.Tensor) else torch.stack([m[e] for e in range(len(m))])
        gate, up, down = (as_one(matrices[matrix]) for matrix in MATRICES)
        found[f"{mlp}.experts.gate_up_proj"] = torch.cat([gate, up], dim=1)
        found[f"{mlp}.experts.down_proj"] = down
    return found
