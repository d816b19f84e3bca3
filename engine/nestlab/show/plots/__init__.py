"""Pictures of results; the only place that imports matplotlib. Figures stand by themselves: no pyplot, no display."""

from .basic import rates_by, sampling_distribution
from .files import alt_text, as_svg, save
from .kinds import KINDS, applicable, draw, draw_on

__all__ = ["KINDS", "alt_text", "applicable", "as_svg", "draw", "draw_on", "rates_by", "sampling_distribution", "save"]
