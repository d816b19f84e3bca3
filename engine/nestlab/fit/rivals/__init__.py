"""The rivals of mixed models where rows have several grouping factors: analyses of rows, replicates side by side.

    rows        the data: fixed-effect columns, responses and levels of factors, split where replicates differ in their rows
    absorb      fixed effects of factors: the exact projection on their dummies, of one factor or of several
    regression  least squares, with or without absorbed factors
    multiway    standard errors that are robust to clustering by one or several factors, CR0 to CR2
    by_units    by-subject and by-item analyses, F1, F2 and min F'

Sums over rows are NumPy's own, never BLAS, and run over contiguous rows: a replicate's digits depend neither on the number of
threads nor on the replicates beside it.
"""
