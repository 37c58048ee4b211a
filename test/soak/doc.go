// Command soak runs a small town of EZ-API for a while, breaks it all the time, and then counts
// whether anything was lost:
//
//	go run ./soak -for 2h            # in the directory test
//	go run -race ./soak -for 30s -seed 7
//
// In the town are three servers, four balancers, a mirror, PostgreSQL, two Redis and an upstream, each
// a process, and every connection between ours and the databases, and from balancers to servers, is a
// link that may be slow, cut, silent, deaf or good for some bytes only. Meanwhile processes are killed
// and frozen, clocks step, and a disk fills up. One server and one balancer are spared: they are never
// ended, so that they show what grows over all the time.
//
// town.go builds it, load.go uses it, chaos.go breaks it, and audit.go counts in the end: every
// acknowledged entry once, every request to the balancer that was spared, every cent, every document
// and what each balancer answers, and goroutines, memory and file handles.
package main
