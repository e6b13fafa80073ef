"""The ways in which files have the weights of a mixture's experts.

A state_dict of transformers 5 has `mlp.experts.gate_up_proj` [E, 2I, H] and `mlp.experts.down_proj` [E, H, I]
("fused"). Released checkpoints have `mlp.experts.N.gate_proj.weight` and so on for each expert ("hub"), and
mlx-lm's `mlp.switch_mlp.gate_proj.weight` [E, I, H] and so on ("switch"). Gemma 4's stand beside the MLP,
`experts.gate_up_proj`, are released fused, and are `experts.switch_glu.gate_proj.weight` to mlx-lm.

gpt-oss's are [E, H, 2I], gate and up by turns, and [E, I, H], and have biases beside them: `gate_up_proj_bias`.
They are released in mxfp4 ("blocks"), as the transposed ones' `gate_up_proj_blocks` [E, 2I, H / 32, 16] and
`gate_up_proj_scales` [E, 2I, H / 32], and are `mlp.experts.gate_proj.weight` and `.bias` to mlx-lm.
"""

import torch
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

MATRICES = ("gate_proj", "up_proj", "down_proj")
#: The floats of a code of four bits, but for its sign.
E2M1 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])


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
        if f"{module}.gate_up_proj_bias" in state:
            found |= of_gpt_oss(module, matrix, tensor, spelling)
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


def of_gpt_oss(module: str, matrix: str, tensor: torch.Tensor, spelling: str) -> dict[str, torch.Tensor]:
    """One tensor of gpt-oss's experts."""
    is_bias = matrix.endswith("_bias")
    if spelling == "blocks":
        if is_bias:
            return {f"{module}.{matrix}": tensor}
        blocks, scales = in_mxfp4(tensor.transpose(1, 2).float())
        return {f"{module}.{matrix}_blocks": blocks, f"{module}.{matrix}_scales": scales}
    leaf = "bias" if is_bias else "weight"
    parts = {"down_proj": tensor}
    if matrix.startswith("gate_up_proj"):
        parts = {"gate_proj": tensor[..., ::2], "up_proj": tensor[..., 1::2]}
    turned = lambda part: part if is_bias else part.transpose(1, 2)
    return {f"{module}.{name}.{leaf}": turned(part).contiguous() for name, part in parts.items()}


def in_mxfp4(matrices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """[E, rows, columns] as codes, two a byte, and the exponents of their scales."""
    groups = matrices.reshape(*matrices.shape[:-1], -1, 32)
    exponents = groups.abs().amax(dim=-1).log2().floor() - 2
    scaled = groups / exponents.exp2()[..., None]
    codes = (scaled.abs()[..., None] - E2M1).abs().argmin(dim=-1) + 8 * (scaled < 0)
    blocks = codes[..., ::2] + 16 * codes[..., 1::2]
    return blocks.to(torch.uint8), (exponents + 127).to(torch.uint8)


def fused(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state_dict that any of the spellings came from."""
    found, stacks = {}, {}
    for name, tensor in state.items():
        path = name.removesuffix(".weight").split(".")
        if name.endswith("_blocks"):
            name = name.removesuffix("_blocks")
            # transformers' own reading of such a file.
            found[name] = convert_moe_packed_tensors(tensor, state[f"{name}_scales"], dtype=torch.float32)
        elif name.endswith("_scales"):
            pass
        elif name.split(".")[-3:-2] == ["experts"] and name.endswith((".weight", ".bias")):
            own = stacks.setdefault(".".join(name.split(".")[:-3]), {})
            own[".".join(path[path.index("experts") + 1 :])] = tensor
        elif "switch_mlp" in path:
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
        if "down_proj.bias" not in matrices:
            found[f"{mlp}.experts.gate_up_proj"] = torch.cat([gate, up], dim=1)
            found[f"{mlp}.experts.down_proj"] = down
            continue
        by_turns = lambda gate, up: torch.stack([gate, up], dim=-1).flatten(-2)
        found[f"{mlp}.experts.gate_up_proj"] = by_turns(gate.transpose(1, 2), up.transpose(1, 2))
        found[f"{mlp}.experts.gate_up_proj_bias"] = by_turns(matrices["gate_proj.bias"], matrices["up_proj.bias"])
        found[f"{mlp}.experts.down_proj"] = down.transpose(1, 2)
        found[f"{mlp}.experts.down_proj_bias"] = matrices["down_proj.bias"]
    return found
