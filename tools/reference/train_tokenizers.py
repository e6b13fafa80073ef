"""Trains the small tokenizers of the text fixtures, in the forms that checkpoints ship.

- `bytelevel`: byte-level BPE as Qwen3 has it: NFC, its splitting pattern, ChatML's
  special tokens, and `<think>` as an added token that is not special.
- `spm`: SentencePiece-style BPE as Gemma has it: spaces become U+2581, unknown
  characters fall back to bytes, `<bos>` comes first, turns have tokens of their own.
- `spm-prefix`: the same pieces in the form of Llama 2, which puts a space before
  the text and takes it off again when it decodes.

What the pieces are does not matter; that every script meets some of its characters
as pieces and some as bytes does.
"""

import json
from collections import Counter
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from checkpoint import write_json

HERE = Path(__file__).resolve().parent
SPACE = "\u2581"

#: How Qwen's tokenizers split a text before the merges.
QWEN_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def special(*contents: str) -> list[AddedToken]:
    return [AddedToken(content, special=True, normalized=False) for content in contents]


def corpus() -> list[str]:
    return (HERE / "corpus.txt").read_text(encoding="utf-8").splitlines()


def bytelevel() -> tuple[Tokenizer, dict]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=560, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.add_special_tokens(special("<|endoftext|>", "<|im_start|>", "<|im_end|>"))
    words = ("<think>", "</think>", "<tool_call>", "</tool_call>")
    tokenizer.add_tokens([AddedToken(word, special=False, normalized=False) for word in words])
    return tokenizer, {
        "add_bos_token": False,
        "add_prefix_space": False,
        "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": 4096,
        "pad_token": "<|endoftext|>",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }


#: How many letters of the corpus get a piece of their own in `spm`.
LETTERS = 150

#: Ids 0 to 3 are Gemma's; `<mask>` is the fifth.
SPM_SPECIALS = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>")


def pieces() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges over the corpus with its spaces written as U+2581."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Replace(" ", SPACE)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(SPACE, behavior="merged_with_next")
    # Fewer letters than the corpus has: the rare ones are left to the bytes. Chosen
    # here, because the trainer breaks ties between equally common ones at random.
    counts = Counter("".join(corpus()).replace(" ", SPACE))
    letters = sorted(counts, key=lambda letter: (-counts[letter], letter))[:LETTERS]
    trainer = trainers.BpeTrainer(vocab_size=420, initial_alphabet=letters, limit_alphabet=LETTERS, show_progress=False)
    tokenizer.train_from_iterator(corpus(), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    learned = sorted(model["vocab"], key=model["vocab"].get)
    order = [*SPM_SPECIALS, *(f"<0x{byte:02X}>" for byte in range(256)), "\n", "\n\n", *learned]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(order))}
    return vocabulary, [("\n", "\n"), *map(tuple, model["merges"])]


def spm() -> tuple[Tokenizer, dict]:
    vocabulary, merges = pieces()
    tokenizer = Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Replace(" ", SPACE)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", behavior="merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos>:1 $B:1", special_tokens=[("<bos>", vocabulary["<bos>"])]
    )
    tokenizer.add_special_tokens(special(*SPM_SPECIALS))
    return tokenizer, {
        "add_bos_token": True,
        "add_eos_token": False,
        "additional_special_tokens": ["<start_of_turn>", "<end_of_turn>"],
        "bos_token": "<bos>",
        "clean_up_tokenization_spaces": False,
        "eos_token": "<eos>",
        "mask_token": "<mask>",
        "model_max_length": 4096,
        "pad_token": "<pad>",
        "spaces_between_special_tokens": False,
        "tokenizer_class": "GemmaTokenizer",
        "unk_token": "<unk>",
    }


def spm_prefix() -> tuple[Tokenizer, dict]:
    tokenizer, config = spm()
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    tokenizer.pre_tokenizer = None
    strip = decoders.Strip(content=" ", left=1, right=0)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), strip]
    )
    # The class that takes tokenizer.json at its word.
    return tokenizer, config | {"tokenizer_class": "PreTrainedTokenizerFast"}


TOKENIZERS = {"bytelevel": bytelevel, "spm": spm, "spm-prefix": spm_prefix}


def added_tokens(tokenizer: Tokenizer) -> dict:
    return {
        str(number): {
            "content": token.content,
            "lstrip": token.lstrip,
            "normalized": token.normalized,
            "rstrip": token.rstrip,
            "single_word": token.single_word,
            "special": token.special,
        }
        for number, token in sorted(tokenizer.get_added_tokens_decoder().items())
    }


def save_tokenizer(directory: Path, name: str, template: str | None) -> None:
    """Writes tokenizer.json and tokenizer_config.json.

    `template` goes where such checkpoints keep theirs: for `bytelevel` into the
    config, for the others into chat_template.jinja.
    """
    tokenizer, config = TOKENIZERS[name]()
    directory.mkdir(parents=True)
    tokenizer.save(str(directory / "tokenizer.json"), pretty=False)
    config["added_tokens_decoder"] = added_tokens(tokenizer)
    if template and name == "bytelevel":
        config["chat_template"] = template
    elif template:
        (directory / "chat_template.jinja").write_text(template, encoding="utf-8")
    write_json(directory / "tokenizer_config.json", dict(sorted(config.items())))
