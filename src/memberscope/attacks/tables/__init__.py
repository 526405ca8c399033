"""Attacks on a released table: how near its rows come to a record."""

from memberscope.attacks.tables.closest_record import ClosestRecord
from memberscope.attacks.tables.domias import Domias
from memberscope.attacks.tables.on_nearness import NearnessAttack

__all__ = ["ClosestRecord", "Domias", "NearnessAttack"]
