package server

import (
	"bytes"
	"os"
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

// In the image both are one directory. What is said of one that is not to be used is about
// EZ_DATA_DIR, and one that is not there yet is made.
func TestTemporaryFilesInTheDataDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", file)
	var out bytes.Buffer
	code := Run(t.Context(), nil, append(embeddedEnv(t), "EZ_DATA_DIR="+file), &out, &out)
	if text := out.String(); code != 2 || !strings.Contains(text, "EZ_DATA_DIR must") || strings.Contains(text, "TMPDIR") {
		t.Errorf("code %d: %s", code, text)
	}

	dir := filepath.Join(t.TempDir(), "new")
	t.Setenv("TMPDIR", dir)
	s := &Server{config: &Config{DataDir: dir}}
	if err := s.prepare(); err != nil {
		t.Fatal(err)
	}
	if err := s.dir.Close(); err != nil {
		t.Error(err)
	}
}
