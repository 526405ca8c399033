"""The panels of the help, and what several options take where nothing is given."""

from __future__ import annotations

AUDIT = ("audit", "plan")
OUT = {"audit": "memberscope-out", "plan": "memberscope-out", "defend": "memberscope-defend"}
SET_VERB = "set-test"
CANARY_OUT = "memberscope-canaries"
HISTORY = ".memberscope/history.sqlite"
LABEL = "y"
CANARY_KIND = "mislabelled"

# Panels of the help, in order: the first holds the ten options that most audits need.
FIRST = "Model and data (what most audits need)"
SERVED = "Served model (with --url)"
OPENING = "Opening the model"
COLUMNS = "Columns of the records"
TEXTS = "Texts (of a language model)"
REFERENCES = "Reference models (with --recipe)"
THREAT = "Threat model"
MEASURING = "Attacks, intervals and declarations"
DEFENCES = "Defences to compare"
CANARIES = "Audit with canaries (with --recipe)"
SETS = "Questions about a collection"
OUTPUT = "Output"
