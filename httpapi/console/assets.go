package console

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"

	"github.com/ez-api/ez-api/httpapi/internal/outbox"
)

//go:embed static
var staticFiles embed.FS

// asset is a file that browsers keep for ever, because its name has the hash of its content.
type asset struct {
	kind          string
	plain, zipped []byte
}

// assets are the files, by the names under which they are served.
type assets struct {
	byName map[string]asset
	names  map[string]string // by the names of the files
}

func loadAssets() (a assets, err error) {
	a = assets{map[string]asset{}, map[string]string{}}
	err = fs.WalkDir(staticFiles, "static", func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		plain, err := staticFiles.ReadFile(file)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(plain)
		name, ending := path.Base(file), path.Ext(file)
		hashed := fmt.Sprintf("%s.%s%s", strings.TrimSuffix(name, ending), hex.EncodeToString(sum[:6]), ending)
		a.names[name] = hashed
		a.byName[hashed] = asset{mime.TypeByExtension(ending), plain, zip(plain)}
		return nil
	})
	return a, err
}

// name returns the address of a file.
func (a assets) name(file string) string { return "static/" + a.names[file] }

func (a assets) serve(w http.ResponseWriter, r *http.Request) {
	file, ok := a.byName[r.PathValue("name")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", file.kind)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("Vary", "Accept-Encoding")
	data := file.plain
	if takesGzip(r) {
		h.Set("Content-Encoding", "gzip")
		data = file.zipped
	}
	h.Set("Content-Length", strconv.Itoa(len(data)))
	_, _ = outbox.Through(w).Write(data) // who does not read it has gone
}

func takesGzip(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept-Encoding"), "gzip")
}

func zip(plain []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(plain) // a buffer takes everything
	_ = z.Close()
	return b.Bytes()
}
