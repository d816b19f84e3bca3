# Milliseconds a fit of lme4 (defaults) on models with several grouping factors and on binary outcomes; one line "design,ms" each. usage: taskset -c 0 Rscript lme4_times_multi.R [repeats]
suppressMessages(library(lme4)); R <- if (length(commandArgs(TRUE))) as.integer(commandArgs(TRUE)[1]) else 5
two <- function(J, a, b, r) { S <- matrix(c(a, r * sqrt(a * b), r * sqrt(a * b), b), 2); matrix(rnorm(2 * J), J) %*% chol(S) }
crossed <- function(J, K) { d <- expand.grid(cond = c(-.5, .5), subject = seq_len(J), item = seq_len(K)); u <- two(J, .11, .04, .6); v <- two(K, .11, .04, .6)
  d$y <- .1 * d$cond + u[d$subject, 1] + v[d$item, 1] + (u[d$subject, 2] + v[d$item, 2]) * d$cond + rnorm(nrow(d)); d$subject <- factor(d$subject); d$item <- factor(d$item); d }
nested <- function(J, K, n) { d <- expand.grid(row = seq_len(n), class = seq_len(K), school = seq_len(J)); k <- interaction(d$school, d$class); d$x <- rnorm(nrow(d)); d$trt <- d$school %% 2
  d$y <- .3 * d$x + .3 * d$trt + rnorm(J, 0, .4)[d$school] + rnorm(nlevels(k), 0, .4)[as.integer(k)] + rnorm(nrow(d)); d$k <- factor(k); d$school <- factor(d$school); d }
logit <- function(J, n) { g <- rep(seq_len(J), each = n); d <- data.frame(g = factor(g), trt = g %% 2, x = rnorm(J * n))
  d$y <- rbinom(J * n, 1, plogis(-.5 + .5 * d$trt + .4 * d$x + rnorm(J, 0, .8)[g])); d }
quiet <- function(e) suppressMessages(suppressWarnings(e))
time <- function(name, make, fit) { t <- sapply(seq_len(R), function(i) { set.seed(i); d <- make(); system.time(quiet(fit(d)))[["elapsed"]] }); cat(sprintf("%s,%.1f\n", name, 1000 * median(t))) }
time("crossed_intercepts_30x10x2", function() crossed(30, 10), function(d) lmer(y ~ cond + (1 | subject) + (1 | item), d))
time("crossed_maximal_30x10x2", function() crossed(30, 10), function(d) lmer(y ~ cond + (1 + cond | subject) + (1 + cond | item), d))
time("crossed_maximal_50x20x2", function() crossed(50, 20), function(d) lmer(y ~ cond + (1 + cond | subject) + (1 + cond | item), d))
time("nested_20x4x10", function() nested(20, 4, 10), function(d) lmer(y ~ x + trt + (1 | school) + (1 | k), d))
time("logit_crt_30x20", function() logit(30, 20), function(d) glmer(y ~ trt + (1 | g), d, binomial))
time("logit_x_30x20", function() logit(30, 20), function(d) glmer(y ~ trt + x + (1 | g), d, binomial))
time("logit_x_30x20_agq7", function() logit(30, 20), function(d) glmer(y ~ trt + x + (1 | g), d, binomial, nAGQ = 7))
time("logit_slope_30x20", function() logit(30, 20), function(d) glmer(y ~ trt + x + (1 + x | g), d, binomial))
