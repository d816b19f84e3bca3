# R's own random numbers, for test_rcompat.py.
# run: Rscript r_random.R > r_random.json   (made by R 4.2.2, MASS 7.3-58.2, reference BLAS and LAPACK 3.11; numbers with 17 digits, exact)
suppressMessages(library(MASS))
RNGkind("Mersenne-Twister", "Inversion", "Rejection")
array <- function(x) paste0("[", paste(sprintf("%.17g", x), collapse = ", "), "]")
matrix_rows <- function(m) paste0("[", paste(apply(m, 1, array), collapse = ", "), "]")
object <- function(...) { x <- c(...); paste0("{", paste0('"', names(x), '": ', x, collapse = ", "), "}") }
after <- function(seed, draw) { set.seed(seed); force(draw) }

streams <- sapply(c(0L, 1L, 42L, -1L, -42L, 707L, 123456789L, .Machine$integer.max, -.Machine$integer.max), function(s) {
  # 624 words are one generation of the twister: the last values of a long draw lie beyond it.
  object(seed = s, runif = array(after(s, runif(6))), runif_2000_last = array(after(s, tail(runif(2000), 3))),
    rnorm = array(after(s, rnorm(8))), rnorm_2000_last = array(after(s, tail(rnorm(2000), 3))), rnorm_mean_10_sd_3 = array(after(s, rnorm(4, 10, 3))),
    mixed = array(after(s, c(runif(3), rnorm(2), rnorm(2, 1, 0), runif(2)))))
})

p <- c(10^-c(1:12, 20, 50, 100, 200, 300), 2^-c(32, 59, 1000), 0.5, 0.075, 0.925, 0.4249, 0.0749, 0.9251, 1 - 10^-(1:15), exp(-25), seq(0.01, 0.99, 0.07))

ar <- function(p, rho) rho^abs(outer(seq_len(p), seq_len(p), "-"))
cases <- list(
  article = list(c(0, 0), matrix(c(5, 1, 1, 3), 2)), negative = list(c(1, -2), matrix(c(1, -0.5, -0.5, 0.7), 2)),
  descending = list(c(0, 0), diag(c(7, 2))), ascending = list(c(0, 0), diag(c(2, 7))), identity = list(c(0, 0), diag(2)),
  badly_scaled = list(c(1e6, 0), matrix(c(1e8, 20, 20, 1e-4), 2)), singular = list(c(0, 0), matrix(c(4, 2, 2, 1), 2)), zero = list(c(3, 4), matrix(0, 2, 2)),
  one = list(2, matrix(2.25)), three = list(c(1, 2, 3), matrix(c(4, 1, 0.5, 1, 3, -0.7, 0.5, -0.7, 2), 3)),
  # scipy.linalg.eigh gives vectors of these three another sign than R's eigen
  three_sign_a = list(c(0, 0, 0), matrix(c(1, 0.92, 0.7, 0.92, 1, 0.805, 0.7, 0.805, 1), 3)),
  three_sign_b = list(c(0, 0, 0), matrix(c(1, -0.7, 0.9, -0.7, 1, -0.8, 0.9, -0.8, 1), 3)), ar_six = list(rep(0.1, 6), ar(6, 0.7)),
  three_identity = list(c(0, 0, 0), diag(3)), ar_ten = list(1:10, ar(10, -0.4)))
multivariate <- sapply(names(cases), function(k) {
  mu <- cases[[k]][[1]]; Sigma <- cases[[k]][[2]]
  object(case = paste0('"', k, '"'), seed = 609, mu = array(mu), Sigma = matrix_rows(Sigma), draws = matrix_rows(after(609, matrix(mvrnorm(3, mu, Sigma), 3))),
    single = array(after(609, mvrnorm(1, mu, Sigma))))
})
list_of <- function(x) paste0("[\n    ", paste(x, collapse = ",\n    "), "\n  ]")
cat("{\n  ", '"streams": ', list_of(streams), ",\n  ", '"qnorm": ', object(p = array(p), value = array(qnorm(p))), ",\n  ", '"mvrnorm": ', list_of(multivariate), "\n}\n", sep = "")
