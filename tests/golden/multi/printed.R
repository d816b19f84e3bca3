# What R prints of fits with several grouping factors at tight tolerances: <case>_<REML|ML>.txt as lme4's print(summary(m)).
# run: Rscript printed.R [DIRECTORY]   (made by R 4.2.2, lme4 1.1-31; in a UTF-8 locale)
suppressMessages(library(lme4))
arguments <- commandArgs(trailingOnly = TRUE)
directory <- if (length(arguments)) arguments[1] else "."
forms <- list(`02_nest` = "y ~ x + z + trt + (1 | school) + (1 | school:class)", `12_four` = "y ~ x + (1 | district) + (1 | district:school) + (1 | district:school:class)",
  `16_nestrs` = "y ~ x * trt + (1 + x | school) + (1 + x | school:class)", `05_crossvc` = "y ~ 1 + (1 | subject) + (1 | item)",
  `39_three` = "y ~ x + (1 | a) + (1 | b) + (1 | c)")
control <- lmerControl(optimizer = "bobyqa", calc.derivs = FALSE, optCtrl = list(rhoend = 1e-10, maxfun = 50000))
options(width = 80)
for (case in names(forms)) for (reml in c(TRUE, FALSE)) {
  d <- read.csv(file.path(directory, paste0(case, ".csv")))
  m <- do.call(lmer, list(as.formula(forms[[case]]), quote(d), REML = reml, control = control))
  m@call <- call("lmer", formula = as.formula(forms[[case]]), data = quote(d), REML = reml)
  writeLines(capture.output(print(summary(m))), file.path(directory, sprintf("%s_%s.txt", case, if (reml) "REML" else "ML")))
}
