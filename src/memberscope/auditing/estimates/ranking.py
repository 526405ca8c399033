"""Rank the attacks once after scoring: the candidates of each level, and which attack leads.

Estimates, power, the verdict, diagnostics and comparisons all read this one ranking.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from memberscope._digests import digest_array
from memberscope._parallel import map_in_parallel
from memberscope.auditing.documents.result import AttackScores, AuditArrays
from memberscope.auditing.estimates.attack_part import (
    AttackPart,
    SharedNumbers,
    build_whole_part,
    get_comparable_scores,
)
from memberscope.auditing.estimates.estimates import parse_access
from memberscope.errors import InputError
from memberscope.outputs import INVERTED, is_inverted
from memberscope.statistics import digest_ranking
from memberscope.types import Access


@dataclass(frozen=True, eq=False)
class ScoreRanking:
    """How one attack's scores rank the records, and the numbers that follow from it.

    Attacks with the same ranking share `numbers`. Attacks that learn do so only where their scores
    are the same, as their lower limits are taken fold by fold.
    """

    digest: bytes
    numbers: SharedNumbers


def rank_score_vectors(arrays: AuditArrays) -> dict[str, ScoreRanking]:
    """Rank the scores of each attack by `attack@level`, once for the whole audit."""

    def digest(entry: AttackScores) -> tuple[bytes, str | None]:
        own = digest_array(entry.scores) if entry.learned else None
        return digest_ranking(get_comparable_scores(entry, arrays)), own

    kept: dict[tuple[bytes, str | None], SharedNumbers] = {}
    digests = map_in_parallel(digest, arrays.scored)
    return {
        entry.name: ScoreRanking(both[0], kept.setdefault(both, {}))
        for entry, both in zip(arrays.scored, digests, strict=True)
    }


@dataclass(frozen=True, eq=False)
class LevelRanking:
    """The candidates of one level: the attacks that an adversary there could use.

    Each attack stands at its highest level, and of attacks with identical rankings only the first.
    `at` is an entry of the level, and `arrays` hold the scores. Under a restriction that is tried
    beside the declared one the candidates are the attacks made there and those on labels.
    """

    at: AttackScores
    candidates: tuple[AttackScores, ...]
    arrays: AuditArrays
    rankings: Mapping[str, ScoreRanking]

    def build_part(self, entry: AttackScores) -> AttackPart:
        """Build the part of an attack on all records, with the numbers that are known of it."""
        return build_whole_part(entry, self.arrays, self.rankings[entry.name].numbers)

    def build_parts(self) -> list[AttackPart]:
        """Build the candidates on all records, in the order of the scores."""
        # Built when they are read: kept for the whole audit they would double its memory
        return [self.build_part(entry) for entry in self.candidates]

    @cached_property
    def leading(self) -> AttackScores:
        """The candidate with the highest AUC, the first of equal ones."""
        best = _find_largest_auc(self.build_parts())
        assert best is not None
        return best

    def list_own(self) -> list[AttackScores]:
        """List the entries of this level itself."""
        return [entry for entry in self.arrays.scored if entry.level == self.at.level]

    def list_derivable(self) -> list[AttackScores]:
        """List every entry that an adversary at this level can work out, candidate or not."""
        return [entry for entry in self.arrays.scored if _is_derivable(entry, self.at)]


@dataclass(frozen=True, eq=False)
class Ranking:
    """The candidates of every scored level, in the order of the scores.

    `judged` is the level that a verdict speaks of; None where nothing was scored.
    """

    levels: tuple[LevelRanking, ...]
    judged: LevelRanking | None

    @cached_property
    def leading(self) -> AttackScores | None:
        """The candidate with the highest AUC at the judged level; None where nothing was scored."""
        return None if self.judged is None else self.judged.leading

    @cached_property
    def leading_reference(self) -> AttackScores | None:
        """The one with the highest AUC among candidates with reference models; None without any."""
        parts = [] if self.judged is None else self.judged.build_parts()
        return _find_largest_auc([part for part in parts if _needs_references(part.scored)])

    def get_judged_level(self) -> LevelRanking:
        """Get the level that a verdict speaks of.

        Raises:
            InputError: No attack was scored.
        """
        if self.judged is None:
            raise InputError(
                "Expected the scores of at least one attack to judge, got none. Run the audit "
                "again."
            )
        return self.judged

    def rank_without_references(self) -> LevelRanking:
        """Rank the judged level again, without the attacks that use reference models.

        An attack whose ranking equals that of an attack with reference models is a candidate then.

        Raises:
            InputError: No attack was scored.
        """
        judged = self.get_judged_level()
        return _rank_level(judged.at, drop_reference_attacks(judged.arrays), judged.rankings)

    def find_level(self, access: str, restriction: str | None) -> LevelRanking | None:
        """Find the level of `access` under `restriction`; None where nothing was scored there."""
        return next(
            (
                level
                for level in self.levels
                if (level.at.access, level.at.restriction) == (access, restriction)
            ),
            None,
        )


def build_ranking(arrays: AuditArrays, declared: Access) -> Ranking:
    """Rank the attacks of an audit whose plan declares the access `declared`."""
    levels = rank_levels(arrays)
    # Answers whose noise was undone are a way to attack the level with the noise
    served = [entry for entry in arrays.scored if not is_inverted(entry.restriction)]
    usable = [
        entry for entry in served if entry.declared and parse_access(entry.access) <= declared
    ]
    # Where nothing was declared, the highest level is all there is to speak of
    highest = max(usable or served, key=lambda entry: parse_access(entry.access), default=None)
    judged = next((level for level in levels if highest and level.at.level == highest.level), None)
    return Ranking(levels, judged)


def rank_levels(arrays: AuditArrays) -> tuple[LevelRanking, ...]:
    """List the candidates of each level, the level whose last score comes first first."""
    # Reversed twice, so that the first entry of a level stands for it
    entries = list({entry.level: entry for entry in reversed(arrays.scored)}.values())[::-1]
    rankings = rank_score_vectors(arrays)
    return tuple(_rank_level(entry, arrays, rankings) for entry in entries)


def _rank_level(
    at: AttackScores, arrays: AuditArrays, rankings: Mapping[str, ScoreRanking]
) -> LevelRanking:
    """List the candidates at the level of `at`."""
    finest: dict[tuple[str, bool], AttackScores] = {}
    for scored in arrays.scored:
        # Answers with noise, and the same answers without, are two ways to attack
        way = scored.attack, _is_undone_noise(scored, at)
        before = finest.get(way)
        # More access never hurts an attack, so its finest version stands for it
        if _is_derivable(scored, at) and (
            before is None or parse_access(scored.access) > parse_access(before.access)
        ):
            finest[way] = scored
    # Equal rankings would be paid for twice in the correction, for nothing
    kept: dict[bytes, AttackScores] = {}
    for entry in finest.values():
        kept.setdefault(rankings[entry.name].digest, entry)
    return LevelRanking(at, tuple(kept.values()), arrays, rankings)


def _is_derivable(scored: AttackScores, at: AttackScores) -> bool:
    """Tell whether what is seen at the level of `scored` follows from what is seen at `at`."""
    if scored.level == at.level or _is_undone_noise(scored, at):
        return True
    # A restriction that is tried hides something, so only labels follow from it
    weaker = parse_access(scored.access) < parse_access(at.access)
    return (
        weaker and (at.declared or parse_access(scored.access) == Access.LABEL) and scored.declared
    )


def _is_undone_noise(scored: AttackScores, at: AttackScores) -> bool:
    """Tell whether the level of `scored` is that of `at` with its noise undone."""
    return scored.level == f"{at.level}+{INVERTED}"


def drop_reference_attacks(arrays: AuditArrays) -> AuditArrays:
    """Keep only the attacks that use no reference models."""
    return replace(
        arrays, scored=tuple(entry for entry in arrays.scored if not _needs_references(entry))
    )


def _needs_references(scored: AttackScores) -> bool:
    """Tell whether an attack uses reference models."""
    return sum(scored.needs.references) > 0


def _find_largest_auc(parts: Sequence[AttackPart]) -> AttackScores | None:
    """Find the entry with the highest AUC, the first of equal ones; None without any."""
    if not parts:
        return None
    # Curves are dropped at once, since all of them would double the audit's memory
    areas = map_in_parallel(_measure_area_alone, parts)
    return parts[int(np.argmax(areas))].scored


def _measure_area_alone(part: AttackPart) -> float:
    """Measure a part's area and drop its curve."""
    area = part.measure_area()
    part.drop_curves()
    return area
