//go:build race

package distribution

// raceEnabled: everything takes several times as long.
const raceEnabled = true
