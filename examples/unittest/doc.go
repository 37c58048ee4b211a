// Package unittest shows how to test what uses EZ-API: the plane of a zero
// Config lives in memory and needs neither a server nor a goroutine.
package unittest
