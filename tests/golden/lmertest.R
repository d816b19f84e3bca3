# p values of lmerTest and pbkrtest for y ~ x + (1 + x | g), one JSON line a data set: Rscript lmertest.R data.csv
suppressMessages({library(lmerTest); library(pbkrtest); library(jsonlite)})
data <- read.csv(commandArgs(TRUE)[1])
tight <- lmerControl(optimizer = "bobyqa", calc.derivs = FALSE, check.conv.singular = "ignore",
                     optCtrl = list(rhobeg = 0.2, rhoend = 1e-9, maxfun = 1e5))
rough <- lmerControl(optimizer = "Nelder_Mead", calc.derivs = FALSE, check.conv.singular = "ignore",
                     optCtrl = list(FtolAbs = 1e-12, XtolRel = 1e-10, maxfun = 1e5))
for (number in unique(data$set)) {
  d <- data[data$set == number, ]
  m <- suppressWarnings(suppressMessages(lmer(y ~ x + (1 + x | cluster), d, control = tight)))
  n <- suppressWarnings(suppressMessages(lmer(y ~ x + (1 + x | cluster), d, control = rough)))
  if (REMLcrit(n) < REMLcrit(m)) m <- n
  s <- suppressWarnings(suppressMessages(coef(summary(m))))
  k <- suppressWarnings(suppressMessages(coef(summary(m, ddf = "Kenward-Roger"))))
  cat(toJSON(list(set = number, crit = REMLcrit(m), spread = abs(REMLcrit(m) - REMLcrit(n)), theta = getME(m, "theta"),
                  z = 2 * pnorm(-abs(s[, "t value"])), satterthwaite = s[, "Pr(>|t|)"], kr = k[, "Pr(>|t|)"],
                  df = s[, "df"], krdf = k[, "df"]), digits = NA, auto_unbox = TRUE), "\n", sep = "")
}
