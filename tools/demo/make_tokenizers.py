"""Trains both tokenizers and writes everything in the model directories except the weights.

    python tools/demo/make_tokenizers.py

Byte-level BPE with Qwen's way of splitting for one, SentencePiece-style BPE with byte fallback for the
other. Both see the same text: generated chats whose words to spell are made up, so that the merges
describe the questions and leave the words in pieces whose letters the model can learn.
"""

import json
import random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from layout import DEMOS, GEMMA3, QWEN3, SEED, Demo
from questions import conversation
from questions.words import WORDS

CHATS = 40_000
# One digit a token; a word takes the space or mark before it along.
QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# While training only: a token holds one word with its space, or one other character.
GEMMA_TRAINING_SPLIT = r"▁?\p{L}+|[^\p{L}]"
_ASCII = [chr(code) for code in range(0x21, 0x7F)]


def corpus(demo: Demo) -> list[str]:
    """Texts between special tokens, as `demo` will meet them; ASCII only, no word from the lists."""
    rng = random.Random(f"{SEED}/tokenizer")
    real = set(WORDS)
    texts = []
    for _ in range(CHATS):
        chat = conversation.chat(rng)
        texts += ["user\n", f"{demo.chat.assistant}\n"] * len(chat.turns)
        if chat.system:
            texts.append(f"[System: {chat.system}]" if demo.chat.wraps_system else f"system\n{chat.system}")
        for turn in chat.turns:
            spelled = turn.answer[::-1] if turn.letters else turn.answer.replace("-", "")
            if turn.prompt.isascii() and not (turn.task in ("reverse", "spell") and spelled.lower() in real):
                texts.append(turn.prompt)
                if not turn.letters:
                    texts.append(turn.answer)
    return texts


def qwen_tokenizer() -> Tokenizer:
    """Byte-level BPE; special tokens come after the vocabulary, as Qwen has them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(QWEN_SPLIT), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    trainer = trainers.BpeTrainer(
        vocab_size=QWEN3.tokens - len(QWEN3.special_tokens),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(QWEN3), trainer)
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in QWEN3.special_tokens])
    return tokenizer


def gemma_tokenizer() -> Tokenizer:
    """BPE over characters with "▁" for a space; what it has no token for becomes bytes."""
    learner = Tokenizer(models.BPE())
    learner.normalizer = normalizers.Replace(" ", "▁")
    learner.pre_tokenizer = pre_tokenizers.Split(Regex(GEMMA_TRAINING_SPLIT), "isolated")
    reserved = [*GEMMA3.special_tokens, *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(
        vocab_size=GEMMA3.tokens, special_tokens=reserved, initial_alphabet=["\n", "▁", *_ASCII], show_progress=False
    )
    learner.train_from_iterator(corpus(GEMMA3), trainer)
    learned = json.loads(learner.to_str())["model"]

    tokenizer = Tokenizer(models.BPE(
        vocab=learned["vocab"], merges=[tuple(merge) for merge in learned["merges"]],
        unk_token="<unk>", fuse_unk=True, byte_fallback=True,
    ))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in GEMMA3.special_tokens])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos> $B", special_tokens=[("<bos>", tokenizer.token_to_id("<bos>"))]
    )
    return tokenizer


def _write_json(path, value) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_directory(demo: Demo, tokenizer: Tokenizer) -> None:
    """tokenizer.json, tokenizer_config.json, config.json, generation_config.json and the chat template."""
    demo.directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(demo.directory / "tokenizer.json"))
    ids = {token: tokenizer.token_to_id(token) for token in demo.special_tokens}
    eos = [ids[token] for token in demo.eos]
    pad = ids[demo.tokenizer_config["pad_token"]]
    # Qwen has no beginning-of-sequence token; its configurations name <|endoftext|> there.
    bos = ids[demo.tokenizer_config["bos_token"] or "<|endoftext|>"]

    config = demo.config | {"bos_token_id": bos, "eos_token_id": eos[0] if demo is QWEN3 else eos}
    if demo is GEMMA3:
        config["pad_token_id"] = pad
    _write_json(demo.directory / "config.json", dict(sorted(config.items())))
    _write_json(demo.directory / "generation_config.json", {
        "bos_token_id": bos, "do_sample": False, "eos_token_id": eos, "pad_token_id": pad,
        "transformers_version": demo.config["transformers_version"],
    })

    added = {
        str(index): {"content": token, "lstrip": False, "normalized": False, "rstrip": False,
                     "single_word": False, "special": True}
        for token, index in sorted(ids.items(), key=lambda item: item[1])
    }
    tokenizer_config = demo.tokenizer_config | {"added_tokens_decoder": added}
    if demo.template_in_own_file:
        (demo.directory / "chat_template.jinja").write_text(demo.template, encoding="utf-8")
    else:
        tokenizer_config["chat_template"] = demo.template
    _write_json(demo.directory / "tokenizer_config.json", dict(sorted(tokenizer_config.items())))


def main() -> None:
    """Both tokenizers, both directories."""
    for demo, make in ((DEMOS["qwen3"], qwen_tokenizer), (DEMOS["gemma3"], gemma_tokenizer)):
        tokenizer = make()
        write_directory(demo, tokenizer)
        print(f"{demo.name}: {tokenizer.get_vocab_size()} tokens")


if __name__ == "__main__":
    main()
