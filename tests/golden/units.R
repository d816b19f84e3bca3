# By-subject and by-item analyses of variance by aov, and least squares with dummies by lm, on units.csv: 12 subjects in two groups (g),
# 8 items of two kinds (b), two conditions (a) for each subject and item, two rows each. Writes units.csv and units.json.
# run: Rscript units.R [DIRECTORY]   (made by R 4.2.2, jsonlite 1.8.4)
suppressMessages(library(jsonlite))
arguments <- commandArgs(trailingOnly = TRUE)
directory <- if (length(arguments)) arguments[1] else "."
set.seed(20)
d <- expand.grid(time = 1:2, a = c(-.5, .5), item = 1:8, subject = 1:12)
d$g <- ifelse(d$subject %% 2 == 0, .5, -.5)
d$b <- ifelse(d$item <= 4, -.5, .5)
by_subject <- matrix(rnorm(12 * 3), 12); by_item <- matrix(rnorm(8 * 3), 8)
d$y <- round(4 + .4 * d$a + .5 * d$b - .3 * d$g + .6 * d$a * d$g + by_subject[d$subject, 1] + by_subject[d$subject, 2] * d$a +
  by_subject[d$subject, 3] * d$b + by_item[d$item, 1] + by_item[d$item, 2] * d$a + by_item[d$item, 3] * d$g + rnorm(nrow(d)), 6)
d$kept <- as.integer(runif(nrow(d)) < .85)
write.csv(d, file.path(directory, "units.csv"), row.names = FALSE, quote = FALSE)
f <- transform(d, subject = factor(subject), item = factor(item), a = factor(a), b = factor(b), g = factor(g))
tests <- function(model) {
  found <- list()
  for (stratum in summary(model)) {
    table <- stratum[[1]]; names <- trimws(rownames(table)); left <- which(names == "Residuals")
    for (k in seq_along(names)) if (names[k] != "Residuals" && length(left))
      found[[names[k]]] <- list(F = table[k, "F value"], df = table[left, "Df"], p = table[k, "Pr(>F)"])
  }
  found
}
some <- f[f$kept == 1, ]; some$a <- as.numeric(as.character(some$a))
dummies <- function(formula) { m <- lm(formula, some); list(beta = unname(coef(m)["a"]), se = unname(sqrt(diag(vcov(m)))["a"]), sigma = sigma(m), df = df.residual(m)) }
write_json(list(
  subject = tests(aov(y ~ g * a * b + Error(subject / (a * b)), f)), item = tests(aov(y ~ g * a * b + Error(item / (g * a)), f)),
  dummies = list(subject = dummies(y ~ a + subject), item = dummies(y ~ a + item), `subject item` = dummies(y ~ a + subject + item))
), file.path(directory, "units.json"), auto_unbox = TRUE, digits = 15)
