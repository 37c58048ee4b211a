// Package model drives a catalog, relays, a publisher and watchers through
// random commits and random disasters, and compares where they end with what a naive
// reading of the raw catalog says.
package model
