package notes_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ez-api/ez-api/cmd/internal/ctl/notes"
)

func TestLines(t *testing.T) {
	var l notes.List
	l.Add("channel 3", "has no %s", "credential")
	l.Add("", "everything is %d", 1)
	l.Add("channel 5", "has no %s", "credential")
	l.Add("channel 5", "has no %s", "credential")
	l.Add("alias a", "is odd")
	l.Add("channel 1", "is odd")
	for i := range 52 {
		l.Add(fmt.Sprintf("token %d", i), "expired")
	}
	got := l.Lines()
	if n := len(got) - 1; got[n][len(got[n])-len(" 49 and 2 more: expired"):] != " 49 and 2 more: expired" {
		t.Errorf("the last line: %s", got[n])
	}
	want := []string{"channel 3, 5: has no credential", "everything is 1", "alias a, channel 1: is odd"}
	if diff := cmp.Diff(want, got[:len(got)-1]); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}
