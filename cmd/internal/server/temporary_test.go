package server

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
)

// Without a place for temporary files a server would start, and fail at exports and large sorts.
func TestTemporaryFiles(t *testing.T) {
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "nowhere"))
	var out bytes.Buffer
	code := Run(t.Context(), nil, embeddedEnv(t), &out, &out)
	if text := out.String(); code != 2 || !strings.Contains(text, "TMPDIR must name a directory") {
		t.Errorf("code %d: %s", code, text)
	}
}
