"""The models that are checked (small, odd sizes) and timed (the published shapes)."""

from source import Model

SMALL = [
    Model("qwen bf16 gqa2", 3, 256, 512, 640, 4, 2, 64),
    Model("qwen bf16 gqa1 d128", 2, 544, 1184, 1003, 3, 3, 128),
    Model("qwen bf16 gqa8", 2, 1024, 3072, 2048, 16, 2, 128, tied=False),
    Model("qwen 4-bit g64", 3, 640, 1664, 1000, 8, 2, 128, bits=4),
    Model("qwen 4-bit g32", 2, 512, 1216, 777, 4, 1, 128, bits=4, group=32),
    Model("qwen 4-bit g128", 2, 512, 1280, 640, 6, 2, 128, bits=4, group=128, tied=False),
    Model("qwen 8-bit g64", 3, 256, 512, 640, 4, 2, 64, bits=8),
    Model("qwen 8-bit g32", 2, 576, 1088, 640, 4, 2, 64, bits=8, group=32),
    Model("qwen 8-bit g128", 2, 512, 1280, 640, 4, 2, 64, bits=8, group=128),
    Model("qwen bf16 in slices", 2, 544, 1184, 1003, 3, 3, 128, slice_bytes=4096),
    Model("qwen 12-bit in slices", 2, 544, 1184, 640, 3, 3, 128, bits=12, rare=True, slice_bytes=8192),
    Model("qwen 4-bit in slices", 2, 2048, 2816, 640, 4, 2, 128, bits=4, group=128, slice_bytes=8192),
    Model("qwen 8-bit in slices", 2, 256, 1216, 640, 4, 2, 64, bits=8, group=32, slice_bytes=4096),
    Model("qwen 4-bit wide", 2, 2048, 512, 640, 4, 2, 128, bits=4),
    Model("qwen 12-bit gqa2", 3, 256, 512, 640, 4, 2, 64, bits=12, rare=True),
    Model("qwen 12-bit d128", 2, 544, 1184, 1003, 3, 3, 128, bits=12, rare=True),
    Model("qwen 12-bit gqa8", 2, 1024, 3072, 2048, 16, 2, 128, bits=12, rare=True, tied=False),
    Model("gemma 12-bit", 7, 1152, 1408, 1213, 4, 1, 256, gemma=True, window=48, pattern=3, bits=12, rare=True, softcap=30.0),
    Model("qwen bf16, 4-bit head", 2, 512, 1216, 777, 4, 2, 128, head_bits=4),
    Model("gemma bf16", 7, 1152, 1408, 1200, 4, 1, 256, gemma=True, window=48, pattern=3),
    Model("gemma 4-bit", 4, 640, 1280, 1200, 4, 2, 256, gemma=True, window=32, pattern=2, bits=4, softcap=30.0),
    Model("llama bf16", 2, 256, 512, 640, 8, 2, 64, head_norms=False),
    Model("llama 12-bit", 2, 256, 512, 640, 8, 2, 64, head_norms=False, bits=12, rare=True, tied=False),
    Model("mistral 4-bit", 3, 512, 1280, 640, 4, 1, 128, head_norms=False, bits=4, window=24, pattern=9, tied=False),
    Model("qwen2 bf16 gqa7", 2, 896, 1216, 640, 14, 2, 64, head_norms=False, biases=True),
    Model("qwen2 4-bit", 2, 512, 1280, 640, 4, 2, 128, head_norms=False, biases=True, bits=4),
    Model("gemma1 bf16", 2, 256, 512, 640, 2, 1, 256, gemma=True, norms_behind=False, head_norms=False),
    Model("gemma2 bf16", 4, 256, 512, 640, 2, 1, 256, gemma=True, head_norms=False, window=48, pattern=2, softcap=30.0, score_cap=2.0),
    Model("gemma2 8-bit d128", 4, 256, 512, 640, 4, 2, 128, gemma=True, head_norms=False, window=32, pattern=2, bits=8, score_cap=1.5),
    Model("gemma 8-bit d64", 6, 256, 384, 704, 4, 1, 64, gemma=True, window=16, pattern=6, bits=8),
]


def full(bits):
    suffix = "bf16" if bits == 16 else f"{bits}-bit"
    return [
        Model(f"Qwen3-0.6B {suffix}", 28, 1024, 3072, 151936, 16, 8, 128, bits=bits),
        Model(f"Qwen3-8B {suffix}", 36, 4096, 12288, 151936, 32, 8, 128, bits=bits, tied=False),
        Model(f"Gemma-3-1B {suffix}", 26, 1152, 6912, 262144, 4, 1, 256, bits=bits, gemma=True, window=512),
    ]


FULL = full(16) + full(12) + full(4) + full(8)
