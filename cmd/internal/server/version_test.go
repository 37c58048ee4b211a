package server

import (
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
)

// The image's build names the variable that the OpenAPI document's version comes from. A name that
// is not there would be ignored by the linker.
func TestTheImageHasAVersion(t *testing.T) {
	text, err := os.ReadFile("../../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	set := regexp.MustCompile(`-X (\S+)\.version=\$VERSION`).FindSubmatch(text)
	if set == nil || !strings.HasSuffix(string(set[1]), "/cmd/internal/server") ||
		!strings.Contains(string(text), "\nARG VERSION") {
		t.Errorf("the Dockerfile sets %q", set)
	}
	version = "v9.8.7" // as the linker does
	defer func() { version = "" }()
	s := run(t, "EZ_API_PORT=0", "EZ_DATA_DIR="+t.TempDir())
	defer func() { s.stop(); <-s.code }()
	url := urlText.FindStringSubmatch(s.out.String())[1]
	resp, err := http.Get(url + "/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(body), `"version":"v9.8.7"`) {
		t.Errorf("the document has another version: %.300s, %v", body, err)
	}
}
