package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// An answer is that of a server or a balancer.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// read reads the body as JSON.
func (a answer) read(out any) error {
	if a.status/100 != 2 {
		return fmt.Errorf("status %d: %s", a.status, a.body)
	}
	return json.Unmarshal(a.body, out)
}

// client gives up long after every server has.
var client = &http.Client{
	Timeout:   75 * time.Second,
	Transport: &http.Transport{MaxIdleConnsPerHost: 16, IdleConnTimeout: 5 * time.Second},
}

// send sends a request. An error means that it is not known whether it was taken.
func send(method, url, token string, body any) (answer, error) {
	var reader io.Reader
	contentType := "application/json"
	switch body := body.(type) {
	case nil:
	case []byte:
		reader, contentType = bytes.NewReader(body), "application/x-ndjson"
	default:
		text, err := json.Marshal(body)
		if err != nil {
			return answer{}, err
		}
		reader = bytes.NewReader(text)
	}
	req, err := http.NewRequest(method, url, reader)
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Content-Type", contentType)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, text}, err
}
