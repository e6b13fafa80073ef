"""The tasks of this folder, and what is compared of their samples."""

TASKS = ["demo_choices", "demo_answers", "demo_texts"]


def found(samples: dict) -> dict:
    """By task and in the order of the questions: log-likelihoods, or texts.

    A choice has its log-likelihood and whether it is what the model would say.
    """
    by_task = {}
    for task in TASKS:
        ordered = sorted(samples[task], key=lambda sample: sample["doc_id"])
        by_task[task] = [[plain(value) for value in sample["filtered_resps"]] for sample in ordered]
    return by_task


def plain(value):
    """Numbers rounded to what is compared, and lists for what JSON has no form of."""
    if isinstance(value, (tuple, list)):
        return [plain(part) for part in value]
    return round(value, 6) if isinstance(value, float) else value
