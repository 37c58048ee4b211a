package claim_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/storage/internal/claim"
)

func TestClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var known error
		var owner string // of the store
		asked := 0
		c := claim.New(func(context.Context) (string, error) { return "ours", known })
		check := func(want ...error) {
			t.Helper()
			err := c.Check(t.Context(), func(_ context.Context, catalog string) (string, error) {
				asked++
				if owner == "" {
					owner = catalog
				}
				return owner, nil
			})
			if (err != nil) != (len(want) > 0) {
				t.Errorf("%v, want %v", err, want)
			}
			for _, w := range want {
				if !errors.Is(err, w) {
					t.Errorf("%v does not wrap %q", err, w)
				}
			}
		}
		known = errors.New("the catalog is away")
		check(logbuf.ErrUnavailable, known)
		if asked != 0 {
			t.Error("the store is asked by whoever does not know its own name")
		}
		known = nil
		check()
		check()
		if asked != 1 || owner != "ours" {
			t.Errorf("asked %d times, and the store is that of %q", asked, owner)
		}
		known = errors.New("the catalog is away") // its name stays
		owner = "others"
		time.Sleep(time.Minute)
		check(logbuf.ErrForeign, logbuf.ErrPaused)
		check(logbuf.ErrForeign)
		owner = ""
		check()
		if asked != 4 {
			t.Errorf("asked %d times, want 4", asked)
		}
	})
}

func TestClaimOfNobody(t *testing.T) {
	err := claim.New(nil).Check(t.Context(), func(context.Context, string) (string, error) {
		t.Error("the store is asked")
		return "", nil
	})
	if err != nil {
		t.Error(err)
	}
}
