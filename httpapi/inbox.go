package httpapi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/ez-api/ez-api/httpapi/internal/request"
	"github.com/ez-api/ez-api/logbuf"
)

const (
	maxWindow = 8 << 20 // bytes of history that a zstd stream may ask us to keep
	keepBelow = 1 << 20 // larger buffers are not kept for the next request

	// maxHeld is how many bytes of bodies may be here at once, read and not yet
	// answered. What they are decoded to takes some times as much.
	maxHeld = 4 * logbuf.MaxBody

	// A body that is being sent keeps what it holds for patience after it began, and each
	// byte that arrives buys the time that it takes at slowest, up to patience again. One
	// that has none left gives way when others need the room.
	patience = 5 * time.Second
	slowest  = 64 << 10 // bytes a second

	// parting is how long the rest of a body that is refused may take to come, before its sender is told why.
	parting = time.Second
)

var (
	// errHeld refuses a body for the sake of those that are here already.
	errHeld = fmt.Errorf("%w: too many bodies at once", logbuf.ErrFull)

	// errGaveWay gives a body up that came too slowly.
	errGaveWay = fmt.Errorf("%w: the body came too slowly, and others needed the room", logbuf.ErrFull)
)

// inbox reads bodies, with what earlier requests no longer need. A body's memory is charged as
// it arrives.
type inbox struct {
	buffers sync.Pool // of *bytes.Buffer
	gzips   sync.Pool // of *gzip.Reader
	zstds   sync.Pool // of *zstd.Decoder

	// mu guards what follows, and the fields of each delivery that say so: any request may
	// make another give way.
	mu       sync.Mutex
	held     int64                  // bytes charged to all
	arriving map[*delivery]struct{} // bodies that are not complete
}

// A delivery is one body on its way.
type delivery struct {
	in      *inbox
	buf     *bytes.Buffer
	control *http.ResponseController

	charged int64     // guarded by inbox.mu
	until   time.Time // until when it need not give way; guarded by inbox.mu
	gaveWay bool      // guarded by inbox.mu
}

// begin starts a body. It has to be ended.
func (in *inbox) begin(w http.ResponseWriter) *delivery {
	buf, ok := in.buffers.Get().(*bytes.Buffer)
	if !ok {
		buf = new(bytes.Buffer)
	}
	d := &delivery{in: in, buf: buf, control: http.NewResponseController(w), until: time.Now().Add(patience)}
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.arriving == nil {
		in.arriving = make(map[*delivery]struct{})
	}
	in.arriving[d] = struct{}{}
	return d
}

// end lets go of the body.
func (d *delivery) end() {
	in := d.in
	in.mu.Lock()
	in.held -= d.charged
	d.charged = 0
	delete(in.arriving, d)
	in.mu.Unlock()
	if d.buf.Cap() <= keepBelow {
		d.buf.Reset()
		in.buffers.Put(d.buf)
	}
}

// complete says that all of the body is here. Then it does not give way any more.
func (d *delivery) complete() error {
	d.in.mu.Lock()
	defer d.in.mu.Unlock()
	delete(d.in.arriving, d)
	if d.gaveWay {
		return errGaveWay
	}
	return nil
}

// charge counts bytes that have arrived.
func (d *delivery) charge(n int64) error {
	in := d.in
	in.mu.Lock()
	defer in.mu.Unlock()
	if d.gaveWay {
		return errGaveWay
	}
	now := time.Now()
	d.until = d.until.Add(time.Duration(n) * time.Second / slowest)
	if latest := now.Add(patience); d.until.After(latest) {
		d.until = latest
	}
	in.held += n
	d.charged += n
	return in.fit(0, d, now)
}

// fit makes bodies give way until as many more bytes fit. It needs the lock.
func (in *inbox) fit(more int64, except *delivery, now time.Time) error {
	for in.held+more > maxHeld {
		var slow *delivery
		for d := range in.arriving {
			if d != except && d.charged > 0 && d.until.Before(now) && (slow == nil || d.until.Before(slow.until)) {
				slow = d
			}
		}
		if slow == nil {
			return errHeld
		}
		delete(in.arriving, slow)
		// Its reader wakes up. Where that cannot be done, it keeps what it holds.
		if slow.control.SetReadDeadline(now) == nil {
			slow.gaveWay = true
			in.held -= slow.charged
			slow.charged = 0
		}
	}
	return nil
}

// read reads a whole body, decompressed.
func (d *delivery) read(r *http.Request) error {
	err := d.readBody(r)
	if errors.Is(err, errHeld) { // net/http reads what little is left before it answers, and that may never come
		_ = d.control.SetReadDeadline(time.Now().Add(parting))
	}
	return err
}

func (d *delivery) readBody(r *http.Request) error {
	encoding := strings.ToLower(strings.TrimSpace(r.Header.Get("Content-Encoding")))
	if (encoding == "" || encoding == "identity") && r.ContentLength > logbuf.MaxBody {
		return request.TooLarge(logbuf.MaxBody) // whether or not there is room, or it would be sent for ever
	}
	in := d.in
	in.mu.Lock()
	// No body holds more than MaxBody, whatever it announces: others give way for no more than that.
	err := in.fit(min(max(r.ContentLength, 0), logbuf.MaxBody), d, time.Now())
	in.mu.Unlock()
	if err != nil {
		return err
	}
	switch encoding {
	case "", "identity":
		err = d.readFrom(r.Body)
	case "gzip", "x-gzip":
		err = d.gunzip(r.Body)
	case "zstd":
		err = d.unzstd(r.Body)
	default:
		return fmt.Errorf("the body may be compressed with gzip or zstd alone: %w", request.ErrMediaType)
	}
	if slow := d.complete(); slow != nil {
		return slow
	}
	if errors.Is(err, zstd.ErrWindowSizeExceeded) {
		return fmt.Errorf("a zstd frame must have a window of at most 8 MiB, as RFC 9659 has it: compress with a level "+
			"of 19 or less, and without long distance matching: %w", request.ErrMalformed)
	}
	if err != nil && !errors.Is(err, request.ErrTooLarge) && !errors.Is(err, errHeld) {
		return fmt.Errorf("the body ends too early, or is not what Content-Encoding says: %w", request.ErrMalformed)
	}
	return err
}

func (d *delivery) gunzip(body io.Reader) error {
	z, ok := d.in.gzips.Get().(*gzip.Reader)
	if !ok {
		z = new(gzip.Reader)
	}
	defer d.in.gzips.Put(z)
	if err := z.Reset(body); err != nil {
		return err
	}
	return d.readFrom(z)
}

func (d *delivery) unzstd(body io.Reader) error {
	z, ok := d.in.zstds.Get().(*zstd.Decoder)
	if !ok {
		var err error
		// One at a time: no goroutines, so that one that is not put back needs no Close.
		z, err = zstd.NewReader(nil,
			zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
		if err != nil {
			return err
		}
	}
	defer d.in.zstds.Put(z)
	if err := z.Reset(body); err != nil {
		return err
	}
	err := d.readFrom(z)
	_ = z.Reset(nil) // let go of the body
	return err
}

// readFrom reads all there is, up to what a body may have.
func (d *delivery) readFrom(r io.Reader) error {
	_, err := d.buf.ReadFrom(io.LimitReader(charging{d, r}, logbuf.MaxBody+1))
	if d.buf.Len() > logbuf.MaxBody {
		return request.TooLarge(logbuf.MaxBody)
	}
	return err
}

// charging charges what is read to a delivery.
type charging struct {
	*delivery
	r io.Reader
}

func (c charging) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if n > 0 {
		if err := c.charge(int64(n)); err != nil {
			return n, err
		}
	}
	return n, err
}
