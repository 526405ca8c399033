"""Sketch queries: features, near-duplicates and fingerprints."""

from memberscope.guard.sketching.fingerprints import Fingerprints, write_fingerprints
from memberscope.guard.sketching.record_forms import load_record_form
from memberscope.guard.sketching.sketcher import Sketcher, write_sketcher

__all__ = ["Fingerprints", "Sketcher", "load_record_form", "write_fingerprints", "write_sketcher"]
