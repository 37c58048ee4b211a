package engine

import (
	"bytes"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
)

const (
	atOnce  = 8        // queries
	maxBody = 64 << 20 // bytes of a request
)

// Options are the settings of an [Engine].
type Options struct {
	Library  string // the path of libchdb.so
	Dir      string // where the data is
	User     string // who may ask
	Password string
}

// An Engine answers ClickHouse's HTTP interface: POST / with the statement in the parameter query,
// before or instead of what the body holds, its settings in further parameters, and
// X-ClickHouse-User and X-ClickHouse-Key. It is safe for concurrent use.
type Engine struct {
	options Options
	library *library
	first   *session // as long as it is open, so is the data
	slots   chan struct{}
}

// Open loads the library and opens the data. A process can do that once.
func Open(o Options) (*Engine, error) {
	l, err := load(o.Library)
	if err != nil {
		return nil, err
	}
	first, err := l.open(o.Dir)
	if err != nil {
		return nil, err
	}
	return &Engine{options: o, library: l, first: first, slots: make(chan struct{}, atOnce)}, nil
}

// Close closes the data in good order.
func (e *Engine) Close() {
	for range atOnce { // nothing is under way any more
		e.slots <- struct{}{}
	}
	e.first.close()
}

// ServeHTTP answers one query.
func (e *Engine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		refuse(w, &exception{62, "SYNTAX_ERROR", "the request cannot be read"})
		return
	}
	if !e.knows(r.Header) {
		refuse(w, &exception{516, "AUTHENTICATION_FAILED", r.Header.Get("X-ClickHouse-User") +
			": Authentication failed: password is incorrect, or there is no user with such name"})
		return
	}
	answer, err := e.run(r.Context(), r, data)
	if err != nil {
		refuse(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = w.Write(answer)
}

func (e *Engine) knows(h http.Header) bool {
	user, key := h.Get("X-ClickHouse-User"), h.Get("X-ClickHouse-Key")
	return user == e.options.User && subtle.ConstantTimeCompare([]byte(key), []byte(e.options.Password)) == 1
}

// run runs the statement of a request in a session of its own, so that no setting outlives it.
func (e *Engine) run(ctx context.Context, r *http.Request, data []byte) ([]byte, error) {
	select {
	case e.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-e.slots }()
	s, err := e.library.open(e.options.Dir)
	if err != nil {
		return nil, err
	}
	defer s.close()
	var statement bytes.Buffer
	format := "TabSeparated"
	for name, values := range r.URL.Query() {
		switch value := values[0]; name {
		case "query":
			statement.WriteString(value + "\n")
		case "database":
			use := "USE `" + strings.ReplaceAll(value, "`", "\\`") + "`"
			if _, err := s.run([]byte(use), format); err != nil {
				return nil, err
			}
		case "default_format":
			format = value
		case "wait_end_of_query", "session_id", "query_id":
		default:
			if !word.MatchString(name) {
				return nil, &exception{115, "UNKNOWN_SETTING", "Unknown setting '" + name + "'"}
			}
			if _, err := s.run([]byte("SET "+name+" = '"+quoter.Replace(value)+"'"), format); err != nil {
				return nil, err
			}
		}
	}
	if insert := inline.FindSubmatchIndex(statement.Bytes()); insert != nil {
		// In the statement itself the engine would end the data at what looks like the end of a
		// statement.
		file, err := os.CreateTemp("", "ez-insert")
		if err != nil {
			return nil, err
		}
		defer os.Remove(file.Name())
		_, err = file.Write(data)
		if err := errors.Join(err, file.Close()); err != nil {
			return nil, err
		}
		head, tail := statement.String()[:insert[2]], statement.String()[insert[2]:]
		return s.run([]byte(head+"FROM INFILE '"+file.Name()+"' "+tail), format)
	}
	statement.Write(data)
	return s.run(statement.Bytes(), format)
}

var (
	word   = regexp.MustCompile(`^[a-z0-9_]+$`)
	inline = regexp.MustCompile(`^INSERT INTO [^()]+\([^()]*\) (FORMAT \w+\s*)$`)
	code   = regexp.MustCompile(`^Code: ([0-9]+)\.`)
	quoter = strings.NewReplacer(`\`, `\\`, `'`, `\'`)
)

// An exception is an error that this package makes, in the engine's form.
type exception struct {
	code       int
	name, text string
}

func (e *exception) Error() string {
	return fmt.Sprintf("Code: %d. DB::Exception: %s. (%s)", e.code, e.text, e.name)
}

// refuse answers with an error of the engine, in its form.
func refuse(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	if found := code.FindStringSubmatch(err.Error()); found != nil {
		w.Header().Set("X-ClickHouse-Exception-Code", found[1])
		switch found[1] {
		case "60", "81":
			status = http.StatusNotFound
		case "62":
			status = http.StatusBadRequest
		case "516":
			status = http.StatusForbidden
		}
	}
	if errors.Is(err, context.Canceled) {
		return
	}
	http.Error(w, err.Error(), status)
}
