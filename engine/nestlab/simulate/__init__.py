"""Truth to data: layouts, random streams, sufficient statistics and rows."""
