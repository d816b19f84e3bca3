"""Linear mixed models fitted to strata (`simulate.strata`): many replicates at once, whatever the numbers of levels and rows."""
