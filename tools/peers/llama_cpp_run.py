"""Times llama.cpp on a GGUF file: one repetition after a warm-up, as one JSON line."""
import argparse
import ctypes
import sys
import time

import llama_cpp as ll
import numpy as np

import timing


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
    params.n_ctx, params.n_batch, params.n_ubatch = a.prompt + a.gen + 8, 2048, 512
    params.n_threads = params.n_threads_batch = a.threads
    context = ll.llama_init_from_model(model, params)
    if not context:
        sys.exit("llama.cpp cannot make a context")
    vocabulary = ll.llama_vocab_n_tokens(ll.llama_model_get_vocab(model))
    random = np.random.default_rng(0)

    def run(count):
        ids = (ctypes.c_int32 * count)(*random.integers(16, vocabulary, count).tolist())
        # The batch only points at the ids; a prompt larger than a batch is given in parts.
        for at in range(0, count, 2048):
            some = min(2048, count - at)
            part = (ctypes.c_int32 * some)(*ids[at:at + some])
            if ll.llama_decode(context, ll.llama_batch_get_one(part, some)) != 0:
                sys.exit("llama_decode failed")
        ll.llama_synchronize(context)

    for gen in (min(8, a.gen), a.gen):  # the first is the warm-up
        ll.llama_memory_clear(ll.llama_get_memory(context), True)
        start = time.perf_counter()
        run(a.prompt)
        first = time.perf_counter()
        for _ in range(gen):
            run(1)
        end = time.perf_counter()
    timing.report("llama.cpp", a, start, first, end, threads=a.threads)


main()
