"""Say in words what a defence does whose name is meant for the command line."""

from __future__ import annotations

NO_DEFENCE = "no defence"
# By the first part of a name; `{0}` and `{1}` are the numbers that follow it
WORDS: dict[str, str] = {
    "l2": "weight decay {0}",
    "dropout": "dropout {0}",
    "early_stopping": "early stopping",
    "augment": "augmentation: {0} {1}",
    "smooth": "label smoothing {0}",
    "mixup": "mixup {0}",
    "relaxloss": "RelaxLoss {0}",
    "hamp": "HAMP {0}, {1}",
    "hamp_output": "HAMP's answers",
    "selena": "SELENA of {0} models, {1} a record",
    "distill": "a student of public records",
    "dpsgd": "DP-SGD, {0}",
    "depth": "depth of trees at most {0}",
    "leaves": "at most {0} leaves a tree",
    "leaf_size": "at least {0} records a leaf",
    "rate": "learning rate {0}",
    "subsample": "each tree sees {0} of the records",
    "strength": "regularisation of strength {0}",
    "memguard": "MemGuard's noise {0}",
    "top": "the {0} likeliest classes alone",
    "round": "answers to {0} decimals",
    "temperature": "answers at temperature {0}",
    "noise": "noise of {0} on answers",
    "label": "the label alone",
}
SHORT = {"eps=": "epsilon ", "noise=": "noise ", "clip=": "clipping ", "delta=": "delta "}


def describe_defence(name: str) -> str:
    """Describe a defence, or several joined by `+`, in words.

    >>> describe_defence("l2:0.01+top:3"), describe_defence("none")
    ('weight decay 0.01; the 3 likeliest classes alone', 'no defence')
    >>> describe_defence("dpsgd:eps=8"), describe_defence("set:max_depth=4")
    ('DP-SGD, epsilon 8', 'max_depth = 4')
    """
    if name == "none":
        return NO_DEFENCE
    return "; ".join(_describe_part(part) for part in name.split("+"))


def _describe_part(part: str) -> str:
    """Describe one part of a name; what is unknown stays as it is."""
    kind, _, rest = part.partition(":")
    if kind == "set":
        return rest.replace("=", " = ", 1)
    if kind not in WORDS:
        return part
    numbers = rest.split(":")
    if kind == "dpsgd":
        for short, word in SHORT.items():
            numbers = [number.replace(short, word) for number in numbers]
        return WORDS[kind].format(", ".join(numbers))
    if part == "top:1":
        return "the likeliest class alone"
    # Numbers that a name leaves out are defaults
    return WORDS[kind].format(*numbers, "", "").rstrip(" ,:")
