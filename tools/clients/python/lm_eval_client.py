"""lm-evaluation-harness, unchanged, by its command line, against what it finds when transformers runs the model."""

import json
import os
import subprocess
import sys
from pathlib import Path

from common import URL, done

TASKS = Path(__file__).resolve().parents[1] / "lm_eval"
sys.path.append(str(TASKS))
from tasks import TASKS as NAMES, found  # noqa: E402

#: Of a log-likelihood.
TOLERANCE = 1e-3


def evaluate(name, *, by):
    """The samples of all tasks on the model `plain`, several requests at the same time."""
    folder = Path(os.environ["ML_WORK"])
    arguments = f"model=plain,base_url={URL}/v1/completions,tokenizer={folder / 'plain'},num_concurrent=4,{by}"
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "local-completions", "--model_args", arguments]
    command += ["--tasks", *NAMES, "--include_path", str(TASKS), "--log_samples", "--output_path", str(folder / name)]
    # Where a task's files are looked for.
    subprocess.run(command, check=True, cwd=TASKS, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    samples = {}
    for task in NAMES:
        [file] = (folder / name).rglob(f"samples_{task}_*.jsonl")
        samples[task] = [json.loads(line) for line in file.read_text().splitlines()]
    return found(samples)


def difference(found, expected):
    """The largest between numbers; all else is to be the same."""
    if isinstance(expected, list):
        assert isinstance(found, list) and len(found) == len(expected), (found, expected)
        return max((difference(*pair) for pair in zip(found, expected)), default=0.0)
    if isinstance(expected, bool) or not isinstance(expected, (int, float)):
        assert str(found) == str(expected), (found, expected)
        return 0.0
    return abs(float(found) - expected)


expected = json.loads((TASKS / "expected.json").read_text())
for name, by in (("tokens", "tokenizer_backend=huggingface"), ("texts", "tokenizer_backend=huggingface,tokenized_requests=False")):
    samples = evaluate(name, by=by)
    for task in NAMES:
        worst = difference(samples[task], expected[task])
        print(f"{task}, prompts as {name}: {worst:.1e} from transformers at the most")
        assert worst < TOLERANCE, (task, samples[task], expected[task])
done("lm_eval")
