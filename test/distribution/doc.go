// Package distribution tests, on a real Redis, that what relays publish reaches
// every reader whole, in order, at the same cost however large the catalog is, and is
// repaired where it was damaged. Run it with -long for the full figures.
package distribution
