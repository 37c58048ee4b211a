// Package outbox sends answers to clients that may read slowly. An answer is held here, encoded,
// and no longer where it was made; what all answers hold together is bounded.
package outbox

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/ez-api/ez-api/httpapi/internal/room"
)

const (
	// maxHeld is how many bytes of answers may be held at once. Answers of one chunk are not
	// counted, so that small ones are always given.
	maxHeld   = 64 << 20
	chunkSize = 32 << 10

	// stall is how long a client may leave the next chunk unread before its connection is closed.
	stall = 30 * time.Second
)

// ErrCrowded says that an answer is given up, because others hold all the memory that there is.
var ErrCrowded = errors.New("too many large answers are being read")

// Outbox holds answers. It is safe for concurrent use.
type Outbox struct {
	room   *room.Room
	chunks sync.Pool // of *chunk
}

// New returns an empty outbox.
func New() *Outbox { return &Outbox{room: room.New(maxHeld)} }

// An Answer collects what a handler writes, and sends it when the handler has ended, or flushes it.
// Until then it can be dropped, and another answer given. It is for one goroutine.
type Answer struct {
	out  *Outbox
	w    http.ResponseWriter
	must bool // it is never given up for want of room

	status int // 0: none was said yet
	begun  bool
	chunks []*chunk
	share  *room.Share // nil while the answer is small
	err    error       // why it was given up
}

type chunk struct {
	bytes [chunkSize]byte
	used  int
}

var _ http.ResponseWriter = (*Answer)(nil)

// Answer begins the answer to a request. Close has to be called. An answer to a request that may
// have changed something is never given up for want of room.
func (o *Outbox) Answer(w http.ResponseWriter, r *http.Request) *Answer {
	return &Answer{out: o, w: w, must: r.Method != http.MethodGet && r.Method != http.MethodHead}
}

// Header implements [http.ResponseWriter].
func (a *Answer) Header() http.Header { return a.w.Header() }

// Unwrap is for [http.ResponseController].
func (a *Answer) Unwrap() http.ResponseWriter { return a.w }

// Status returns the status of the answer; 0 when there is none yet.
func (a *Answer) Status() int { return a.status }

// Begun reports whether something was sent, so that no other answer can be given.
func (a *Answer) Begun() bool { return a.begun }

// WriteHeader implements [http.ResponseWriter]. The status is sent with what is written.
func (a *Answer) WriteHeader(status int) {
	switch {
	case status < http.StatusOK:
		a.w.WriteHeader(status)
	case a.status == 0:
		a.status = status
	}
}

// Write implements [http.ResponseWriter]. The error is [ErrCrowded] when there is no room, and
// then the answer is given up.
func (a *Answer) Write(p []byte) (written int, err error) {
	a.WriteHeader(http.StatusOK)
	for len(p) > 0 {
		c, err := a.space()
		if err != nil {
			return written, err
		}
		n := copy(c.bytes[c.used:], p)
		c.used += n
		written += n
		p = p[n:]
	}
	return written, nil
}

// space returns a chunk that is not full.
func (a *Answer) space() (*chunk, error) {
	if a.err != nil {
		return nil, a.err
	}
	n := len(a.chunks)
	if n > 0 && a.chunks[n-1].used < chunkSize {
		return a.chunks[n-1], nil
	}
	if n > 0 {
		if err := a.enter().Take(chunkSize); err != nil && !a.must {
			a.drop()
			a.err = ErrCrowded
			return nil, a.err
		}
	}
	c, ok := a.out.chunks.Get().(*chunk)
	if !ok {
		c = new(chunk)
	}
	c.used = 0
	a.chunks = append(a.chunks, c)
	return c, nil
}

func (a *Answer) enter() *room.Share {
	if a.share == nil {
		a.share = a.out.room.Enter(http.NewResponseController(a.w).SetWriteDeadline)
	}
	return a.share
}

// FlushError sends what was written; see [http.ResponseController.Flush].
func (a *Answer) FlushError() error {
	if a.err != nil {
		return a.err
	}
	a.WriteHeader(http.StatusOK)
	return a.sendTimed()
}

// Reset drops what was written, so that another answer can be given, and reports whether it can.
func (a *Answer) Reset() bool {
	if a.begun {
		return false
	}
	a.drop()
	a.status, a.err = 0, nil
	for _, name := range []string{
		"Content-Disposition", "Content-Encoding", "Content-Length", "Content-Type", "Etag",
	} {
		a.w.Header().Del(name)
	}
	return true
}

// End sends what was written, and the end of the answer.
func (a *Answer) End() error {
	switch {
	case a.err != nil:
		return a.err
	case a.begun:
		return a.sendTimed()
	case a.status == 0:
		return nil // net/http answers
	}
	if a.share == nil { // it is small: the time that the server gives every answer is enough
		return a.send(func() error { return nil })
	}
	if h := a.w.Header(); h.Get("Content-Length") == "" {
		h.Set("Content-Length", strconv.Itoa(a.size()))
	}
	return a.sendTimed()
}

func (a *Answer) size() (n int) {
	for _, c := range a.chunks {
		n += c.used
	}
	return n
}

// sendTimed sends what was written to a client that has to go on reading.
func (a *Answer) sendTimed() error {
	share := a.enter()
	share.Wait()
	err := a.send(func() error { return share.Extend(time.Now().Add(stall)) })
	if slow := share.Settle(); slow != nil {
		err = slow
	}
	if err == nil {
		// What net/http still holds goes within the same time. The next answer on the connection has its own.
		if err = http.NewResponseController(a.w).Flush(); errors.Is(err, http.ErrNotSupported) {
			err = nil
		}
		_ = share.Extend(time.Time{})
	}
	if err != nil {
		a.drop()
		a.err = err
	}
	return err
}

// send sends what was written, and calls begin before each part.
func (a *Answer) send(begin func() error) error {
	if !a.begun {
		a.begun = true
		a.w.WriteHeader(a.status)
	}
	for len(a.chunks) > 0 {
		if err := begin(); err != nil {
			return err
		}
		c := a.chunks[0]
		n, err := a.w.Write(c.bytes[:c.used])
		if err != nil {
			return err
		}
		a.chunks = a.chunks[1:]
		a.out.chunks.Put(c)
		if a.share != nil {
			a.share.Moved(int64(n))
			a.share.Give(chunkSize)
		}
	}
	return nil
}

// drop lets go of what was written.
func (a *Answer) drop() {
	for _, c := range a.chunks {
		a.out.chunks.Put(c)
	}
	a.chunks = nil
	if a.share != nil {
		a.share.Leave()
		a.share = nil
	}
}

// Close lets go of everything.
func (a *Answer) Close() { a.drop() }

// Through returns a writer that sends what it is given before it takes more, so that next to nothing
// of it is held.
func Through(w http.ResponseWriter) io.Writer { return through{w} }

type through struct{ w http.ResponseWriter }

// Write implements [io.Writer].
func (t through) Write(p []byte) (written int, err error) {
	for part := range slices.Chunk(p, chunkSize) {
		n, err := t.w.Write(part)
		written += n
		if err == nil {
			err = http.NewResponseController(t.w).Flush()
		}
		if err != nil {
			return written, err
		}
	}
	return written, nil
}
