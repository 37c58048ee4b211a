// Package bench measures the log pipeline against two others, side by side and
// in one run: PostgreSQL's own COPY of the same rows from a file, which is the
// ceiling, and the design that this project replaces, which is kept here for
// that purpose: Gin, GORM, a channel, ten rows a transaction.
//
// Single figures vary much on a shared machine, ratios of one run less. So everything is
// measured in pairs, one right after the other, and what counts is the median
// of the ratios. It needs a PostgreSQL on this machine, and a superuser: the
// server itself reads the file.
package bench
