// Command soak runs a small town of EZ-API for a while, breaks it all the time, and then counts
// whether anything was lost:
//
//	go run ./soak -for 2h            # in the directory test
//	go run -race ./soak -for 30s -seed 7
//
// In the town are two servers, three balancers, a mirror, PostgreSQL, two Redis and an upstream, each
// a process, and every connection between them is a link that may be slow, cut, silent, deaf or good
// for some bytes only. Meanwhile processes are killed and frozen, clocks step, and a disk fills up.
// town.go builds it, load.go uses it, chaos.go breaks it, and audit.go counts in the end: every
// acknowledged entry once, every cent, every document and what each balancer answers, and goroutines,
// memory and file handles.
package main
