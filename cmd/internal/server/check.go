package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// checkTimeout is longer than the server's own readiness checks take.
const checkTimeout = 4 * time.Second

// check asks the server that runs with the same environment on this machine whether it is ready,
// as a container's health check does. It says on stdout what /readyz says, and fails when that is
// not 200.
func check(ctx context.Context, environ []string, stdout io.Writer) error {
	addr, err := checkAddress(environ)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/readyz", nil)
	if err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{Proxy: nil, DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("the server does not answer: %w", err)
	}
	defer resp.Body.Close()
	var body json.RawMessage
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&body); err != nil {
		return fmt.Errorf("/readyz answers %d without JSON: is this another server?", resp.StatusCode)
	}
	fmt.Fprintf(stdout, "%s\n", body)
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("not ready: /readyz answers %d", resp.StatusCode)
	}
	return nil
}

// checkAddress returns where the server listens, seen from this machine. Other variables may be
// wrong: they are not what is asked about.
func checkAddress(environ []string) (string, error) {
	c, err := loadOnly(environ, "EZ_API_ADDR", "EZ_API_PORT")
	if err != nil {
		return "", err
	}
	if c.Port == 0 {
		return "", errors.New("EZ_API_PORT is 0, so the port is not known: set it to a port")
	}
	host := string(c.Addr)
	switch host {
	case "", "0.0.0.0":
		host = "127.0.0.1"
	case "::":
		host = "::1"
	}
	return net.JoinHostPort(host, strconv.Itoa(int(c.Port))), nil
}
