"""Linear mixed models with several grouping factors, nested or crossed in any combination: fits of one data set.

Model, row i: y_i = x_i'b + sum_f z_fi'u_f(level of factor f) + e_i, u_f ~ N(0, s2 G_f), e ~ N(0, s2 I), G_f block-diagonal over
the terms of factor f. The search, the certificate and the rules of inference are those of one factor (`search`, `information`);
only deviance, gradient and Hessian are made in another way:

    products    from rows to Z_f'Z_g, Z_f'[X y], [X y]'[X y], by connected units
    point       V^-1 at given G by elimination: deviance, scores and the diagonal blocks of Z'V^-1 Z
    curvature   the Hessian, exact, averaged or by differences of the exact gradient
    steer       the search
    model       standard errors and degrees of freedom
"""
