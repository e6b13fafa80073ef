"""What the peers' scripts share: the process's peak memory, and the line that they print."""
import json
import resource
import sys


def peak_memory():
    """Bytes that this process had resident at most."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def report(engine, arguments, start, first, end, **more):
    """Prints one repetition, of all streams together: `first` is when the first token was there, `end` when the last was."""
    streams = arguments.streams
    line = dict(engine=engine, shape=arguments.shape, weights=arguments.weights, prompt=arguments.prompt,
                gen=arguments.gen, streams=streams, prefill_tps=streams * arguments.prompt / (first - start),
                ttft_s=first - start, decode_tps=streams * arguments.gen / (end - first),
                peak_memory_bytes=peak_memory(), **more)
    print(json.dumps(line), flush=True)


def add_arguments(parser):
    parser.add_argument("--shape", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--prompt", type=int, required=True)
    parser.add_argument("--gen", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--streams", type=int, default=1)
