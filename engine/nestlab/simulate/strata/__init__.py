"""Strata: balanced data with several grouping factors, drawn without rows, cells or levels.

The cells of a crossing or nesting share their rows D (n, r0). D = Q R, and a cell's row of Y is t = Q'y. Where the factors form
an orthogonal block structure, Cov(Y) over cells is the sum over strata s of P_s (x) K_s,

    K_s = s2 I + sum over the factors f that hold s of n_f R A_f G_f A_f'R'

with P_s the projections of an analysis of variance, n_f the cells per level of f and A_f its random columns as combinations of
those of D (J. A. Nelder 1965, Proc. R. Soc. A 283:147-178). Every fixed column is a combination of D's columns times a
multiplier of cells; C holds the multipliers, and the strata's C'P_s C, C'P_s Y, Y'P_s Y are sufficient, with the sum of squares
within cells.

    structure   the strata of given factors
    cells       rows, multipliers and statistics
    draw        statistics of many replicates

How to call it, for 30 subjects x 10 items x 2 conditions:

    subject, item = np.repeat(np.arange(30), 10), np.tile(np.arange(10), 30)
    design = cell_design(find_strata([subject, item]), D=[[1, -0.5], [1, 0.5]], multipliers=[Multiplier.one(300)])
    truth = CellTruth((TrueTerm(0, np.eye(2), G_subject), TrueTerm(1, np.eye(2), G_item)), residual_variance=1.0)
    statistics = draw_statistics(design, truth, generator, 1024)

`fit.strata` shows how such statistics are fitted.
"""
