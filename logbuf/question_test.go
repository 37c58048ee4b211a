package logbuf_test

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ez-api/ez-api/logbuf"
)

// A cursor goes on with the question of its page alone. Every field of a query is part of it, but for the
// span of time and the size of pages.
func TestCursorsAreOfOneQuestion(t *testing.T) {
	asked := logbuf.LogQuery{KeyID: 7, Project: "acme", Tags: map[string]string{"a": "1", "b": "2"}, Limit: 1}
	logs, err := asked.Resolve(now)
	if err != nil {
		t.Fatal(err)
	}
	asked.Cursor = logs.Page([]logbuf.Entry{{Time: now.Add(-time.Minute)}, {Time: now.Add(-2 * time.Minute)}}).Next
	eachField(t, &asked, []string{"Since", "Until", "Limit", "Cursor"}, func(q *logbuf.LogQuery) error {
		_, err := q.Resolve(now)
		return err
	})

	usage := logbuf.UsageQuery{
		UsageFilter: logbuf.UsageFilter{KeyIDs: []int64{1, 2}, Model: "m"},
		GroupBy:     []logbuf.Dimension{logbuf.ByKey, logbuf.ByModel}, Limit: 1,
	}
	r, err := usage.Resolve(now)
	if err != nil {
		t.Fatal(err)
	}
	usage.Cursor = r.Page([]logbuf.Usage{{Start: r.Since(), KeyID: 1}, {Start: r.Since(), KeyID: 2}}).Next
	free := []string{"UsageFilter", "Since", "Until", "Limit", "Cursor"}
	resolve := func(q *logbuf.UsageQuery) error {
		_, err := q.Resolve(now)
		return err
	}
	eachField(t, &usage, free, resolve)
	eachField(t, &usage.UsageFilter, nil, func(f *logbuf.UsageFilter) error {
		q := usage
		q.UsageFilter = *f
		return resolve(&q)
	})
	same := usage
	same.KeyIDs, same.GroupBy = []int64{2, 1}, []logbuf.Dimension{logbuf.ByModel, logbuf.ByKey}
	same.Interval, same.Zone = logbuf.Day, time.UTC
	if err := resolve(&same); err != nil {
		t.Errorf("the same question in other words: %v", err)
	}
}

// eachField changes each field of a query, and wants its cursor refused unless the field is free.
func eachField[T any](t *testing.T, asked *T, free []string, resolve func(*T) error) {
	t.Helper()
	if err := resolve(asked); err != nil {
		t.Fatalf("the question itself: %v", err)
	}
	for i := range reflect.TypeFor[T]().NumField() {
		other := *asked
		name := reflect.TypeFor[T]().Field(i).Name
		if slices.Contains(free, name) {
			continue
		}
		switch f := reflect.ValueOf(&other).Elem().Field(i); v := f.Addr().Interface().(type) {
		case *int64:
			*v++
		case *int:
			*v = 429
		case *bool:
			*v = !*v
		case *string:
			*v += "x"
		case *map[string]string:
			*v = map[string]string{"a": "1", "b": "3"}
		case *[]int64:
			*v = []int64{1}
		case *[]logbuf.Dimension:
			*v = []logbuf.Dimension{logbuf.ByKey}
		case *logbuf.Interval:
			*v = logbuf.Hour
		case **time.Location:
			*v = time.FixedZone("Asia/Kathmandu", 20700)
		default:
			t.Fatalf("the test does not know how to change %s", name)
		}
		var invalid *logbuf.FieldError
		if err := resolve(&other); !errors.As(err, &invalid) || invalid.Field != "cursor" ||
			!strings.Contains(invalid.Message, "the same") {
			t.Errorf("with another %s: %v; want the cursor refused", name, err)
		}
	}
}
