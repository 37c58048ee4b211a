package httpapi

import (
	"bytes"
	"io"
	"net/http/httptest"
	"runtime"
	"sync"
	"testing"
)

// stall is a reader that is empty once it is told to go on.
type stall struct {
	reached func()
	goOn    <-chan struct{}
}

func (s stall) Read([]byte) (int, error) {
	s.reached()
	<-s.goOn
	return 0, io.EOF
}

// A body of zstd takes no memory for the window that it announces: however many come and stall after one
// byte, what they take is bounded, now and afterwards.
func TestStalledWindowsTakeNoMemory(t *testing.T) {
	const bodies, most = 40, 32 << 20
	first := []byte{
		0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x68, // a frame with a window of 8 MiB
		0x08, 0x00, 0x00, '[', // a block of one byte, as it is
	}
	last := []byte{0x19, 0x00, 0x00, '{', '}', ']'} // the last block
	in := newInbox()
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc) //nolint:gosec // far below
	}
	before := heap()
	goOn := make(chan struct{})
	var all, reached sync.WaitGroup
	reached.Add(bodies)
	for range bodies {
		all.Go(func() {
			d := in.begin(httptest.NewRecorder())
			defer d.end()
			body := io.MultiReader(bytes.NewReader(first), stall{sync.OnceFunc(reached.Done), goOn}, bytes.NewReader(last))
			r := httptest.NewRequest("POST", "/logs", body)
			r.Header.Set("Content-Encoding", "zstd")
			if err := d.read(r); err != nil || d.buf.String() != "[{}]" {
				t.Errorf("%v, read %q", err, d.buf.String())
			}
		})
	}
	reached.Wait()
	if got := heap() - before; got > most {
		t.Errorf("%d stalled bodies of one byte take %d MiB", bodies, got>>20)
	}
	close(goOn)
	all.Wait()
	if got := heap() - before; got > most {
		t.Errorf("%d bodies leave %d MiB behind", bodies, got>>20)
	}
}
