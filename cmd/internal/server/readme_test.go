package server

import (
	"os"
	"strings"
	"testing"
)

// TestReadmeListsEverySetting keeps the README's table as -help is.
func TestReadmeListsEverySetting(t *testing.T) {
	text, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	flags, err := settings(&Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range flags {
		secret, byDefault := "", ""
		if f.Tag.Has("secret") {
			secret = " *"
		}
		if f.Default != "" {
			byDefault = "`" + f.Default + "`"
		}
		row := "| `" + f.Envs[0] + "`" + secret + " | " + byDefault + " | " + strings.TrimSuffix(f.Help, ".") + " |\n"
		if !strings.Contains(string(text), row) {
			t.Errorf("the README has no line\n%s", row)
		}
	}
}
