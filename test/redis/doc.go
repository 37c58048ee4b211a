// Package redis tests the Redis engine against Redis as it is run: with TLS, as a
// Cluster and behind Sentinels that fail over, with its memory used up, as a replica, and
// with users who have no more rights than they need. The tests start their own processes.
package redis
