package ezapi

import (
	"context"
	"net/http"
)

// DialsPrivate reports whether the client for upstreams that have to be public reaches a private address.
func DialsPrivate(url string) bool {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, http.NoBody)
	if err != nil {
		return true
	}
	resp, err := upstreamClient(false).Do(req)
	if err == nil {
		_ = resp.Body.Close()
	}
	return err == nil
}
