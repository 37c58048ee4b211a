package alerts

import (
	"context"
	"net"
	"net/http"
)

// ResolveTo makes every host of a webhook the given address, as a name server could.
func ResolveTo(w *Webhook, address string) {
	transport := w.client.Transport.(*http.Transport)
	dial := transport.DialContext
	transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return dial(ctx, network, address)
	}
}
