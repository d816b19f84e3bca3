"""Generalised linear mixed models of one data set: binary, binomial and count outcomes, any grouping factors."""
