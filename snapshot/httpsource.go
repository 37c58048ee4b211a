package snapshot

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/ez-api/ez-api/catalog"
)

// TypeUnpublished is the type of the problem with which a control plane
// answers over HTTP that nothing was published yet.
const TypeUnpublished = "urn:ezapi:nothing-published"

// TypeDamaged is the type of the problem with which it answers that what is
// published does not add up.
const TypeDamaged = "urn:ezapi:damaged"

// errSilent says that the time is long up, and the answer has no end.
var errSilent = errors.New("the control plane has become silent")

// HTTPOptions are the settings of an [HTTPSource]; nil and zero fields mean the defaults.
type HTTPOptions struct {
	// Client makes the requests. Its Timeout must be zero, because deltas are
	// waited for. Defaults to a client with the default transport.
	Client *http.Client

	// Wait is how long one request waits for deltas. A control plane refuses more than a minute,
	// and may answer earlier. Defaults to 30 s.
	Wait time.Duration
}

const (
	// streamGrace is what an answer with deltas may take beyond the wait: then the
	// network has lost it.
	streamGrace = 30 * time.Second

	// streamPause is the least time from one request for deltas to the next,
	// where something answers at once that there are none.
	streamPause = time.Second

	// loadSilence is how long no byte of a whole may come: then the network has lost it, or the
	// control plane has frozen.
	loadSilence = time.Minute

	contentType = "application/x-ndjson"
)

// An HTTPSource is a [Source] over the HTTP surface of a control plane: GET
// /sync/snapshot, GET /sync/deltas and POST /sync/nodes. A data plane without Redis
// follows it all the same. It is safe for concurrent use.
type HTTPSource struct {
	base   string
	token  string
	client *http.Client
	wait   time.Duration

	mu     sync.Mutex
	stream *deltaStream // nil while none is open
}

var _ Source = (*HTTPSource)(nil)

// NewHTTPSource returns a source that reads from a control plane at baseURL with
// a bearer token of the role balancer.
func NewHTTPSource(baseURL, token string, opts *HTTPOptions) *HTTPSource {
	s := &HTTPSource{base: strings.TrimRight(baseURL, "/"), token: token, client: &http.Client{}, wait: 30 * time.Second}
	if opts != nil && opts.Client != nil {
		s.client = opts.Client
	}
	if opts != nil && opts.Wait > 0 {
		s.wait = opts.Wait
	}
	return s
}

// HeadAnswer is what GET /sync/snapshot?head=true answers.
type HeadAnswer struct {
	Head Fields `json:"head,omitempty"` // as they are published; absent when nothing is
	Beat Fields `json:"beat,omitempty"` // the last; absent when there is none
}

// NewHeadAnswer returns an answer as it is written. The zero head is none.
func NewHeadAnswer(h Head, b Beat) HeadAnswer {
	a := HeadAnswer{}
	if h.Base() != (Base{}) {
		a.Head = h.Fields()
	}
	if !b.At.IsZero() {
		a.Beat = b.text()
	}
	return a
}

// Head implements [Source].
func (s *HTTPSource) Head(ctx context.Context) (Head, error) {
	a, err := s.headAnswer(ctx)
	if err != nil {
		return Head{}, err
	}
	return ParseHead(a.Head)
}

// LastBeat implements [Source].
func (s *HTTPSource) LastBeat(ctx context.Context) (Beat, error) {
	a, err := s.headAnswer(ctx)
	if errors.Is(err, ErrNone) { // neither a head nor a beat
		return Beat{}, nil
	}
	return beatOf(a.Beat), err
}

// beatOf returns the zero beat where there is none that can be read.
func beatOf(f Fields) Beat {
	b, err := parseBeat(f)
	if err != nil {
		return Beat{}
	}
	return b
}

func (s *HTTPSource) headAnswer(ctx context.Context) (a HeadAnswer, err error) {
	return a, s.ask(ctx, http.MethodGet, "/sync/snapshot?head=true", nil, nil, &a)
}

// ask sends a request whose answer is one JSON object, which has to come within callTimeout.
func (s *HTTPSource) ask(ctx context.Context, method, path string, header http.Header, body []byte, into any) error {
	asking, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := s.send(asking, method, path, header, body)
	if err == nil {
		err = decodeAnswer(resp, into)
	}
	if err != nil && asking.Err() != nil {
		return cmp.Or(ctx.Err(), errSilent)
	}
	return err
}

// decodeAnswer reads an answer that is one JSON object.
func decodeAnswer(resp *http.Response, into any) error {
	defer resp.Body.Close() //nolint:errcheck // only read from
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return errors.New("the answer is not that of a control plane: it is no JSON object of the kind that was asked for")
	}
	return nil
}

// maxAnswer bounds an answer that is no stream: a head and a beat.
const maxAnswer = 4 * maxFieldsSize

// ETag returns the entity tag of a snapshot: "<epoch>-<revision>".
func ETag(h Head) string { return `"` + h.Position.String() + `"` }

// Load implements [Source]. The answer begins when the control plane has made the whole.
func (s *HTTPSource) Load(ctx context.Context, into Loader) error {
	loading, cancel := context.WithCancel(ctx)
	defer cancel()
	silence := time.AfterFunc(exportTimeout+loadSilence, cancel)
	defer silence.Stop()
	resp, err := s.get(loading, "/sync/snapshot", nil)
	if err == nil {
		silence.Stop()
		defer resp.Body.Close() //nolint:errcheck // only read from
		if err = ReadWhole(watchedBody{resp.Body, silence}, into); err != nil {
			err = fmt.Errorf("read the snapshot: %w", err)
		}
	}
	if err != nil && loading.Err() != nil {
		return cmp.Or(ctx.Err(), errSilent)
	}
	return err
}

// watchedBody is an answer each of whose reads has to bring something within loadSilence. What the loader does
// between two reads takes as long as it takes.
type watchedBody struct {
	io.Reader
	silence *time.Timer // ends the request
}

func (b watchedBody) Read(p []byte) (int, error) {
	b.silence.Reset(loadSilence)
	defer b.silence.Stop()
	return b.Reader.Read(p)
}

// deltaStream is one request for deltas, whose answer goes on for a while.
type deltaStream struct {
	at     Position // after what was read
	opened time.Time
	body   io.ReadCloser
	deltas *DeltaReader
	cancel context.CancelFunc
}

func (d *deltaStream) close() {
	d.cancel()
	_ = d.body.Close()
}

// Next implements [Source]. One request brings many deltas; it belongs to one
// caller at a time, and others make their own.
func (s *HTTPSource) Next(ctx context.Context, after Position) (Delta, error) {
	if after.Epoch < 0 || after.Revision < 0 {
		return Delta{}, fmt.Errorf("after %s: %w", after, ErrGap)
	}
	for {
		stream, err := s.streamAt(ctx, after)
		if err != nil {
			return Delta{}, err
		}
		stop := context.AfterFunc(ctx, stream.cancel)
		d, err := stream.deltas.Next()
		if !stop() || err != nil {
			stream.close()
		}
		switch {
		case ctx.Err() != nil:
			return Delta{}, ctx.Err()
		case errors.Is(err, io.EOF):
			rest(ctx, min(s.wait, streamPause)-time.Since(stream.opened)) // the time is up
		case errors.Is(err, context.DeadlineExceeded):
			return Delta{}, errSilent
		case err != nil:
			return Delta{}, fmt.Errorf("read deltas: %w", err)
		default:
			stream.at = d.Head.Position
			s.keep(stream)
			return d, nil
		}
	}
}

// keep leaves a stream for the next who goes on from where it is.
func (s *HTTPSource) keep(stream *deltaStream) {
	s.mu.Lock()
	idle := s.stream
	s.stream = stream
	s.mu.Unlock()
	if idle != nil {
		idle.close()
	}
}

// streamAt takes the open stream when it is where the caller wants to go on,
// and opens one otherwise.
func (s *HTTPSource) streamAt(ctx context.Context, after Position) (*deltaStream, error) {
	s.mu.Lock()
	stream := s.stream
	s.stream = nil
	s.mu.Unlock()
	if stream != nil {
		if stream.at == after {
			return stream, nil
		}
		stream.close()
	}
	query := url.Values{"after": {after.String()}, "wait": {s.wait.String()}}
	opened := time.Now()
	open, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.wait+streamGrace)
	stop := context.AfterFunc(ctx, cancel)
	resp, err := s.get(open, "/sync/deltas?"+query.Encode(), nil)
	stop()
	if err != nil {
		if open.Err() != nil {
			err = cmp.Or(ctx.Err(), errSilent)
		}
		cancel()
		return nil, err
	}
	return &deltaStream{at: after, opened: opened, body: resp.Body, deltas: NewDeltaReader(resp.Body), cancel: cancel}, nil
}

// Close ends what the source holds open. It can go on being used.
func (s *HTTPSource) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stream != nil {
		s.stream.close()
		s.stream = nil
	}
}

// Lookup implements [Source] by loading the whole: there is no route for single
// documents. A [Watcher] has no use for it.
func (s *HTTPSource) Lookup(ctx context.Context, k catalog.Kind, keys ...string) ([]Document, error) {
	if err := CheckKind(k); err != nil {
		return nil, err
	}
	picker := &picker{kind: k, docs: map[string][]byte{}}
	for _, key := range keys {
		picker.docs[key] = nil
	}
	if err := s.Load(ctx, picker); err != nil && !errors.Is(err, ErrNone) {
		return nil, err
	}
	var docs []Document
	for _, key := range keys {
		if doc := picker.docs[key]; doc != nil {
			docs = append(docs, Document{Kind: k, Key: key, Doc: bytes.Clone(doc)})
		}
	}
	return docs, nil
}

// picker is a loader that keeps some documents.
type picker struct {
	kind catalog.Kind
	docs map[string][]byte // wanted
}

func (p *picker) Begin(Head) ([]catalog.Kind, error) {
	for key := range p.docs {
		p.docs[key] = nil
	}
	return []catalog.Kind{p.kind}, nil
}

func (p *picker) Add(changes []Change) error {
	for _, c := range changes {
		if _, wanted := p.docs[c.Key]; wanted && c.Kind == p.kind {
			p.docs[c.Key] = c.Doc
		}
	}
	return nil
}

func (*picker) End(Head) error { return nil }

// ReportAnswer is what POST /sync/nodes answers.
type ReportAnswer struct {
	Head *Base  `json:"head,omitempty" doc:"The head of what is published. It is absent when nothing is."`
	Beat Fields `json:"beat,omitempty" doc:"The last beat. It is absent when there is none."`
	Live int    `json:"live" doc:"How many balancers were heard of within 15 s."`
}

// NewReportAnswer returns an answer as it is written.
func NewReportAnswer(a Answer) ReportAnswer {
	out := ReportAnswer{Live: a.Live}
	if a.Head != (Base{}) {
		out.Head = &a.Head
	}
	if !a.Beat.At.IsZero() {
		out.Beat = a.Beat.text()
	}
	return out
}

// Report implements [Reporter].
func (s *HTTPSource) Report(ctx context.Context, n Node) (Answer, error) {
	path := "/sync/nodes"
	if n.Age > 0 {
		path += "?" + url.Values{"age": {n.Age.String()}}.Encode()
	}
	header := http.Header{"Content-Type": {"application/json"}}
	var a ReportAnswer
	if err := s.ask(ctx, http.MethodPost, path, header, n.Encode(), &a); err != nil {
		return Answer{}, err
	}
	answer := Answer{Beat: beatOf(a.Beat), Live: a.Live}
	if a.Head != nil {
		answer.Head = *a.Head
	}
	return answer, nil
}

// get asks for lines, of which there are none with status 304.
func (s *HTTPSource) get(ctx context.Context, path string, header http.Header) (*http.Response, error) {
	resp, err := s.send(ctx, http.MethodGet, path, header, nil)
	if err != nil || resp.StatusCode == http.StatusNotModified {
		return resp, err
	}
	if got, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";"); got != contentType {
		_ = resp.Body.Close()
		return nil, fmt.Errorf("the answer is not that of a control plane: it is of type %q", got)
	}
	return resp, nil
}

// send sends a request. Anything but success and 304 is an error.
func (s *HTTPSource) send(ctx context.Context, method, path string, header http.Header,
	body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, s.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if header != nil {
		req.Header = header
	}
	if s.token != "" {
		req.Header.Set("Authorization", "Bearer "+s.token)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, err
	}
	if resp.StatusCode < 300 || resp.StatusCode == http.StatusNotModified {
		return resp, nil
	}
	defer resp.Body.Close() //nolint:errcheck // only read from
	return nil, fmt.Errorf("%s %s: %w", method, strings.SplitN(path, "?", 2)[0], answerError(resp))
}

// answerError makes an error of a control plane's answer.
func answerError(resp *http.Response) error {
	var problem struct {
		Type   string `json:"type"`
		Detail string `json:"detail"`
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	_ = json.Unmarshal(text, &problem) // an answer of something in between is no problem document
	switch {
	case problem.Type == TypeUnpublished:
		return ErrNone
	case problem.Type == TypeDamaged:
		return fmt.Errorf("status %d: %.200q: %w", resp.StatusCode, problem.Detail, ErrCorrupt)
	case resp.StatusCode == http.StatusGone:
		return ErrGap
	case resp.StatusCode == http.StatusUnprocessableEntity:
		return fmt.Errorf("status %d: %.200q: %w", resp.StatusCode, problem.Detail, catalog.ErrInvalid)
	}
	return fmt.Errorf("status %d: %.200q", resp.StatusCode, problem.Detail)
}
