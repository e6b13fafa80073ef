"""Embeddings of a small random EmbeddingGemma, as sentence-transformers computes them.

Its positions see both sides, its windows are shorter than the texts, and dense layers follow the pooling. Writes the
model's directory, without a tokenizer, and beside it `cases.json`; the tokenizer is the one of `embeddings.py`, whose
FOLDER is the second argument:

    python encoder.py FOLDER EMBEDDINGS
"""

import json
import sys
import tempfile
from pathlib import Path
from shutil import copy, copytree

import torch
from embeddings import TEXTS, embed
from safetensors.torch import save_file
from transformers import Gemma3TextConfig, Gemma3TextModel

PROMPTS = {"query": "task: search result | query: ", "document": "title: none | text: "}
TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
HIDDEN, INNER = 16, 24
IDENTITY, TANH = "torch.nn.modules.linear.Identity", "torch.nn.modules.activation.Tanh"


def write_model(folder):
    torch.manual_seed(23)
    config = Gemma3TextConfig(
        hidden_size=HIDDEN, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=1,
        head_dim=16, vocab_size=610, max_position_embeddings=1024, query_pre_attn_scalar=16, sliding_window=9,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"], use_bidirectional_attention=True,
    )
    model = Gemma3TextModel(config)
    for name, parameter in model.named_parameters():
        # Norms are stored less one.
        parameter.data = torch.randn_like(parameter) * (0.3 if "norm" in name else 0.5)
    model.to(torch.bfloat16).save_pretrained(folder)
    path = folder / "config.json"
    # An odd one, of which the half is rounded down.
    path.write_text(json.dumps({**json.loads(path.read_text()), "sliding_window": 9}, indent=1) + "\n")
    for name, sizes, bias in [("2_Dense", (INNER, HIDDEN), False), ("3_Dense", (HIDDEN, INNER), True)]:
        (folder / name).mkdir(exist_ok=True)
        weights = {"linear.weight": torch.randn(sizes) * 0.4}
        if bias:
            weights["linear.bias"] = torch.randn(sizes[0])
        save_file(weights, folder / name / "model.safetensors")
        dense = {"in_features": sizes[1], "out_features": sizes[0], "bias": bias, "activation_function": IDENTITY}
        (folder / name / "config.json").write_text(json.dumps(dense) + "\n")


def modules(*names):
    paths = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "4_Normalize"}
    kind = lambda name: name.split("_")[-1]
    return [
        {"idx": i, "name": str(i), "path": paths.get(name, name), "type": f"sentence_transformers.models.{kind(name)}"}
        for i, name in enumerate(["Transformer", "Pooling", *names])
    ]


def around(tokenizer):
    """A token before each text and one behind it, as EmbeddingGemma has them."""
    ids = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    begin, end = "<|im_start|>", "<|im_end|>"
    special = lambda token: {"SpecialToken": {"id": token, "type_id": 0}}
    sequence = lambda name: {"Sequence": {"id": name, "type_id": 0}}
    return {
        "type": "TemplateProcessing",
        "single": [special(begin), sequence("A"), special(end)],
        "pair": [sequence("A"), sequence("B")],
        "special_tokens": {token: {"id": token, "ids": [ids[token]], "tokens": [token]} for token in (begin, end)},
    }


def main():
    folder, tokenizer = Path(sys.argv[1]), Path(sys.argv[2]) / "model"
    (folder / "model").mkdir(parents=True, exist_ok=True)
    write_model(folder / "model")
    ends = {"tokenizer.json": {"post_processor": around(json.loads((tokenizer / "tokenizer.json").read_text()))}}
    whole = ("2_Dense", "3_Dense", "Normalize")
    cases = []

    def case(name, stages=whole, mode="mean", include=True, prompt_name=None, dimensions=None, length=512, files={}):
        files = {
            **ends,
            "modules.json": modules(*stages),
            "1_Pooling/config.json": {"embedding_dimension": HIDDEN, "pooling_mode": mode, "include_prompt": include},
            "config_sentence_transformers.json": {"prompts": PROMPTS, "default_prompt_name": None},
            "sentence_bert_config.json": {"max_seq_length": length, "do_lower_case": False},
            **files,
        }
        with tempfile.TemporaryDirectory() as with_tokenizer:
            copytree(folder / "model", with_tokenizer, dirs_exist_ok=True)
            for file in TOKENIZER:
                copy(tokenizer / file, with_tokenizer)
            expected = embed(Path(with_tokenizer), files, prompt_name, dimensions)
        cases.append(
            {"name": name, "files": files, "prompt_name": prompt_name, "dimensions": dimensions, "expected": expected}
        )

    case("whole")
    # Wrong ones: each is right for another configuration, and none of them for the first.
    case("causal", files={"config.json": {"use_bidirectional_attention": False}})
    case("window of w", files={"config.json": {"sliding_window": 16}})
    case("window one less", files={"config.json": {"sliding_window": 7}})
    case("window one more", files={"config.json": {"sliding_window": 10}})
    case("no dense", stages=("Normalize",))
    case("one dense", stages=("2_Dense", "Normalize"))
    case("no normalisation", stages=("2_Dense", "3_Dense"))
    case("normalised first", stages=("Normalize", "2_Dense", "3_Dense"))
    dense = {"in_features": HIDDEN, "out_features": INNER, "bias": False, "activation_function": TANH}
    case("tanh", files={"2_Dense/config.json": dense})
    case("query", prompt_name="query")
    case("text alone", prompt_name="query", include=False)
    case("short", dimensions=8)
    case("cut", length=9)
    for mode in ["cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken", ["mean", "max"]]:
        case(f"{mode} of text", stages=(), mode=mode, include=False, prompt_name="document")
    (folder / "cases.json").write_text(json.dumps({"texts": TEXTS, "embeddings": cases}) + "\n")


main()
