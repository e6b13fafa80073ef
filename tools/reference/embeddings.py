"""Embeddings and scores of a small random Qwen3, as sentence-transformers and transformers compute them.

Writes the model's directory, and beside it `cases.json`: each case has the files that it changes in the directory, its
texts, and what is expected of them. Needs sentence-transformers 6.2 beside what requirements.txt has:

    python embeddings.py FOLDER
"""

import json
import sys
import tempfile
from pathlib import Path
from shutil import copytree

import torch
from sentence_transformers import SentenceTransformer
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
)

DEMO = Path(__file__).parents[2] / "assets/models/qwen3-demo"
TEXTS = ["What is 17 + 25?", "Spell the word garden.", "a", "The garden has seven old trees and 12 birds. " * 12]
PROMPTS = {"query": "Instruct: Given a search query, find what answers it\nQuery: ", "document": ""}
JUDGE = "Given a web search query, retrieve relevant passages that answer the query"
BEFORE = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
AFTER = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"


def modules(*names):
    paths = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
    return [
        {"idx": i, "name": str(i), "path": paths[name], "type": f"sentence_transformers.models.{name}"}
        for i, name in enumerate(names)
    ]


def write_model(folder):
    torch.manual_seed(17)
    config = Qwen3Config(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=16, vocab_size=640, max_position_embeddings=2048, tie_word_embeddings=True,
    )
    model = Qwen3ForCausalLM(config)
    for name, parameter in model.named_parameters():
        wide = 0.3 if "norm" in name else 0.25
        parameter.data = torch.randn_like(parameter) * wide + (1.0 if "norm" in name else 0.0)
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer = json.loads((DEMO / "tokenizer.json").read_text())
    # As Qwen3-Embedding's: the end is put behind each text. And the reranker's answers are tokens.
    end = next(token for token in tokenizer["added_tokens"] if token["content"] == "<|endoftext|>")
    template = {
        "type": "TemplateProcessing",
        "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": end["content"], "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {end["content"]: {"id": end["content"], "ids": [end["id"]], "tokens": [end["content"]]}},
    }
    tokenizer["post_processor"] = {"type": "Sequence", "processors": [tokenizer["post_processor"], template]}
    first = max(max(tokenizer["model"]["vocab"].values()), max(t["id"] for t in tokenizer["added_tokens"])) + 1
    for i, answer in enumerate(["yes", "no"]):
        tokenizer["added_tokens"].append({**end, "id": first + i, "content": answer, "special": False})
    assert first + 2 <= config.vocab_size, first
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, separators=(",", ":")))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"})
    )


def embed(folder, files, prompt_name, dimensions, texts=TEXTS):
    with tempfile.TemporaryDirectory() as copy:
        copytree(folder, copy, dirs_exist_ok=True)
        for name, value in files.items():
            path = Path(copy) / name
            path.parent.mkdir(exist_ok=True)
            # Of a file that is there, these keys.
            there = json.loads(path.read_text()) if path.exists() else {}
            path.write_text(json.dumps({**there, **value} if there else value))
        model = SentenceTransformer(copy, device="cpu", model_kwargs={"dtype": torch.float64}).double()
        normalised = files["modules.json"][-1]["type"].endswith("Normalize")
        rows = model.encode(texts, prompt_name=prompt_name, truncate_dim=dimensions, normalize_embeddings=normalised)
        return [[round(float(x), 8) for x in row] for row in rows]


def rerank(folder, query, documents, instruction):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
    ids = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]
    yes, no = tokenizer.convert_tokens_to_ids(["yes", "no"])
    scores = []
    for document in documents:
        text = f"<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {document}"
        with torch.no_grad():
            logits = model(torch.tensor([ids(BEFORE) + ids(text) + ids(AFTER)])).logits[0, -1]
        scores.append(round(float(torch.softmax(logits[[yes, no]], 0)[0]), 8))
    return scores


def main():
    folder = Path(sys.argv[1])
    (folder / "model").mkdir(parents=True, exist_ok=True)
    write_model(folder / "model")
    prompts = {"prompts": PROMPTS, "default_prompt_name": None, "similarity_fn_name": "cosine"}
    old = {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": False, "include_prompt": True}
    cases = []

    def case(name, pooling, last="Normalize", prompt_name=None, dimensions=None, prompts=prompts):
        stages = ["Transformer", "Pooling"] + ([last] if last else [])
        files = {
            "modules.json": modules(*stages),
            "1_Pooling/config.json": pooling,
            "config_sentence_transformers.json": prompts,
        }
        expected = embed(folder / "model", files, prompt_name, dimensions)
        cases.append(
            {"name": name, "files": files, "prompt_name": prompt_name, "dimensions": dimensions, "expected": expected}
        )

    case("last", {**old, "pooling_mode_lasttoken": True})
    case("query", {**old, "pooling_mode_lasttoken": True}, prompt_name="query")
    case("default", {**old, "pooling_mode_lasttoken": True}, prompts={**prompts, "default_prompt_name": "query"})
    case("short", {**old, "pooling_mode_lasttoken": True}, dimensions=8)
    case("raw", {**old, "pooling_mode_lasttoken": True}, last=None)
    for mode in ["mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean"]:
        case(mode, {"embedding_dimension": 32, "pooling_mode": mode, "include_prompt": True}, last=None)
    other = "Find what is about animals"
    ranks = [
        {"instruction": None, "scores": rerank(folder / "model", TEXTS[0], TEXTS[1:], JUDGE)},
        {"instruction": other, "scores": rerank(folder / "model", TEXTS[0], TEXTS[1:], other)},
    ]
    (folder / "cases.json").write_text(json.dumps({"texts": TEXTS, "embeddings": cases, "rerank": ranks}) + "\n")


if __name__ == "__main__":
    main()
