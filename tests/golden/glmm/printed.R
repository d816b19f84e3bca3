# summary(glmer(...)) as R prints it. usage: Rscript printed.R FOLDER_OF_THE_DATA   (writes printed_<id>.txt there)
suppressMessages({library(lme4); library(jsonlite)}); options(width = 80)
folder <- commandArgs(TRUE)[1]
tight <- glmerControl(optimizer = "bobyqa", tolPwrss = 1e-12, optCtrl = list(rhoend = 1e-9, maxfun = 100000))
for (id in c("01_crt", "03_trials", "22_pois", "37_poisrs", "13_binnest", "40_bincross")) {
  j <- fromJSON(file.path(folder, paste0(id, ".json"))); d <- read.csv(file.path(folder, paste0(id, ".csv")))
  f <- if (j$family == "binomial") binomial(j$link) else poisson(j$link)
  m <- glmer(as.formula(j$formula), d, family = f, nAGQ = if (id == "01_crt") 7 else 1, control = tight)
  lines <- capture.output(print(summary(m))); lines <- lines[!grepl("^Control:", lines)]
  writeLines(sub("   Data: d$", paste0("   Data: ", id, ".csv"), lines), file.path(folder, paste0("printed_", id, ".txt")))
}
