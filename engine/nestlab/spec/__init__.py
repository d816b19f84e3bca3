"""What is asked: the study file, its grid, formulas and identities."""
