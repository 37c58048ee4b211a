// Package engine runs ClickHouse inside this process: the library libchdb.so, which is the real
// engine, behind as much of ClickHouse's HTTP interface as a driver needs. A library that was
// loaded cannot be unloaded, and what it does wrong takes the process along, so it belongs in a
// process of its own: see command clickhouse.
package engine

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"github.com/ebitengine/purego"
)

// library holds the functions of libchdb.so, see its chdb.h. No handle may be used by two threads
// at once.
type library struct {
	connect      func(argc int, argv []*byte) unsafe.Pointer
	closeConn    func(conn unsafe.Pointer)
	query        func(conn unsafe.Pointer, text *byte, size uint, format *byte, formatSize uint) unsafe.Pointer
	destroy      func(result unsafe.Pointer)
	buffer       func(result unsafe.Pointer) *byte
	length       func(result unsafe.Pointer) uint
	errorOf      func(result unsafe.Pointer) string
	keepHandlers func(enabled bool)
}

// load opens libchdb.so.
func load(path string) (*library, error) {
	handle, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_GLOBAL)
	if err != nil {
		return nil, err
	}
	l := &library{}
	for name, function := range map[string]any{
		"chdb_connect": &l.connect, "chdb_close_conn": &l.closeConn, "chdb_query_n": &l.query,
		"chdb_destroy_query_result": &l.destroy, "chdb_result_buffer": &l.buffer,
		"chdb_result_length": &l.length,
		"chdb_result_error":  &l.errorOf, "chdb_set_signal_handlers_enabled": &l.keepHandlers,
	} {
		if _, err := purego.Dlsym(handle, name); err != nil {
			return nil, fmt.Errorf("%s lacks %s: %w", path, name, err)
		}
		purego.RegisterLibFunc(function, handle, name)
	}
	l.keepHandlers(false) // signals belong to Go
	return l, nil
}

// session is a connection of the engine: one query at a time.
type session struct {
	library *library
	conn    unsafe.Pointer // chdb_connection *
}

// open opens the data in a directory. All sessions of a process have the same.
func (l *library) open(dir string) (*session, error) {
	args := []string{"clickhouse", "--path=" + dir}
	argv := make([]*byte, len(args))
	for i, a := range args {
		argv[i] = &append([]byte(a), 0)[0]
	}
	conn := l.connect(len(argv), argv)
	runtime.KeepAlive(argv)
	if conn == nil {
		return nil, errors.New("the engine does not open " + dir)
	}
	return &session{l, conn}, nil
}

func (s *session) close() { s.library.closeConn(s.conn) }

// run runs a statement, with its data behind it, and returns the answer in a format. The error is the
// engine's text.
func (s *session) run(statement []byte, format string) ([]byte, error) {
	if len(statement) == 0 {
		return nil, &exception{62, "SYNTAX_ERROR", "Empty query"}
	}
	name := []byte(format)
	result := s.library.query(
		*(*unsafe.Pointer)(s.conn),
		&statement[0],
		uint(len(statement)),
		&name[0],
		uint(len(name)),
	)
	runtime.KeepAlive(statement)
	runtime.KeepAlive(name)
	if result == nil {
		return nil, nil
	}
	defer s.library.destroy(result)
	if text := s.library.errorOf(result); text != "" {
		return nil, errors.New(text)
	}
	data := s.library.buffer(result)
	if data == nil {
		return nil, nil
	}
	return append([]byte{}, unsafe.Slice(data, s.library.length(result))...), nil
}
