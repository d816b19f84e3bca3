# What R prints of fits at tight tolerances: <case>_<REML|ML>.txt as lme4's print(summary(m)), <case>_[ML_]between-within.txt in
# lmerTest's layout with between-within degrees of freedom, written out by hand for each model below. The golden data sets whose
# printed digits differ between lme4's own optimisers, or where it stops at 1e-20 instead of 0, are left out.
# run: Rscript printed.R [DIRECTORY]   (made by R 4.2.2, lme4 1.1-31; in a UTF-8 locale)
# The data are ../NN_model.csv, and two sets made here: wide.csv (long names: tables wider than the terminal) and few.csv (three
# clusters: no degree of freedom is left between them).
suppressMessages(library(lme4))
arguments <- commandArgs(trailingOnly = TRUE)
directory <- if (length(arguments)) arguments[1] else "."
forms <- list(vc = "y ~ 1 + (1 | g)", ri = "y ~ z + x + (1 | g)", trt = "y ~ trt + (1 | g)", rs = "y ~ x + (1 + x | g)",
  cross = "y ~ z * x + (1 + x | g)", indep = "y ~ x + (1 | g) + (0 + x | g)", slopeonly = "y ~ x + (0 + x | g)", rs2 = "y ~ x + w + (1 + x + w | g)",
  wide = paste("reading_score ~ treatment_condition + socioeconomic_status + previous_achievement + hours_of_instruction +",
    "hours_of_homework + parental_involvement + treatment_condition:socioeconomic_status + treatment_condition:previous_achievement +",
    "(1 + socioeconomic_status + previous_achievement | school_identifier)"),
  few = "y ~ z + v + x + (1 | g)", thousands = "I(y * 1e7) ~ z + x + (1 | g)",
  mixed = "reading_score ~ hours_of_homework + (1 + socioeconomic_status + hours_of_homework | school_identifier) + (0 + previous_achievement | school_identifier)")
data_of <- c(thousands = "02_ri", mixed = "wide")
# between-within: the effects that are constant within clusters up to a random column share clusters - their number
between_within <- list(vc = function(J, N) J - 1, ri = function(J, N) c(J - 2, J - 2, N - J - 1), trt = function(J, N) c(J - 2, J - 2),
  rs = function(J, N) c(J - 1, J - 1), cross = function(J, N) rep(J - 2, 4), indep = function(J, N) c(J - 1, J - 1),
  slopeonly = function(J, N) c(N - J - 1, J - 1), rs2 = function(J, N) rep(J - 1, 3),
  wide = function(J, N) c(J - 2, J - 2, J - 2, J - 2, rep(N - J - 3, 3), J - 2, J - 2), few = function(J, N) c(NA, NA, NA, N - J - 1))

set.seed(11)
J <- 24; n <- 15; g <- rep(seq_len(J), each = n); N <- J * n
normal <- function() round(rnorm(N), 6)
wide <- data.frame(school_identifier = g, treatment_condition = g %% 2, socioeconomic_status = normal(), previous_achievement = normal() * 12,
  hours_of_instruction = normal(), hours_of_homework = normal(), parental_involvement = normal())
wide$reading_score <- round(480 + 6 * wide$treatment_condition + 3 * wide$socioeconomic_status + .8 * wide$previous_achievement +
  rnorm(J, 0, 9)[g] + rnorm(J, 0, 4)[g] * wide$socioeconomic_status + rnorm(J, 0, .5)[g] * wide$previous_achievement + rnorm(N, 0, 20), 6)
write.csv(wide, file.path(directory, "wide.csv"), row.names = FALSE, quote = FALSE)
g <- rep(1:3, each = 6)
few <- data.frame(g, z = c(-1, 0, 1)[g], v = c(1, -2, 1)[g], x = round(rnorm(18), 6), y = round(rnorm(18), 6))
write.csv(few, file.path(directory, "few.csv"), row.names = FALSE, quote = FALSE)

tight <- list(
  lmerControl(optimizer = "nloptwrap", calc.derivs = FALSE, optCtrl = list(algorithm = "NLOPT_LN_BOBYQA", xtol_abs = 1e-13, ftol_abs = 1e-13, xtol_rel = 0, ftol_rel = 0, maxeval = 20000)),
  lmerControl(optimizer = "bobyqa", calc.derivs = FALSE, optCtrl = list(rhoend = 1e-10, maxfun = 50000)),
  lmerControl(optimizer = "Nelder_Mead", calc.derivs = FALSE, optCtrl = list(maxfun = 50000, FtolAbs = 1e-13, FtolRel = 1e-14, XtolRel = 1e-13)))
fit <- function(f, d, reml) {
  fits <- lapply(tight, function(control) suppressMessages(suppressWarnings(lmer(f, d, REML = reml, control = control))))
  m <- fits[[which.min(sapply(fits, function(m) -2 * as.numeric(logLik(m))))]]
  m@call$control <- NULL; m@call$formula <- f; m@call$data <- quote(d)
  m
}
with_tests <- function(m, df) {
  s <- summary(m)
  t <- s$coefficients[, 3]
  s$coefficients <- cbind(s$coefficients[, 1:2, drop = FALSE], df = df, "t value" = t, "Pr(>|t|)" = 2 * pt(abs(t), df, lower.tail = FALSE))
  s$methTitle <- paste0(s$methTitle, ". t-tests use between-within df")
  s
}
cases <- list("02_ri" = c("REML", "ML", "between-within", "ML_between-within"), "04_rs" = "REML", "08_rs2" = c("REML", "ML"),
  "13_cross" = c("REML", "between-within"), "15_slopeonly" = c("REML", "between-within"), "17_vc" = "REML", "20_rs" = "REML",
  "22_indep" = c("ML", "between-within"), "27_trt" = "REML", "28_rs" = "ML", "30_indep" = c("REML", "ML"),
  wide = c("REML", "ML", "between-within", "ML_between-within"), few = c("ML", "ML_between-within"), thousands = "REML", mixed = c("REML", "ML"))
for (case in names(cases)) {
  name <- sub("^[0-9]+_", "", case)
  set <- if (case %in% names(data_of)) data_of[[case]] else case
  golden <- file.path(directory, "..", paste0(set, ".csv"))
  d <- read.csv(if (file.exists(golden)) golden else file.path(directory, paste0(set, ".csv")))
  for (kind in cases[[case]]) {
    m <- fit(as.formula(forms[[name]]), d, !startsWith(kind, "ML"))
    s <- if (endsWith(kind, "within")) with_tests(m, between_within[[name]](ngrps(m)[[1]], nobs(m))) else summary(m)
    writeLines(capture.output(print(s)), file.path(directory, paste0(case, "_", kind, ".txt")))
  }
}
