package logbuf

// What tests from outside need to stand in for the disk.
type (
	FileSystem = fileSystem
	File       = file
)

// OS returns the real file system.
func OS() FileSystem { return osFS{} }

const (
	FrameHeader = frameHeader
	TornZeros   = tornZeros
)

// On returns options that use a file system.
func (o Options) On(fs FileSystem) *Options {
	o.fs = fs
	return &o
}

// DecodeSlowly decodes without the fast path.
func (d *Decoder) DecodeSlowly(body []byte, contentType string) (Decoded, error) {
	s := d.state()
	s.slow = true
	return d.decode(s, body, contentType)
}
