# How R reads formulas: model.matrix and lme4's random terms on formulas.csv. Writes formulas.csv and formulas.json.
# run: Rscript formulas.R [DIRECTORY]   (made by R 4.2.2, lme4 1.1-31; text sorts as in a UTF-8 locale)
suppressMessages(library(lme4))
arguments <- commandArgs(trailingOnly = TRUE)
directory <- if (length(arguments)) arguments[1] else "."
set.seed(5)
n <- 24
d <- data.frame(y = round(rnorm(n), 3), x = round(rnorm(n), 3), z = round(runif(n, 1, 4), 3), w = round(rexp(n), 3) + .1, k = rep(c(10, 2, 1), n / 3),
  a = rep(c("b", "Ab", "a", "C"), each = n / 4)[sample(n)], b = rep(c("hi", "lo"), n / 2), s = rep(c("u", "v", "w"), each = n / 3),
  flag = rep(c(TRUE, TRUE, FALSE), n / 3)[sample(n)], g = rep(1:4, n / 4), h = rep(c("p", "q"), each = n / 2))
d[["odd name"]] <- round(runif(n), 3)
write.csv(d, file.path(directory, "formulas.csv"), row.names = FALSE, quote = FALSE)
d$s <- factor(d$s) # C and relevel take no text in R
fixed <- c("1", "x", "0 + x", "x - 1", "-1 + x", "x + 0", "+x", "1 + x", "x + 1 - 1", "0 + x + 1", "x + z", "z + x", "x + x", "(x)", "((x)) + (z)", "x:z", "x*z", "z*x",
  "x + z:x", "z:x + x", "x*z + z:x", "x*z*w", "x:z:w + z:w + x", "x:x", "x*x", "x*z - x:z", "x*z - z:x", "x*z*w - x:z:w", "x*z*w - x:z - z", "x - x + z", "x*z - 1",
  "(x + z)*w", "x*(z + w)", "(x + z)*(z + w)", "(x + z)*(x + w)", "(x + z):(x + w)", "(x + z)*(x + z)", "x:(z + w)", "(x + z):w", "(x + z + w)^2", "(x + z + w)^3",
  "(x + z + w)^2 - x:z", "(x + z)^2", "(x + z)**2", "(x + z)^3", "x^2", "x^3:z", "(x*z)^2", "(x + z:w)^2", "(x + z + w)^2*k", "x/z", "x/z/w", "(x + z)/w", "x/(z + w)", "x/z:w",
  "x/z*w", "z %in% x", "x + z %in% x", "(x + z) %in% w", "x %in% z %in% w", "x*z %in% w", "x + (z + w)", "x + (z*w)", "x - (x + z) + w", "x*z*w - (x + z)^2", "(1 + x)*z", "(0 + x)*z",
  "x + -1", "x - 0", "-x + z", "x:(z:w)", "x*(z*w)", "(x:z)^2",
  "a", "0 + a", "b", "0 + b", "a + b", "0 + a + b", "b + a - 1", "a*b", "0 + a*b", "a:b", "0 + a:b", "a + a:b", "b + a:b", "a/b", "0 + a/b", "b/a", "b %in% a", "a*x", "a:x", "0 + a:x",
  "x + a:x", "a + a:x", "0 + a + a:x", "x*b*s", "b*s", "(b + s + x)^2", "0 + (b + s)^2", "b:s", "b:s:x", "b*s - b", "b*s - b:s", "b + s:x", "0 + x + b", "0 + x + b:s", "0 + x:b + s",
  "0 + z + b:x:w + s:b", "b + b:s + x", "s/b", "(b + s)/x", "x/b", "b:x + s:x", "0 + b:x + s:x", "b*s*x - b:s:x", "b*s*x - x",
  "flag", "0 + flag", "flag*x", "flag*b", "flag:x", "0 + flag + b", "a + flag", "I(x > 0)", "I(x > 0) + x", "I(b == 'hi')", "x:I(z > 2)",
  "factor(k)", "0 + factor(k)", "factor(k)*b", "factor(k):x", "as.factor(k) + x", "as.numeric(k)", "k + factor(k):x", "factor(s)", "C(factor(k), contr.sum)", "C(s, contr.sum)", "C(s, sum)",
  "C(s, contr.helmert)", "C(s, contr.poly)", "C(s, contr.SAS)", "C(s, contr.treatment)", "C(s, contr.sum)*b", "0 + C(s, contr.sum)", "C(factor(a), helmert):x + a", "C(s, 'contr.sum')",
  "C(factor(a), contr.poly)", "relevel(s, ref = 'v')", "relevel(factor(k), ref = '2')", "relevel(factor(a), 'b')*x",
  "log(z)", "log(z, 2)", "log2(z)", "log10(z)", "log1p(z)", "exp(x)", "expm1(x)", "sqrt(z)", "abs(x)", "sin(x) + cos(x)", "tan(x)", "log(z)*x", "log(z):b", "log(z):log(z)", "log(z)^2", "I(x^2)",
  "I(x**2)", "x + I(x^2)", "I(x^2):b", "I(x*z)", "I((x + 1)*2 - w/2)", "I(-x^2)", "I(-x)", "I(2^-x)", "I(x + z)", "I(x/z/w)", "I(x/(z/w))", "I(x - z - w)", "I(x - (z - w))", "I(1/z)", "I(2*x)",
  "I(x >= 0 & z < 2)", "I(!flag)", "I(x != 0)", "exp(-z)", "sqrt(abs(x))", "log(x^2 + 1)", "log(x + 5, base = 10)", "I(log(z) - sqrt(w))", "I(x*1e-3)",
  "scale(x)", "scale(x, scale = FALSE)", "scale(x, center = FALSE)", "scale(x, TRUE, FALSE)", "scale(x)*b", "scale(log(z))", "poly(z, 2)", "poly(z, 3)", "poly(z, 1)", "poly(z, degree = 2)",
  "poly(x, 2, raw = TRUE)", "poly(x, 3, raw = TRUE)", "poly(z, 2)*b", "poly(z, 2):x", "poly(z, 2) + poly(x, 2)", "poly(z, 2):poly(x, 2)", "I(poly(z, 2))", "`odd name`", "`odd name`*x",
  "`odd name`:b", "log(`odd name`)", "`x`", "offset(z)", "x + offset(log(z))", "x + offset(z) + offset(w)", "offset(z) + b - 1", "  x  +\n z", "x+z*b", "log( z )+I( x^ 2 )")
random <- c("(1 | g)", "(x | g)", "(1 + x | g)", "(0 + x | g)", "(x - 1 | g)", "(x + 1 | g)", "(x*z | g)", "(x + z || g)", "(1 + x || g)", "(0 + x + z || g)", "(1 | g) + (0 + x | g)",
  "(1 | g/h)", "(x | g/h)", "(1 | g:h)", "(1 | h/g)", "(1 | s/h/g)", "(1 | g) + (1 | h)", "(1 | s) + (x || h) + (1 | g)", "(x || g/h)", "(log(z) | g)", "(I(x^2) | g)", "(0 + b | g)", "(b | g)",
  "(0 + b:x | g)", "(poly(z, 2) | g)", "(scale(x) | g)", "((1 | g) + z)", "(1 | `odd name`)", "((x | g))", "(x*b - b | h)", "(0 + flag | g)", "(factor(k) | h)")
bars <- function(f) lapply(findbars(f), function(bar) {
  groups <- all.vars(bar[[3]])
  list(group = sort(groups), columns = colnames(model.matrix(eval(substitute(~ e, list(e = bar[[2]]))), d)))
})
pool <- new.env(); vectors <- list()
place <- function(v) {
  key <- paste(formatC(v, digits = 17, format = "g"), collapse = ",")
  if (is.null(pool[[key]])) { vectors[[length(vectors) + 1]] <<- key; pool[[key]] <- length(vectors) }
  pool[[key]] - 1
}
quoted <- function(s) if (length(s)) paste0('"', gsub("\n", "\\n", gsub('"', '\\"', gsub("\\", "\\\\", s, fixed = TRUE), fixed = TRUE), fixed = TRUE), '"')
listed <- function(s) paste0("[", paste(s[nzchar(s)], collapse = ", "), "]")
entry <- function(right, d = get("d", globalenv())) {
  f <- as.formula(paste("y ~", right)); bare <- nobars(f)
  mf <- model.frame(bare, d, drop.unused.levels = TRUE); X <- model.matrix(bare, mf); off <- model.offset(mf)
  re <- if (length(findbars(f))) sapply(bars(f), function(b) paste0("{\"group\": ", listed(quoted(b$group)), ", \"columns\": ", listed(quoted(b$columns)), "}")) else character()
  paste0("{\"formula\": ", quoted(paste("y ~", right)), ", \"terms\": ", listed(quoted(attr(terms(bare), "term.labels"))), ", \"assign\": ", listed(attr(X, "assign")),
    ", \"names\": ", listed(quoted(colnames(X))), ", \"columns\": ", listed(apply(X, 2, place)), ", \"offset\": ", if (is.null(off)) "null" else place(off), ", \"random\": ", listed(re), "}")
}
entries <- sapply(c(fixed, paste("x +", random)), function(right) tryCatch(entry(right), error = function(e) stop(right, ": ", conditionMessage(e))))
# rows 2 and 9 without z: what is made of other columns is made of all rows; those of category C are dropped too
missing <- within(d, z[c(2, 9)] <- NA); missing$z[missing$a == "C"] <- NA
dropped <- sapply(c("scale(x) + z", "poly(x, 2) + z", "a + z", "factor(a):x + z", "scale(z)", "scale(log(w))*z", "I(x - mean(x)) + z", "C(s, contr.sum) + z"), entry, d = missing)
writeLines(paste0("{\"vectors\": [\n", paste0("[", unlist(vectors), "]", collapse = ",\n"), "],\n\"formulas\": [\n", paste(entries, collapse = ",\n"),
  "],\n\"missing\": [\n", paste(dropped, collapse = ",\n"), "]}"), file.path(directory, "formulas.json"))
