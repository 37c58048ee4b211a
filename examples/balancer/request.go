package main

import (
	"bytes"
	"encoding/json"
	"errors"
)

// A chatRequest is a client's body, of which only three fields matter here. The
// others go to the upstream as they are.
type chatRequest struct {
	fields map[string]json.RawMessage
	size   int // of the body, in bytes

	model  string
	stream bool
	// wantsUsage says that the client asked for the usage at the end of a
	// stream. The balancer always does, for its log, and keeps it to itself otherwise.
	wantsUsage bool
}

// A requestError is what is wrong with a client's body, in words for the client.
type requestError string

func (e requestError) Error() string { return string(e) }

func parseChat(body []byte) (*chatRequest, error) {
	c := &chatRequest{size: len(body)}
	if err := json.Unmarshal(body, &c.fields); err != nil || c.fields == nil {
		return nil, requestError("the body must be a JSON object")
	}
	var options struct {
		IncludeUsage bool `json:"include_usage"`
	}
	for _, f := range []struct {
		name string
		into any
	}{{"model", &c.model}, {"stream", &c.stream}, {"stream_options", &options}} {
		if raw, ok := c.fields[f.name]; ok && json.Unmarshal(raw, f.into) != nil {
			return nil, requestError(f.name + " has the wrong type")
		}
	}
	if c.model == "" {
		return nil, requestError("model is required")
	}
	c.wantsUsage = options.IncludeUsage
	return c, nil
}

// upstreamBody returns the body for an upstream that knows the model by
// another name.
func (c *chatRequest) upstreamBody(model string) ([]byte, error) {
	name, err := json.Marshal(model)
	if err != nil {
		return nil, err
	}
	fields := make(map[string]json.RawMessage, len(c.fields)+1)
	for k, v := range c.fields {
		fields[k] = v
	}
	fields["model"] = name
	if c.stream && !c.wantsUsage {
		options := map[string]json.RawMessage{}
		if raw, ok := c.fields["stream_options"]; ok {
			if err := json.Unmarshal(raw, &options); err != nil || options == nil {
				options = map[string]json.RawMessage{}
			}
		}
		options["include_usage"] = json.RawMessage("true")
		if fields["stream_options"], err = json.Marshal(options); err != nil {
			return nil, err
		}
	}
	return json.Marshal(fields)
}

// usage is what an upstream says a request has cost.
type usage struct {
	PromptTokens     int64 `json:"prompt_tokens"` // including cached ones
	CompletionTokens int64 `json:"completion_tokens"`
	Details          struct {
		CachedTokens int64 `json:"cached_tokens"`
	} `json:"prompt_tokens_details"`
}

var errNoUsage = errors.New("no usage")

// parseUsage finds the usage in an answer, or in a chunk of one. It reports
// whether the chunk holds nothing else, as the one at the end of a stream does.
func parseUsage(data []byte) (u usage, alone bool, err error) {
	if !bytes.Contains(data, []byte(`"usage"`)) { // most chunks: not worth parsing
		return u, false, errNoUsage
	}
	var answer struct {
		Choices []json.RawMessage `json:"choices"`
		Usage   *usage            `json:"usage"`
	}
	if err := json.Unmarshal(data, &answer); err != nil {
		return u, false, err
	}
	if answer.Usage == nil {
		return u, false, errNoUsage
	}
	return *answer.Usage, len(answer.Choices) == 0, nil
}
