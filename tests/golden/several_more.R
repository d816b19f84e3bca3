# Prior weights and an offset with two crossed factors, and one factor with seven random columns, by lme4: run
# `Rscript several_more.R` in this folder; it reads multi/05_crossvc.csv and writes seven_columns.csv and several_more.json. (Made by
# R 4.2.2, lme4 1.1-31.)
suppressPackageStartupMessages(library(lme4))
control <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-12, maxfun = 1e6))
full <- function(x) paste0("[", paste(formatC(x, digits = 15, format = "g"), collapse = ", "), "]")
told <- function(name, m) paste0(
  '"', name, '": {"beta": ', full(fixef(m)), ', "se": ', full(sqrt(diag(as.matrix(vcov(m))))), ', "sigma": ', full(sigma(m)),
  ', "sd": ', full(as.data.frame(VarCorr(m))$sdcor), ', "neg2loglik": ', full(-2 * as.numeric(logLik(m))), "}"
)
crossed <- read.csv("multi/05_crossvc.csv")
row <- seq_len(nrow(crossed))
crossed$w <- 0.5 + (row %% 5) / 4
crossed$v <- (row %% 7) / 3
f <- y ~ cond + (1 | subject) + (1 | item)
set.seed(7)
g <- rep(1:25, each = 14)
frame <- data.frame(g, round(matrix(rnorm(25 * 14 * 6), ncol = 6, dimnames = list(NULL, paste0("x", 1:6))), 3))
u <- matrix(rnorm(25 * 7, sd = rep(c(1, 0.7, 0.6, 0.5, 0.8, 0.4, 0.9), each = 25)), 25)
frame$y <- round(1 + 0.5 * frame$x1 + rowSums(cbind(1, as.matrix(frame[paste0("x", 1:6)])) * u[g, ]) + rnorm(350), 4)
write.csv(frame, "seven_columns.csv", row.names = FALSE, quote = FALSE)
seven <- y ~ x1 + (x1 + x2 + x3 + x4 + x5 + x6 || g)
writeLines(paste0("{", paste(
  told("weights_reml", lmer(f, crossed, weights = w, control = control)),
  told("both_ml", lmer(f, crossed, weights = w, offset = v, REML = FALSE, control = control)),
  told("seven_reml", lmer(seven, frame, control = control)),
  sep = ",\n"), "}"), "several_more.json")
