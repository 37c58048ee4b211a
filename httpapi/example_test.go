package httpapi_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/ez-api/ez-api"
	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/httpapi"
	"github.com/ez-api/ez-api/httpapi/client"
)

// A control plane in memory behind its HTTP API, under a prefix of another server, and
// the client in Go.
func ExampleNew() {
	ctx := context.Background()
	plane, err := ezapi.New(ezapi.Config{})
	if err != nil {
		panic(err)
	}
	defer plane.Close(ctx)
	const token = "a-random-token-of-32-characters-or-more"
	api := httpapi.New(plane, httpapi.Tokens(httpapi.TokenList{Admin: []string{token}}), nil)

	mux := http.NewServeMux()
	mux.Handle("/gateway/", http.StripPrefix("/gateway", api))
	server := httptest.NewServer(mux)
	defer server.Close()

	c, err := client.New(server.URL+"/gateway", token, nil)
	if err != nil {
		panic(err)
	}
	key, err := c.Keys.Create(ctx, catalog.Key{Name: "alice", Meta: catalog.Meta{Status: catalog.Disabled}})
	if err != nil {
		panic(err)
	}
	key, err = c.Keys.Edit(ctx, key.ID, func(k *catalog.Key) error { k.Name = "alice b."; return nil })
	fmt.Println(key.Name, key.Status, err)
	// Output: alice b. disabled <nil>
}

// An Auth of one's own says who a caller is, and how to authenticate.
func ExampleWithScheme() {
	plane, err := ezapi.New(ezapi.Config{})
	if err != nil {
		panic(err)
	}
	defer plane.Close(context.Background())
	sessions := httpapi.AuthFunc(func(r *http.Request) (httpapi.Caller, error) {
		cookie, err := r.Cookie("SESSION")
		if err != nil || cookie.Value != "alice's session" {
			return httpapi.Caller{}, httpapi.ErrUnauthenticated
		}
		return httpapi.Caller{Role: httpapi.Viewer, Actor: "alice"}, nil
	})
	api := httpapi.New(plane, httpapi.WithScheme(sessions, httpapi.Scheme{
		Name: "session", Type: "apiKey", In: "cookie", Parameter: "SESSION", Remedy: "sign in at /login",
	}), nil)

	for _, cookie := range []string{"", "SESSION=\"alice's session\""} {
		r := httptest.NewRequest(http.MethodGet, "/keys", nil)
		r.Header.Set("Cookie", cookie)
		w := httptest.NewRecorder()
		api.ServeHTTP(w, r)
		fmt.Println(w.Code)
	}
	// Output:
	// 401
	// 200
}
