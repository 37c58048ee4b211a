package main

import (
	"flag"
	"os"
	"testing"
	"time"

	"github.com/ez-api/ez-api/test/process"
)

var length = flag.Duration("for", 30*time.Second, "how long the town is broken")

func TestMain(m *testing.M) { os.Exit(process.Main(m, programs("../..")...)) }

func TestSoak(t *testing.T) { soak(t, options{time: *length, seed: uint64(time.Now().UnixNano())}) }
