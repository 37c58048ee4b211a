package console

import (
	"context"
	"io"
	"net/http"
	"sync"

	"github.com/ez-api/ez-api/httpapi"
)

type callerKey struct{}

// withCaller returns a context whose calls of the API are made as by somebody who is signed in.
func withCaller(ctx context.Context, caller httpapi.Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, caller)
}

// signedIn returns an Auth that knows whom the console has authenticated already, and asks another
// about everybody else, and about tokens. A context comes from this process alone, so nobody can claim
// to be in one.
func signedIn(auth httpapi.Auth) httpapi.Auth {
	return httpapi.WithScheme(knownAuth{auth}, httpapi.Scheme{Type: "http", HTTPScheme: "bearer"})
}

type knownAuth struct{ httpapi.Auth }

// Authenticate implements [httpapi.Auth].
func (a knownAuth) Authenticate(r *http.Request) (httpapi.Caller, error) {
	if caller, ok := r.Context().Value(callerKey{}).(httpapi.Caller); ok {
		return caller, nil
	}
	return a.Auth.Authenticate(r)
}

// HoldsToken implements [httpapi.TokenHolder].
func (a knownAuth) HoldsToken(hash string) bool {
	holder, ok := a.Auth.(httpapi.TokenHolder)
	return ok && holder.HoldsToken(hash)
}

// inProcess calls a handler as if it were a server. An answer comes as it is written, so that a long
// one is in memory nowhere.
type inProcess struct{ handler http.Handler }

var _ http.RoundTripper = inProcess{}

// RoundTrip implements [http.RoundTripper].
func (t inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(r.Context())
	in := r.Clone(ctx)
	in.RemoteAddr, in.RequestURI = "console", in.URL.RequestURI()
	if in.Body == nil {
		in.Body = http.NoBody
	}
	reader, writer := io.Pipe()
	w := &pipedAnswer{header: http.Header{}, body: writer, begun: make(chan struct{})}
	go func() {
		defer cancel()
		defer func() {
			if recover() != nil { // httpapi has logged it, and answered where that was possible
				w.WriteHeader(http.StatusInternalServerError)
				_ = writer.CloseWithError(io.ErrUnexpectedEOF)
				return
			}
			w.WriteHeader(http.StatusOK)
			_ = writer.Close()
		}()
		t.handler.ServeHTTP(w, in)
	}()
	select {
	case <-w.begun:
	case <-r.Context().Done(): // that of the caller: the other one ends with the handler, too
		err := r.Context().Err()
		_ = reader.CloseWithError(err)
		cancel()
		return nil, err
	}
	return &http.Response{
		StatusCode: w.status, Status: http.StatusText(w.status), Header: w.sent, ContentLength: -1, Request: r,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Body: answerBody{reader, cancel},
	}, nil
}

// answerBody ends the handler when its reader has had enough.
type answerBody struct {
	*io.PipeReader
	cancel context.CancelFunc
}

// Close implements [io.Closer].
func (b answerBody) Close() error {
	defer b.cancel()
	return b.PipeReader.Close()
}

// pipedAnswer is the writer that the handler writes to.
type pipedAnswer struct {
	header http.Header
	body   *io.PipeWriter

	once   sync.Once
	begun  chan struct{} // closed once status and sent are set
	status int
	sent   http.Header
}

// Header implements [http.ResponseWriter].
func (w *pipedAnswer) Header() http.Header { return w.header }

// WriteHeader implements [http.ResponseWriter].
func (w *pipedAnswer) WriteHeader(status int) {
	w.once.Do(func() {
		w.status, w.sent = status, w.header.Clone()
		close(w.begun)
	})
}

// Write implements [http.ResponseWriter].
func (w *pipedAnswer) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(p)
}
