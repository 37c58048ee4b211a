package pgstore

import (
	"context"
	"time"
)

// Spans counts the spans of time in which a query would look.
func (s *Sink) Spans(ctx context.Context, keyID int64, requestID string, since, until time.Time) (int, error) {
	spans, err := s.spans(ctx, keyID, requestID, span{since, until})
	return len(spans), err
}
