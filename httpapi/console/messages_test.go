package console

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestMessagesAreThoseOfTheAPI: each message of the catalogue is one that the code can say, is
// recognised as itself, and has the same places for arguments.
func TestMessagesAreThoseOfTheAPI(t *testing.T) {
	var source strings.Builder
	for _, pattern := range []string{"../../catalog/*.go", "../../logbuf/*.go", "../../httpapi/*.go", "../client/*/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			source.Write(text)
		}
	}
	for _, lang := range languages()[1:] {
		data, err := wordFiles.ReadFile("words/messages/" + lang + ".json")
		if err != nil {
			t.Fatal(err)
		}
		var texts map[string]string
		if err := json.Unmarshal(data, &texts); err != nil {
			t.Fatal(err)
		}
		m, err := loadMessages(lang)
		if err != nil {
			t.Fatal(err)
		}
		for format, text := range texts {
			if !strings.Contains(source.String(), format) {
				t.Errorf("nothing says %q", format)
			}
			if a, b := verb.FindAllString(format, -1), verb.FindAllString(text, -1); !slices.Equal(a, b) {
				t.Errorf("%q has the arguments %v, and %v in %s", format, a, b, lang)
			}
			want, said := verb.ReplaceAllString(text, "17"), verb.ReplaceAllString(format, "17")
			if got := m.message(said); got != want {
				t.Errorf("%q is %q, want %q", said, got, want)
			}
		}
		if got := m.message("is new here"); got != "is new here" {
			t.Errorf("a message that is not known: %q", got)
		}
	}
}
