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
	"github.com/ez-api/ez-api/httpapi/internal/room"
	"github.com/ez-api/ez-api/logbuf"
)

const (
	maxWindow = 8 << 20 // bytes of history that a zstd frame may refer to
	keepBelow = 1 << 20 // larger buffers are not kept for the next request

	// maxHeld is how many bytes of bodies may be here at once, read and not yet
	// answered. What they are decoded to takes some times as much.
	maxHeld = 4 * logbuf.MaxBody

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
// it arrives. One that comes too slowly gives way when others need the room.
type inbox struct {
	buffers sync.Pool // of *bytes.Buffer
	gzips   sync.Pool // of *gzip.Reader
	zstd    *zstd.Decoder
	room    *room.Room
}

func newInbox() inbox {
	// Bodies of zstd are decoded when they are whole, so that a window takes no memory of its own while a
	// client is slow. The decoder works at as many at once as there are processors.
	z, err := zstd.NewReader(nil, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderMaxMemory(logbuf.MaxBody),
		zstd.WithDecoderLowmem(true), zstd.WithDecoderConcurrency(0))
	if err != nil {
		panic(err) // the options are constants
	}
	return inbox{zstd: z, room: room.New(maxHeld)}
}

// buffer returns one that is empty.
func (in *inbox) buffer() *bytes.Buffer {
	if buf, ok := in.buffers.Get().(*bytes.Buffer); ok {
		return buf
	}
	return new(bytes.Buffer)
}

// recycle takes a buffer that nobody uses any more.
func (in *inbox) recycle(buf *bytes.Buffer) {
	if buf.Cap() <= keepBelow {
		buf.Reset()
		in.buffers.Put(buf)
	}
}

// A delivery is one body on its way.
type delivery struct {
	in      *inbox
	buf     *bytes.Buffer
	control *http.ResponseController
	share   *room.Share
}

// begin starts a body. It has to be ended.
func (in *inbox) begin(w http.ResponseWriter) *delivery {
	control := http.NewResponseController(w)
	d := &delivery{in: in, buf: in.buffer(), control: control, share: in.room.Enter(control.SetReadDeadline)}
	d.share.Wait()
	return d
}

// end lets go of the body.
func (d *delivery) end() {
	d.share.Leave()
	d.in.recycle(d.buf)
}

// charge counts bytes that have arrived.
func (d *delivery) charge(n int64) error {
	d.share.Moved(n)
	return refusal(d.share.Take(n))
}

// refusal says what a room's error means for a body.
func refusal(err error) error {
	switch {
	case errors.Is(err, room.ErrFull):
		return errHeld
	case errors.Is(err, room.ErrGaveWay):
		return errGaveWay
	}
	return err
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
	// No body holds more than MaxBody, whatever it announces: others give way for no more than that.
	err := refusal(d.share.Fits(min(max(r.ContentLength, 0), logbuf.MaxBody)))
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
	if slow := d.share.Settle(); slow != nil { // from now on it is whole, and does not give way
		return refusal(slow)
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
	if err := d.readFrom(body); err != nil {
		return err
	}
	if err := d.share.Settle(); err != nil { // it waits for its client no more
		return refusal(err)
	}
	packed, text := d.buf, d.in.buffer()
	b, err := d.in.zstd.DecodeAll(packed.Bytes(), text.AvailableBuffer())
	*text = *bytes.NewBuffer(b)
	d.buf = text
	d.share.Give(int64(packed.Len()))
	d.in.recycle(packed)
	if errors.Is(err, zstd.ErrDecoderSizeExceeded) {
		return request.TooLarge(logbuf.MaxBody)
	}
	return errors.Join(err, d.charge(int64(len(b))))
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
