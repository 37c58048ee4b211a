// Package upstream is a stand-in for an AI provider: it speaks as much of the
// OpenAI chat API as a gateway needs, and fails when told to.
package upstream

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Drop, among the answers of a script, closes the connection without one.
const Drop = -1

// A Request is what the upstream was asked.
type Request struct {
	Path          string `json:"path"`
	Authorization string `json:"authorization"`
	Model         string `json:"model"`
	Stream        bool   `json:"stream"`
	Status        int    `json:"status"` // as answered
}

// Server is the mock provider, an [http.Handler]. Besides POST
// /v1/chat/completions it serves POST /script, a JSON array of statuses that the next
// requests get, and GET /requests, what it was asked so far. It is safe for concurrent use.
type Server struct {
	key   string
	pause time.Duration
	mux   http.ServeMux

	mu       sync.Mutex
	script   []int
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
// the chunks of a stream.
func New(key string, pause time.Duration) *Server {
	s := &Server{key: key, pause: pause}
	s.mux.HandleFunc("POST /v1/chat/completions", s.chat)
	s.mux.HandleFunc("POST /script", s.setScript)
	s.mux.HandleFunc("GET /requests", s.listRequests)
	return s
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Script sets what the next chat requests are answered with: a status of 400
// or more, or [Drop]. When it is used up, requests succeed again.
func (s *Server) Script(statuses ...int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script = statuses
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

func (s *Server) listRequests(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(s.Requests())
}

// next takes the next answer of the script and records the request.
func (s *Server) next(r Request) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.Status = http.StatusOK
	if len(s.script) > 0 {
		r.Status, s.script = s.script[0], s.script[1:]
	} else if r.Authorization != "Bearer "+s.key {
		r.Status = http.StatusUnauthorized
	}
	s.requests = append(s.requests, r)
	return r.Status
}

func (s *Server) chat(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Model         string `json:"model"`
		Stream        bool   `json:"stream"`
		StreamOptions struct {
			IncludeUsage bool `json:"include_usage"`
		} `json:"stream_options"`
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil || strings.TrimSpace(body.Model) == "" {
		fail(w, http.StatusBadRequest)
		return
	}
	status := s.next(Request{
		Path: r.URL.Path, Authorization: r.Header.Get("Authorization"), Model: body.Model, Stream: body.Stream,
	})
	switch {
	case status == Drop:
		panic(http.ErrAbortHandler)
	case status != http.StatusOK:
		fail(w, status)
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
