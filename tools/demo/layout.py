"""The two models on paper: architecture, files, chat format, and where things live.

The configurations use the keys and the spelling of the released checkpoints of each family, so that
the demo models load like any other. Sizes are multiples of 64, the quantization group.
"""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "assets" / "models"
HELDOUT = MODELS / "heldout"
SEED = 20_261_122

_QWEN_TEMPLATE = """\
{%- for message in messages -%}
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<|im_start|>assistant\\n' }}
{%- endif -%}
"""

_GEMMA_TEMPLATE = """\
{{- bos_token -}}
{%- for message in messages -%}
{%- set text = message['content'] | trim -%}
{%- if message['role'] == 'system' -%}
{{ '<start_of_turn>user\\n[System: ' + text + ']<end_of_turn>\\n' }}
{%- elif message['role'] == 'assistant' -%}
{{ '<start_of_turn>model\\n' + text + '<end_of_turn>\\n' }}
{%- else -%}
{{ '<start_of_turn>' + message['role'] + '\\n' + text + '<end_of_turn>\\n' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<start_of_turn>model\\n' }}
{%- endif -%}
"""


@dataclass(frozen=True)
class ChatFormat:
    """The pieces that the chat template writes around messages; `trims` as the template does."""

    start: str
    end: str
    assistant: str
    bos: str
    trims: bool
    wraps_system: bool

    def user(self, text: str) -> str:
        """A user turn, closed."""
        return f"{self.start}user\n{text.strip() if self.trims else text}{self.end}\n"

    def system(self, text: str) -> str:
        """The system message, as its own role or as a user turn."""
        if self.wraps_system:
            return self.user(f"[System: {text.strip()}]")
        return f"{self.start}system\n{text}{self.end}\n"

    def opening(self) -> str:
        """What the model is given to answer after."""
        return f"{self.start}{self.assistant}\n"


@dataclass(frozen=True)
class Demo:
    """One demo model: its directory's name and everything in that directory but the weights."""

    name: str
    chat: ChatFormat
    template: str
    template_in_own_file: bool
    tokens: int
    config: dict
    tokenizer_config: dict
    special_tokens: tuple[str, ...]
    eos: tuple[str, ...]

    @property
    def directory(self) -> Path:
        """Where the finished model lies in the repository."""
        return MODELS / self.name


QWEN3 = Demo(
    name="qwen3-demo",
    chat=ChatFormat("<|im_start|>", "<|im_end|>", "assistant", bos="", trims=False, wraps_system=False),
    template=_QWEN_TEMPLATE,
    template_in_own_file=False,
    tokens=608,
    config={
        "architectures": ["Qwen3ForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "head_dim": 64,
        "hidden_act": "silu",
        "hidden_size": 256,
        "initializer_range": 0.02,
        "intermediate_size": 512,
        "max_position_embeddings": 1024,
        "max_window_layers": 5,
        "model_type": "qwen3",
        "num_attention_heads": 4,
        "num_hidden_layers": 5,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-06,
        "rope_scaling": None,
        "rope_theta": 1000000,
        "sliding_window": None,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.51.0",
        "use_cache": True,
        "use_sliding_window": False,
        # Larger than the tokenizer, as in the released checkpoints.
        "vocab_size": 640,
    },
    tokenizer_config={
        "add_bos_token": False,
        "add_prefix_space": False,
        "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": 1024,
        "pad_token": "<|endoftext|>",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    },
    special_tokens=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    eos=("<|im_end|>", "<|endoftext|>"),
)

GEMMA3 = Demo(
    name="gemma3-demo",
    chat=ChatFormat("<start_of_turn>", "<end_of_turn>", "model", bos="<bos>", trims=True, wraps_system=True),
    template=_GEMMA_TEMPLATE,
    template_in_own_file=True,
    tokens=704,
    config={
        "architectures": ["Gemma3ForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "attn_logit_softcapping": None,
        "cache_implementation": "hybrid",
        "final_logit_softcapping": None,
        "head_dim": 64,
        "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": 256,
        "initializer_range": 0.02,
        "intermediate_size": 384,
        "max_position_embeddings": 1024,
        "model_type": "gemma3_text",
        "num_attention_heads": 4,
        "num_hidden_layers": 6,
        "num_key_value_heads": 1,
        "query_pre_attn_scalar": 96,
        "rms_norm_eps": 1e-06,
        "rope_local_base_freq": 10000,
        "rope_scaling": None,
        "rope_theta": 1000000,
        # Shorter than almost any prompt, and two periods of sliding, sliding, full.
        "sliding_window": 16,
        "sliding_window_pattern": 3,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.50.0",
        "use_cache": True,
        "vocab_size": 704,
    },
    tokenizer_config={
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": "<bos>",
        "clean_up_tokenization_spaces": False,
        "eos_token": "<eos>",
        "mask_token": "<mask>",
        "model_max_length": 1024,
        "pad_token": "<pad>",
        "sp_model_kwargs": None,
        "spaces_between_special_tokens": False,
        "tokenizer_class": "GemmaTokenizer",
        "unk_token": "<unk>",
        "use_default_system_prompt": False,
    },
    special_tokens=("<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>"),
    eos=("<eos>", "<end_of_turn>"),
)

DEMOS = {"qwen3": QWEN3, "gemma3": GEMMA3}
