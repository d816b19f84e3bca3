# How R prints numbers and tables: rformat.json, the reference of nestlab.fit.rformat.
# run: Rscript rformat.R [DIRECTORY]   (made by R 4.2.2, jsonlite 1.8.4; in a UTF-8 locale)
suppressMessages(library(jsonlite))
arguments <- commandArgs(trailingOnly = TRUE)
directory <- if (length(arguments)) arguments[1] else "."
exact <- function(x) ifelse(is.nan(x), "NaN", ifelse(is.na(x), "NA", sprintf("%.17g", x)))
set.seed(20240607)

vectors <- list(0, 1, 100, 123456, 1234567, 12345678, 1e5, 123456.7, 1e15, 1e-5, 1e-300, 1e300, 9996, 99999, 0.99996, 9.9999e-5,
  c(0.1, 0.25), 0.15, 2.5, c(1, 10, 100), c(1e-3, 1e3), c(1e-10, 1), c(1e10, 1), c(-1, 1), c(-0.5, 12.25), c(0, 0, 0), c(0, 1e-8),
  c(1.5, NA), c(NaN, 2), c(Inf, -Inf, 3.25), c(NA, NA), c(NaN, -Inf), c(-1e-120, 5), c(4.58690571393602e-07, 6.38208012623814e-09, 9.8e-07),
  c(612.09, 35.07, 654.94), c(24.74, 5.922, 25.59), c(1e4, 12345), c(99.995, 0.001), c(999999.5, 1), c(0.00012345, 123.45),
  c(1234.5, 0.1), c(-2.5e-7, 2.5e7), 1 / 3, c(1 / 3, 2e5 / 3), 5e-324, c(1e5, 1e-5), 100000, 1e5 + 0.1, 3e5, c(NA, 1e5), c(999.9739, 0.1574), c(999.974, 7), 9.9997,
  c(-99.9951, 12.5), 99.94999, c(-0, 1.25))
for (k in 1:150) vectors[[length(vectors) + 1]] <- signif(rnorm(sample(1:6, 1)), sample(c(1, 2, 3, 6, 15), 1)) * 10^sample(-9:9, 1) * 10^(sample(0:1, 1) * round(rnorm(1, 0, 3)))
format_cases <- list()
for (x in vectors) {
  digits <- sample(1:9, 2); nsmall <- sample(0:3, 1)
  for (d in unique(c(4, 7, digits))) format_cases[[length(format_cases) + 1]] <-
    list(values = I(exact(x)), digits = d, nsmall = nsmall, text = I(format(x, digits = d, nsmall = nsmall)))
}

ties <- c(0.15, 0.25, 0.35, 0.45, 0.65, 2.5, 3.5, -2.5, 0.5, 1.005, 2.675, 1234.5, 0.285, 5.015, 1e15 + 0.5, 0.1 + 0.2, 1e-20, 123456789.125, 55.55, 5.055, 0, -0.0001)
round_cases <- list()
for (x in c(ties, rnorm(40) * 10^sample(-4:4, 40, TRUE), round(rnorm(40), 3) + 0.0005))
  for (d in c(-1, 0, 1, 2, 3, 6)) round_cases[[length(round_cases) + 1]] <- list(value = exact(x), digits = d, result = exact(round(x, d)))

zap_cases <- lapply(c(list(c(0, 0), c(1e-20, 1), c(-3.77, 0.0068, 3.3), c(1e5, 1e-3, 17.123456)), lapply(1:60, function(k) rnorm(5) * 10^sample(-6:3, 5, TRUE))),
  function(x) list(values = exact(x), digits = 5, result = exact(zapsmall(x, 5))))

p_values <- c(list(0.05, 1, 0, 1e-17, c(0, 1e-20), c(0.5, 0), c(0.04, 1e-5, 0), c(0.0412, 3.2e-4, 0.00012, 0.000096), c(1e-4, 9.99e-5), 2.3e-16, 2.2e-16,
  c(0.001234, 0.9), c(1e-10, 1e-300)), lapply(1:60, function(k) 10^-runif(sample(1:5, 1), 0, sample(c(2, 5, 18), 1))))
p_cases <- list()
for (p in p_values) for (d in c(1, 3, 4)) p_cases[[length(p_cases) + 1]] <- list(values = I(exact(p)), digits = d, text = I(format.pval(p, digits = d)))

p_stars <- c(0, 0.0005, 0.001, 0.0010001, 0.01, 0.02, 0.05, 0.0500001, 0.1, 0.10001, 0.7, 1)
star_cases <- list(values = exact(p_stars), text = as.character(symnum(p_stars, corr = FALSE, na = FALSE, cutpoints = c(0, 0.001, 0.01, 0.05, 0.1, 1),
  symbols = c("***", "**", "*", ".", " "))))

names <- list("(Intercept)", c("(Intercept)", "x", "z", "x:z"), c("treatment", "treatments", "treated"), c("I(x ** 2)", "log(x + 5)", "c[b]:x", "c[c]:x"),
  c("socioeconomic_status", "socioeconomic_score"), c("aaaaaaaaaaaa", "aaaaaaaaaaaaa"), c("ABCDEFGHIJ", "ABCDEFGHIK"), c("two words here", "two words there"),
  c("Sepal.Length", "Sepal.Width", "Petal.Length"), c("x1", "x1"), c("school_mean_income:pupil_income", "school_mean_income"), " leading", "np.log(weight)",
  c("condition[control]", "condition[treated]", "condition[waiting list]"), "UPPERlowerMixed123", "eeeeeeeeeeeee", c("abcdefg", "abcdefgh", "abcdefghi"))
abbreviate_cases <- list()
for (x in names) for (m in c(1, 4, 6, 8, 11)) abbreviate_cases[[length(abbreviate_cases) + 1]] <-
  list(names = I(x), minlength = m, text = I(unname(abbreviate(x, m))))

words <- function(n) vapply(seq_len(n), function(k) paste(sample(letters, sample(1:12, 1), TRUE), collapse = ""), "")
matrix_cases <- list()
for (k in 1:20) {
  n <- sample(1:5, 1); m <- sample(c(1:4, 8, 14), 1)
  rows <- if (k %% 3) words(n) else rep("", n)
  columns <- words(m); if (k %% 4 == 0) columns[m] <- ""
  cells <- matrix(words(n * m), n); cells[sample(n * m, n * m %/% 3)] <- ""
  table <- matrix(cells, n, dimnames = list(rows, columns))
  for (right in c(FALSE, TRUE)) matrix_cases[[length(matrix_cases) + 1]] <- list(rows = I(rows), columns = I(columns), cells = table |> unname(),
    right = right, lines = I(capture.output(print(table, quote = FALSE, right = right))))
}
named_cases <- lapply(c(2, 5, 7, 12, 30), function(n) {
  x <- setNames(words(n), words(n))
  list(names = names(x), cells = unname(x), lines = I(capture.output(print(x, quote = FALSE))))
})
cat_cases <- lapply(1:15, function(k) {
  pieces <- words(sample(1:25, 1)); separator <- if (k %% 2) " " else ""
  list(pieces = I(pieces), separator = separator, lines = I(capture.output(do.call(cat, c(as.list(pieces), sep = separator, fill = TRUE)))))
})

write_json(list(format = format_cases, round = round_cases, zapsmall = zap_cases, format_pval = p_cases, stars = star_cases, abbreviate = abbreviate_cases,
  matrix = matrix_cases, named = named_cases, cat_fill = cat_cases), file.path(directory, "rformat.json"), auto_unbox = TRUE)
