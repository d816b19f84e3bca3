# The article's four models with lme4's default control, printed as R prints them: summary_m0.txt to summary_m3.txt.
# run: Rscript summaries.R [DIRECTORY]   (made by R 4.2.2, lme4 1.1-31, MASS 7.3-58.2)
# Digit for digit what the article prints; the article's page has lost R's alignment, these files have it.
suppressMessages({library(lme4); library(MASS)})
arguments <- commandArgs(trailingOnly = TRUE)
directory <- if (length(arguments)) arguments[1] else "."
C <- 20; N <- 50
normal <- function(seed, n, sd) { set.seed(seed); rnorm(n, 0, sd) }
Cluster <- rep(seq_len(C), each = N)
u0j <- rep(normal(707, C, sqrt(5)), each = N)
u1j <- rep(normal(5707, C, sqrt(3)), each = N)
Z <- rep(normal(111, C, 3), each = N)
X <- normal(555, N * C, 1)
eij <- normal(111, N * C, sqrt(3))
set.seed(609); u <- mvrnorm(C, c(0, 0), matrix(c(5, 1, 1, 3), 2))
outcome <- list(m0 = 2 + u0j + normal(777, N * C, sqrt(3)), m1 = 2 + 3 * Z + u0j + 4 * X + eij, m2 = (2 + u0j) + (5 + u1j) * X + eij,
  m3 = (2 + rep(u[, 1], each = N)) + (5 + rep(u[, 2], each = N)) * X + eij)
fit <- list(m0 = function() lmer(y ~ 1 + (1 | Cluster), data = df), m1 = function() lmer(y ~ 1 + Z + X + (1 | Cluster), data = df),
  m2 = function() lmer(yij ~ X + (1 + X | Cluster), data = df), m3 = function() lmer(yij ~ X + (1 + X | Cluster), data = df))
for (m in names(fit)) {
  yij <- outcome[[m]]
  df <- data.frame(y = yij, Cluster, Z, X)
  writeLines(capture.output(print(summary(fit[[m]]()))), file.path(directory, paste0("summary_", m, ".txt")))
}
