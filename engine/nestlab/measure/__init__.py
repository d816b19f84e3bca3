"""Estimates to measures: bias, RMSE, coverage, power, each with its Monte Carlo standard error."""
