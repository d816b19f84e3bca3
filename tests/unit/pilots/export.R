# Data frames of R packages as CSV files in the working directory: Rscript export.R nlme::Orthodont lme4::sleepstudy ...
# What is not installed is left out.
for (wanted in commandArgs(TRUE)) {
  part <- strsplit(wanted, "::")[[1]]
  if (!requireNamespace(part[1], quietly = TRUE)) next
  place <- new.env()
  suppressWarnings(data(list = part[2], package = part[1], envir = place))
  found <- if (exists(part[2], envir = place, inherits = FALSE)) get(part[2], envir = place) else getExportedValue(part[1], part[2])
  write.csv(as.data.frame(found), paste0(part[1], "-", part[2], ".csv"), row.names = FALSE)
}
