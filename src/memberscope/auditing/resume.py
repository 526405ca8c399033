"""Run an audit in a folder, resume it there, and refuse a folder that holds another audit."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from memberscope._digests import digest_array
from memberscope._files import read_json, write_bytes
from memberscope.auditing.collect.collect import Progress
from memberscope.auditing.collect.reference_models import Training
from memberscope.auditing.documents.plan import Plan
from memberscope.auditing.documents.result import Result
from memberscope.auditing.run import audit_subject
from memberscope.auditing.subject.subject import Subject
from memberscope.errors import InputError
from memberscope.facts import read_recipe_facts, read_target_facts
from memberscope.signals import Store, digest_records

IDENTITY_FILE = "plan.json"


def resume_audit(
    plan: Plan,
    subject: Subject,
    out: Path,
    *,
    training: Training | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Result:
    """Audit `subject` in the folder `out`, where an earlier run of the same audit is resumed.

    The folder gets the models' answers (`signals/`) and the audit's identity (`plan.json`); write
    the result with `memberscope.write_all`.

    Args:
        plan: What is run and how it is judged.
        subject: The model and the records.
        out: The folder; it is made where it does not exist.
        training: How reference models are trained, or None for an audit without them.
        overwrite: Accept a folder that holds the result of another audit.
        progress: Called with (stage, done, total).

    Raises:
        InputError: The folder holds another audit's result, or the data do not allow the plan.
        TargetError: The model failed.
    """
    identity = build_audit_identity(plan, subject, training)
    refuse_other_audit(out, identity, overwrite=overwrite)
    store = Store(out / "signals")
    result = audit_subject(plan, subject, training=training, store=store, progress=progress)
    # After the audit, so that a run that fails leaves the identity of the result before it
    write_audit_identity(out, identity)
    return result


def build_audit_identity(
    plan: Plan, subject: Subject, training: Training | None = None
) -> dict[str, object]:
    """Give the digests that make an audit the same one.

    Those of the plan, the records, their membership and units, the model, the recipe with its
    design and its population.
    """
    identity: dict[str, object] = {
        "plan": plan.digest(),
        "records": digest_records(subject.records),
        "member": digest_array(subject.member),
        # Only where there are units, so that other folders keep their identity
        **({} if subject.records.unit is None else {"unit": digest_array(subject.records.unit)}),
        "target": read_target_facts(subject.target).identity or subject.target.digest,
    }
    facts = read_target_facts(subject.target)
    # What a language model is compared with, or asked after, changes what is found
    if facts.base is not None:
        identity["base"] = read_target_facts(facts.base).identity or facts.base.digest
    if facts.prefix is not None:
        identity["prefix"] = hashlib.sha256(facts.prefix.encode()).hexdigest()
    if training is not None:
        identity["recipe"] = read_recipe_facts(training.recipe).digest
        identity["design"] = None if training.design is None else digest_array(training.design)
        identity["population"] = (
            digest_records(training.population) if training.population else None
        )
    return identity


def find_other_audit(
    out: Path, identity: dict[str, object], *, file: str = "result.json"
) -> str | None:
    """Name what differs in the audit whose result `file` is in the folder `out`.

    None where there is no result, or that of the same audit.
    """
    if not (out / file).exists():
        return None
    try:
        before = read_json(out / IDENTITY_FILE)
    except (OSError, ValueError):
        # A result whose plan cannot be read must not be overwritten unasked
        return f"plan ({IDENTITY_FILE} does not say which)"
    # Keys that only one of the two has count as changed: a recipe that was added is another audit.
    changed = [name for name in {**identity, **before} if before.get(name) != identity.get(name)]
    return ", ".join(changed) or None


def refuse_other_audit(
    out: Path, identity: dict[str, object], *, overwrite: bool = False, file: str = "result.json"
) -> None:
    """Refuse a folder that holds the result of another audit.

    Raises:
        InputError: It does and `overwrite` is false, or `out` is a file.
    """
    if out.exists() and not out.is_dir():
        raise InputError(
            f"Expected a folder for --out, got the file {str(out)!r}. Choose another name."
        )
    changed = None if overwrite else find_other_audit(out, identity, file=file)
    if changed is not None:
        raise InputError(
            f"Expected an empty folder or the same audit in {str(out)!r}, got a result with "
            f"another {changed}. Choose another --out, or add --overwrite."
        )


def write_audit_identity(out: Path, identity: dict[str, object]) -> None:
    """Write the identity beside a result, for the run that comes next."""
    text = json.dumps(identity, indent=1, sort_keys=True) + "\n"
    write_bytes(out / IDENTITY_FILE, text.encode())
