package httpapi

import (
	"context"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/ez-api/ez-api/httpapi/internal/outbox"
)

// exchange is a request and its response, as far as everybody on the way needs
// to know. It is the response's writer.
type exchange struct {
	*outbox.Answer
	id     string
	route  string
	head   bool
	shared bool // what is written is in memory anyway, and is not held for this answer alone
	broken bool // the answer has begun and has no end
	start  time.Time
}

type exchangeKey struct{}

// newExchange begins an exchange. HEAD is routed as GET, and its answer has no body.
func newExchange(w *outbox.Answer, r *http.Request) (*exchange, *http.Request) {
	x := &exchange{Answer: w, id: requestID(r), route: "other", head: r.Method == http.MethodHead,
		start: time.Now()}
	r = r.WithContext(context.WithValue(r.Context(), exchangeKey{}, x))
	if x.head {
		r.Method = http.MethodGet
	}
	header := w.Header()
	header.Set("X-Request-ID", x.id)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "no-store")
	return x, r
}

// exchangeOf returns the exchange of a request's context.
func exchangeOf(ctx context.Context) *exchange {
	if x, ok := ctx.Value(exchangeKey{}).(*exchange); ok {
		return x
	}
	return &exchange{}
}

const maxRequestID = 128

// requestID returns the request's own id when it is fit to be repeated, or a
// new one.
func requestID(r *http.Request) string {
	id := r.Header.Get("X-Request-ID")
	if id == "" || len(id) > maxRequestID || strings.ContainsFunc(id, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return uuid.Must(uuid.NewV7()).String()
	}
	return id
}

// context returns a context of the exchange alone.
func (x *exchange) context() context.Context {
	return context.WithValue(context.Background(), exchangeKey{}, x)
}

// Write drops what is not to be sent.
func (x *exchange) Write(p []byte) (int, error) {
	if x.head {
		x.WriteHeader(http.StatusOK)
		return len(p), nil
	}
	if x.shared {
		return outbox.Through(x.Answer).Write(p)
	}
	return x.Answer.Write(p)
}

// allowHead adds HEAD where GET is allowed.
func allowHead(h http.Header) {
	methods := strings.Split(h.Get("Allow"), ", ")
	if slices.Contains(methods, http.MethodGet) {
		methods = append(methods, http.MethodHead)
		slices.Sort(methods)
		h.Set("Allow", strings.Join(methods, ", "))
	}
}

func stack() string { return string(debug.Stack()) }
