"""Pictures of results; the only place that imports matplotlib. Functions take tables and return Axes."""

from .basic import rates_by, sampling_distribution

__all__ = ["rates_by", "sampling_distribution"]
