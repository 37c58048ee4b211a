// Package docs holds the test that the commands in the documentation work: it runs every
// console block of a page against a server, and compares what is said with what is shown.
package docs
