"""List the full set of attacks.

It must have run at a level of access before that level may be recommended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from memberscope.attacks import list_attacks
from memberscope.auditing.documents.access_levels import Level, format_level, is_worth_running
from memberscope.auditing.documents.result import AttackScores, AuditArrays, NotRun, Result
from memberscope.auditing.estimates.attack_part import AttackPart
from memberscope.auditing.estimates.ranking import Ranking
from memberscope.outputs import parse_restriction
from memberscope.signals import is_measured
from memberscope.types import Access, Attack, Task, ThreatModel

Place = tuple[str, str | None]  # access and restriction of a level
LABEL: Place = (Access.LABEL.word, None)


@dataclass(frozen=True)
class AttackCoverage:
    """What attacked a level, itself and through what can be worked out from it.

    Attacks that ran, and those that are lacking.
    """

    ran: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()


def list_full_set(
    access: Access, named: Sequence[str] = (), task: Task = "classification"
) -> tuple[str, ...]:
    """List every attack on models of a task that `access` is enough for, and those of `named`.

    >>> "quantile" in list_full_set(Access.PROBABILITIES), "gradient_norm" in list_full_set(Access.PROBABILITIES)
    (True, False)
    """
    usual = [
        attack.name
        for attack in list_attacks(task).values()
        if task in attack.needs.tasks and attack.needs.access.at(task) <= access
    ]
    return tuple(dict.fromkeys((*usual, *named)))


def _find_place(
    limit: str | None, levels: Sequence[ThreatModel], declared: str | None = None
) -> Place:
    """Find the level of an adversary who sees outputs through the restriction `limit`.

    It is that of all that is granted without a restriction, or with one that hides nothing of what
    is in force and so has no level of its own.
    """
    # Labels are the same whatever else is done to the outputs
    if limit is not None and parse_restriction(limit).signal == "labels":
        return LABEL
    wanted = limit if declared is None else f"{declared}+{limit}"
    places = [(threat.access.word, threat.restriction) for threat in levels]
    for word in (Access.PROBABILITIES.word, Access.PREDICTION.word):
        if limit is not None and (word, wanted) in places:
            return word, wanted
    # Levels come weakest first, so the last has all that is granted
    return places[-1]


def select_parts(ranking: Ranking, place: Place) -> list[AttackPart]:
    """Select the attacks of an adversary at `place`.

    There are none where nothing ran there, or labels were not searched.
    """
    level = ranking.find_level(*place)
    # Labels that were not searched look safer than they are
    if level is None or (place == LABEL and not has_searched(level.list_own())):
        return []
    return level.build_parts()


def has_searched(scored: Sequence[AttackScores]) -> bool:
    """Tell whether some attack asked more of labels than one answer a record."""
    return any(
        is_measured(entry.needs.spec) for entry in scored if entry.access == Access.LABEL.word
    )


def measure_attack_coverage(result: Result, arrays: AuditArrays, place: Place) -> AttackCoverage:
    """Measure which attacks ran at `place` and below, and which of the full set did not.

    Only attacks that could have run are lacking.

    What could not run is known from the result: it was in the plan and is listed with the reason.
    Searches that were left out with `--search-queries 0` could have run.
    """
    places, task = _list_lower_places(place, result.threat_models), result.plan.task
    usual = {
        name: attack for name, attack in list_attacks(task).items() if task in attack.needs.tasks
    }
    scored = {(entry.attack, entry.access, entry.restriction) for entry in arrays.scored}
    ran, lacking = [], []
    for at in places:
        level = Level(Access[at[0].upper()], at[1])
        for attack in usual.values():
            # What ran, or would tell no more here than elsewhere, is not lacking
            if (attack.name, *at) in scored or not is_worth_running(attack, level):
                continue
            if not _is_excused(attack, at, result):
                lacking.append(attack.name)
        ran += [entry.attack for entry in arrays.scored if (entry.access, entry.restriction) == at]
    # An attack may have run at several places; it is named once
    return AttackCoverage(tuple(dict.fromkeys(ran)), tuple(dict.fromkeys(lacking)))


def _list_lower_places(place: Place, levels: Sequence[ThreatModel]) -> list[Place]:
    """List `place`, and those below whose attacks do not run at it.

    These are outputs below the whole model, and labels below all.
    """
    # Levels come with those that are tried first, so the last of each access is in force
    in_force = {threat.access: (threat.access.word, threat.restriction) for threat in levels}
    access, found = Access[place[0].upper()], [place]
    # Each level of text adds attacks of its own
    if access.ladder == "text":
        return [place, *(in_force[below] for below in in_force if below < access)]
    # Attacks on outputs do not run at white-box access, so the next level adds them
    if access == Access.WHITE_BOX:
        found += [in_force[max(at for at in in_force if at < access)]] if len(in_force) > 1 else []
    if access > Access.LABEL and Access.LABEL in in_force:
        found.append(LABEL)
    return list(dict.fromkeys(found))


def _is_excused(attack: Attack, place: Place, result: Result) -> bool:
    """Tell whether an attack of the plan could not run at `place`, as the result says."""
    search = attack.needs.access == Access.LABEL and is_measured(attack.needs.spec)
    # What was left out by choice is no excuse, nor is a search without queries
    if attack.name not in result.plan.attacks or (search and not result.plan.search_queries):
        return False
    return any(
        entry.attack == attack.name and _is_about_place(entry, place, result)
        for entry in result.not_run
    )


def _is_about_place(entry: NotRun, place: Place, result: Result) -> bool:
    """Tell whether a note speaks of `place`.

    One about the level in force holds for those that are tried beside it.
    """
    # The last of each access is the one in force
    last = {threat.access: threat for threat in result.threat_models}
    in_force = {format_level(threat.access.word, threat.restriction) for threat in last.values()}
    return entry.access in {format_level(*place), *in_force, result.plan.threat.access}


@dataclass(frozen=True, eq=False)
class AdversaryView:
    """The attacks `parts` of a row's adversary, and what ran at that access.

    `others` are those of an adversary who does not know the defence.
    """

    parts: list[AttackPart]
    others: list[AttackPart]
    covered: AttackCoverage


def build_adversary_view(
    limit: str | None, result: Result, ranking: Ranking, unaware: Ranking | None
) -> AdversaryView:
    """Build the view of a row's adversary, who sees outputs through the restriction `limit`.

    `ranking` is that of the result's attacks, and `unaware` that of an adversary who does not know
    the defence; the same one where nothing is defended.
    """
    place = _find_place(limit, result.threat_models, result.plan.threat.restriction)
    parts, others = (
        select_parts(ranking, place),
        [] if unaware is None else select_parts(unaware, place),
    )
    # Undefended training has nothing to add: both adversaries are the same
    more = [] if unaware is ranking or not parts else _label_undefended_attacks(others)
    return AdversaryView(
        parts + more, others, measure_attack_coverage(result, result.arrays, place)
    )


def _label_undefended_attacks(parts: list[AttackPart]) -> list[AttackPart]:
    """Rename the attacks with undefended reference models.

    Who knows the defence can still use them.
    """
    # Only attacks with reference models differ from what the adversary has already
    own = [part for part in parts if sum(part.scored.needs.references)]
    return [
        replace(part, scored=replace(part.scored, attack=f"{part.scored.attack} (undefended)"))
        for part in own
    ]
