"""Times llama.cpp on a GGUF file: one repetition after a warm-up, as one JSON line. With several streams
every sequence has a prompt of its own, and each step decodes a token of all."""
import argparse
import sys
import time

import llama_cpp as ll
import numpy as np

import timing

AT_ONCE = 2048


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("gguf")
    timing.add_arguments(parser)
    a = parser.parse_args()

    quiet = ll.llama_log_callback(lambda level, text, data: None)
    ll.llama_log_set(quiet, None)
    ll.llama_backend_init()
    loading = ll.llama_model_default_params()
    loading.n_gpu_layers = 999  # all, where there is a GPU
    model = ll.llama_model_load_from_file(a.gguf.encode(), loading)
    if not model:
        sys.exit(f"llama.cpp cannot load {a.gguf}")
    params = ll.llama_context_default_params()
    params.n_ctx, params.n_seq_max = a.streams * (a.prompt + a.gen + 8), a.streams
    params.n_batch, params.n_ubatch = AT_ONCE, 512
    params.n_threads = params.n_threads_batch = a.threads
    context = ll.llama_init_from_model(model, params)
    if not context:
        sys.exit("llama.cpp cannot make a context")
    vocabulary = ll.llama_vocab_n_tokens(ll.llama_model_get_vocab(model))
    random = np.random.default_rng(0)
    batch = ll.llama_batch_init(AT_ONCE, 0, 1)

    def run(places):
        """Runs random tokens at these (sequence, position, whether logits are wanted)."""
        for at in range(0, len(places), AT_ONCE):
            part = places[at:at + AT_ONCE]
            ids = random.integers(16, vocabulary, len(part)).tolist()
            batch.n_tokens = len(part)
            for i, (sequence, position, logits) in enumerate(part):
                batch.token[i], batch.pos[i], batch.logits[i] = ids[i], position, logits
                batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
            if ll.llama_decode(context, batch) != 0:
                sys.exit("llama_decode failed")
        ll.llama_synchronize(context)

    for gen in (min(8, a.gen), a.gen):  # the first is the warm-up
        ll.llama_memory_clear(ll.llama_get_memory(context), True)
        start = time.perf_counter()
        run([(s, p, p + 1 == a.prompt) for s in range(a.streams) for p in range(a.prompt)])
        first = time.perf_counter()
        for step in range(gen):
            run([(s, a.prompt + step, True) for s in range(a.streams)])
        end = time.perf_counter()
    timing.report("llama.cpp", a, start, first, end, threads=a.threads)


main()
