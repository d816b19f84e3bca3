# Profile intervals by lme4 of golden data sets with several grouping factors for which make_golden_multi.R has none: slopes, three
# and four levels, three crossed factors, singular fits. Run `Rscript profiles.R` in this folder: it writes profiles.json. (Made by
# R 4.2.2, lme4 1.1-31.) error: confint's own words, where it gave up. Of 03_nestrs it has no end.
suppressMessages({library(lme4); library(jsonlite)})
cases <- c("01_nestvc", "08_crossind", "10_partial", "12_four", "13_three", "17_nestmix", "21_crossind", "26_three", "32_cross",
  "16_nestrs", "09_crossbet", "07_crossrs")
control <- lmerControl(optimizer = "bobyqa", calc.derivs = FALSE, check.conv.singular = "ignore", optCtrl = list(rhoend = 1e-10, maxfun = 50000))
found <- list()
for (case in cases) {
  formula <- read_json(paste0(case, ".json"))$formula
  data <- read.csv(paste0(case, ".csv"))
  began <- proc.time()[["elapsed"]]
  fitted <- suppressWarnings(suppressMessages(lmer(as.formula(formula), data, REML = TRUE, control = control)))
  ci <- try(suppressMessages(suppressWarnings(confint(fitted, method = "profile", oldNames = FALSE))), silent = TRUE)
  found[[case]] <- if (inherits(ci, "try-error")) list(error = trimws(attr(ci, "condition")$message)) else
    list(parameter = rownames(ci), lower = unname(ci[, 1]), upper = unname(ci[, 2]))
  found[[case]]$singular_ML <- isSingular(refitML(fitted))
  cat(case, round(proc.time()[["elapsed"]] - began, 1), "s", if (inherits(ci, "try-error")) "error", "\n")
  write_json(found, "profiles.json", auto_unbox = TRUE, digits = 15, pretty = TRUE)
}
