package snapshot

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
)

// frameEncoder writes values as lines of JSON, each with the CRC-32C of its
// text, the line feed included, before it: eight hexadecimal digits and a space.
type frameEncoder struct {
	out  io.Writer
	text bytes.Buffer
	json *json.Encoder
	sums *crc32.Table
}

func newFrameEncoder(w io.Writer) *frameEncoder {
	e := &frameEncoder{out: w, sums: crc32.MakeTable(crc32.Castagnoli)}
	e.json = newLineEncoder(&e.text)
	return e
}

func (e *frameEncoder) Encode(v any) error {
	e.text.Reset()
	if err := e.json.Encode(v); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(e.out, "%08x ", crc32.Checksum(e.text.Bytes(), e.sums)); err != nil {
		return err
	}
	_, err := e.out.Write(e.text.Bytes())
	return err
}

// newFrames reads what a frameEncoder writes.
func newFrames(r io.Reader) *lines {
	in, sums := newLines(r), crc32.MakeTable(crc32.Castagnoli)
	in.unframe = func(line []byte) (text []byte, ok bool) {
		if len(line) < 9 {
			return nil, false
		}
		want := fmt.Appendf(nil, "%08x ", crc32.Checksum(line[9:], sums))
		return line[9:], bytes.Equal(line[:9], want)
	}
	return in
}
