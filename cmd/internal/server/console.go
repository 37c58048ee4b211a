package server

import (
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
	"net/http"
	"strings"

	"github.com/ez-api/ez-api/httpapi"
	"github.com/ez-api/ez-api/httpapi/console"
)

// consolePath is where the pages for people are, and below it.
const consolePath = "/console"

// withConsole returns what serves the API and, where it is on, the console beside it. Its sessions
// are sealed with a key that follows from EZ_DB_KEYS, so that all servers that share those share
// sessions too, and a restart ends none.
func (s *Server) withConsole(api http.Handler, auth httpapi.Auth, people *console.OIDC) (http.Handler, error) {
	if s.config.Console != on {
		return api, nil
	}
	key, err := hkdf.Key(sha256.New, s.config.DBKeys[0].Key[:], nil, "ezapi console", sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("derive the key of the console's sessions: %w", err)
	}
	pages, err := console.New(s.plane, auth, &console.Options{Logger: s.logger, Key: key, OIDC: people})
	if err != nil {
		return nil, err
	}
	return besideAPI{api, http.StripPrefix(consolePath, pages)}, nil
}

// besideAPI sends requests to the console or to the API. A ServeMux before the API would clean paths,
// and answer in its own words.
type besideAPI struct{ api, console http.Handler }

func (h besideAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch rest, ok := strings.CutPrefix(r.URL.Path, consolePath); {
	case ok && rest == "":
		http.Redirect(w, r, consolePath+"/", http.StatusMovedPermanently)
	case ok && rest[0] == '/':
		h.console.ServeHTTP(w, r)
	default:
		h.api.ServeHTTP(w, r)
	}
}
