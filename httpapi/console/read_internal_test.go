package console

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ez-api/ez-api/httpapi/internal/room"
)

// Who is not signed in takes no room for forms from those who are.
func TestFormsOfStrangersHaveTheirOwnRoom(t *testing.T) {
	c := &Console{room: room.New(maxForms), openRoom: room.New(maxOpen)}
	post := func(known bool, fields int) (*page, error) {
		body := strings.NewReader(strings.Repeat("a&", fields))
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/signin", body)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		p := &page{Console: c, w: httptest.NewRecorder(), r: r, known: known}
		return p, p.readForm()
	}
	const many = maxOpen / fieldSize // take all of it
	first, err := post(false, many)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := post(false, 1000); !errors.Is(err, room.ErrFull) {
		t.Errorf("a second stranger: %v", err)
	} else {
		p.letGo()
	}
	known, err := post(true, many)
	if err != nil {
		t.Errorf("who is signed in: %v", err)
	}
	known.letGo()
	first.letGo()
	if _, err := post(false, 1000); err != nil {
		t.Errorf("when the first is done: %v", err)
	}
}
