// Package upstream is a stand-in for an AI provider: it speaks as much of the
// OpenAI API as a gateway needs, and fails when told to.
package upstream

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Among the answers of a script, Drop closes the connection without one, and Hang gives none until the
// client goes away.
const (
	Drop = -1
	Hang = -2
)

// A Request is what the upstream was asked.
type Request struct {
	Path          string `json:"path"`
	Authorization string `json:"authorization"`
	Model         string `json:"model"`
	Stream        bool   `json:"stream"`
	Status        int    `json:"status"` // as answered
}

// Server is the mock provider, an [http.Handler]. Besides POST /v1/chat/completions and GET /v1/models it
// serves POST /script, a JSON array of what the next requests get, POST /always, what all get that
// find no script (200: success), and GET /requests, what it was asked so far. A chat of less than no
// tokens is refused as the client's fault. It is safe for concurrent use.
type Server struct {
	key   string
	pause time.Duration
	mux   http.ServeMux

	mu       sync.Mutex
	script   []int
	always   int
	requests []Request
}

// What every successful answer holds.
var (
	words = []string{"All", " is", " well."}
	usage = map[string]any{
		"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15,
		"prompt_tokens_details": map[string]any{"cached_tokens": 4},
	}
)

// New returns a provider that accepts one API key, and lets pause pass between
// the chunks of a stream, and before it fails as it was told to.
func New(key string, pause time.Duration) *Server {
	s := &Server{key: key, pause: pause, always: http.StatusOK}
	s.mux.HandleFunc("POST /v1/chat/completions", s.chat)
	s.mux.HandleFunc("GET /v1/models", s.models)
	s.mux.HandleFunc("POST /script", s.setScript)
	s.mux.HandleFunc("POST /always", s.setAlways)
	s.mux.HandleFunc("GET /requests", s.listRequests)
	return s
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Script sets what the next requests are answered with: a status of 400
// or more, [Drop] or [Hang]. When it is used up, requests succeed again.
func (s *Server) Script(statuses ...int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script = statuses
}

// Always sets what all requests are answered with, as [Server.Script] does; 200 is success again.
func (s *Server) Always(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.always = status
}

// Requests returns what was asked so far.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request{}, s.requests...)
}

func (s *Server) setScript(w http.ResponseWriter, r *http.Request) {
	var statuses []int
	if err := json.NewDecoder(r.Body).Decode(&statuses); err != nil {
		http.Error(w, "a JSON array of statuses is expected", http.StatusBadRequest)
		return
	}
	s.Script(statuses...)
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) setAlways(w http.ResponseWriter, r *http.Request) {
	var status int
	if err := json.NewDecoder(r.Body).Decode(&status); err != nil {
		http.Error(w, "a status is expected", http.StatusBadRequest)
		return
	}
	s.Always(status)
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) listRequests(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(s.Requests())
}

// next takes the next answer of the script and records the request.
func (s *Server) next(r Request) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case len(s.script) > 0:
		r.Status, s.script = s.script[0], s.script[1:]
	case s.always != http.StatusOK:
		r.Status = s.always
	case r.Authorization != "Bearer "+s.key:
		r.Status = http.StatusUnauthorized
	case r.Status == 0:
		r.Status = http.StatusOK
	}
	s.requests = append(s.requests, r)
	return r.Status
}

func (s *Server) chat(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Model         string `json:"model"`
		Stream        bool   `json:"stream"`
		MaxTokens     int    `json:"max_tokens"`
		StreamOptions struct {
			IncludeUsage bool `json:"include_usage"`
		} `json:"stream_options"`
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil || strings.TrimSpace(body.Model) == "" {
		fail(w, http.StatusBadRequest)
		return
	}
	asked := Request{
		Path: r.URL.Path, Authorization: r.Header.Get("Authorization"), Model: body.Model, Stream: body.Stream,
	}
	if body.MaxTokens < 0 {
		asked.Status = http.StatusBadRequest
	}
	switch {
	case !s.serves(w, r, asked):
	case body.Stream:
		s.stream(w, body.Model, body.StreamOptions.IncludeUsage)
	default:
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(answer(body.Model, "chat.completion", map[string]any{
			"choices": []any{map[string]any{
				"index": 0, "finish_reason": "stop",
				"message": map[string]any{"role": "assistant", "content": strings.Join(words, "")},
			}},
			"usage": usage,
		}))
	}
}

// serves records a request, and reports whether it is to be served; if not, it has been answered.
func (s *Server) serves(w http.ResponseWriter, r *http.Request, asked Request) bool {
	status := s.next(asked)
	if status == http.StatusOK {
		return true
	}
	time.Sleep(s.pause)
	switch status {
	case Hang:
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	case Drop:
		panic(http.ErrAbortHandler)
	}
	fail(w, status)
	return false
}

// models lists one model.
func (s *Server) models(w http.ResponseWriter, r *http.Request) {
	if s.serves(w, r, Request{Path: r.URL.Path, Authorization: r.Header.Get("Authorization")}) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"object": "list", "data": []any{
			map[string]any{"id": "large", "object": "model"},
		}})
	}
}

func (s *Server) stream(w http.ResponseWriter, model string, withUsage bool) {
	w.Header().Set("Content-Type", "text/event-stream")
	send := func(chunk map[string]any) {
		text, _ := json.Marshal(answer(model, "chat.completion.chunk", chunk)) // plain maps always marshal
		fmt.Fprintf(w, "data: %s\n\n", text)
		_ = http.NewResponseController(w).Flush()
	}
	for i, word := range words {
		if i > 0 {
			time.Sleep(s.pause)
		}
		send(map[string]any{"choices": []any{map[string]any{"index": 0, "delta": map[string]any{"content": word}}}})
	}
	send(map[string]any{"choices": []any{map[string]any{"index": 0, "delta": map[string]any{}, "finish_reason": "stop"}}})
	if withUsage {
		send(map[string]any{"choices": []any{}, "usage": usage})
	}
	fmt.Fprint(w, "data: [DONE]\n\n")
}

func answer(model, object string, fields map[string]any) map[string]any {
	fields["id"], fields["object"], fields["created"], fields["model"] = "chatcmpl-mock", object, time.Now().Unix(), model
	return fields
}

func fail(w http.ResponseWriter, status int) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{
		"error": map[string]any{"message": "as the script says", "type": http.StatusText(status)},
	})
}
