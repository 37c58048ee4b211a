package pgstore

import (
	"context"
	"fmt"
	"time"

	"github.com/ez-api/ez-api/logbuf"
)

// Times counts the times at which a query would look for entries.
func (s *Sink) Times(ctx context.Context, keyID int64, requestID string, since, until time.Time) (int, error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Release()
	list := timeList{most: keptTimes}
	err = readTimes(ctx, conn.Conn(), keyID, requestID, span{since, until}, &list)
	return len(list.times), err
}

// Look reads a page of the logs. It returns how many entries were looked up one by one, and whether
// others were passed over; isDense chooses between the two, unless it is nil.
func (s *Sink) Look(ctx context.Context, q logbuf.LogQuery, dense func(int, int64) bool) (looked int, passed bool,
	err error) {
	r, err := q.Resolve(s.clock())
	if err != nil {
		return 0, false, err
	}
	l := newLogSearch(&q, &r)
	if dense != nil {
		l.isDense = dense
	}
	_, err = s.search(ctx, l)
	return l.looked, l.passed, err
}

// Page reads a page of the logs one by one, of whose times in a window so many are kept, or by
// passing over others where that may be better. It returns how many times were held at once.
func (s *Sink) Page(ctx context.Context, q logbuf.LogQuery, kept int, mayPass bool) (page logbuf.LogPage,
	held int, err error) {
	r, err := q.Resolve(s.clock())
	if err != nil {
		return page, 0, err
	}
	l := newLogSearch(&q, &r)
	l.kept = kept
	if !mayPass {
		l.isDense = func(int, int64) bool { return false }
	}
	entries, err := s.search(ctx, l)
	return r.Page(entries), l.held, err
}

// Probes are conditions on the filter of a block that may hold a request.
func Probes(requestID string) (conditions []string) {
	for _, bit := range probes(hashRequest(requestID)) {
		conditions = append(conditions, fmt.Sprintf(sqlProbe, bit))
	}
	return conditions
}

// Time returns what the sink's clock says.
func (s *Sink) Time() time.Time { return s.clock() }

// SQLKeyUsage is the statement that reads what keys have used.
const SQLKeyUsage = sqlKeyUsage
