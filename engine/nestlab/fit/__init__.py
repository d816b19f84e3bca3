"""Data to estimates: linear mixed models from sufficient statistics, and their inference."""
