package server

import (
	"os"
	"strings"
	"testing"
)

// TestDocsListEverySetting keeps the table of docs/settings.md as -help is.
func TestDocsListEverySetting(t *testing.T) {
	text, err := os.ReadFile("../../../docs/settings.md")
	if err != nil {
		t.Fatal(err)
	}
	flags, err := settings(&Config{})
	if err != nil {
		t.Fatal(err)
	}
	var rows strings.Builder
	for _, f := range flags {
		secret, byDefault := "", ""
		if f.Tag.Has("secret") {
			secret = " *"
		}
		if f.Default != "" {
			byDefault = "`" + f.Default + "`"
		}
		row := "| `" + f.Envs[0] + "`" + secret + " | " + byDefault + " | " + strings.TrimSuffix(f.Help, ".") + " |\n"
		rows.WriteString(row)
		if !strings.Contains(string(text), row) {
			t.Errorf("docs/settings.md has no line\n%s", row)
		}
	}
	if t.Failed() {
		t.Logf("the whole table is\n%s", &rows)
	}
}
