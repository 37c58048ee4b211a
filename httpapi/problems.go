package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/ez-api/ez-api/catalog"
	"github.com/ez-api/ez-api/catalog/alerts"
	"github.com/ez-api/ez-api/catalog/clocks"
	"github.com/ez-api/ez-api/catalog/upstreams"
	"github.com/ez-api/ez-api/httpapi/internal/outbox"
	"github.com/ez-api/ez-api/httpapi/internal/request"
	"github.com/ez-api/ez-api/logbuf"
	"github.com/ez-api/ez-api/snapshot"
)

// problemKind is one kind of problem that the API answers with.
type problemKind int

// The kinds of problems.
const (
	problemMalformed problemKind = iota
	problemUnauthenticated
	problemForbidden
	problemNotFound
	problemMethod
	problemExists
	problemReferenced
	problemProtected
	problemOwned
	problemConflict
	problemBusy
	problemForce
	problemUntestable
	problemOutranked
	problemCompacted
	problemGap
	problemPrecondition
	problemTooLarge
	problemMediaType
	problemInvalid
	problemOverloaded
	problemThrottled
	problemTooSoon
	problemInternal
	problemSealed
	problemUnpublished
	problemDamaged
	problemCrowded
	problemUnavailable
	problemUnconfirmed
)

// problemFacts are what a client sees of a kind of problem. The slug is part of the
// contract: it is the end of the problem document's type.
type problemFacts struct {
	slug   string
	status int
	title  string
}

// problemTable has the facts of every kind.
var problemTable = [...]problemFacts{
	problemMalformed:       {"malformed", http.StatusBadRequest, "The request cannot be read"},
	problemUnauthenticated: {"unauthenticated", http.StatusUnauthorized, "The request does not prove who makes it"},
	problemForbidden:       {"forbidden", http.StatusForbidden, "The caller's role does not allow this"},
	problemNotFound:        {"not-found", http.StatusNotFound, "There is no such thing"},
	problemMethod:          {"method-not-allowed", http.StatusMethodNotAllowed, "The path does not have this method"},
	problemExists:          {"exists", http.StatusConflict, "Another resource has this already"},
	problemReferenced:      {"referenced", http.StatusConflict, "Another resource still refers to this one"},
	problemProtected:       {"protected", http.StatusConflict, "The resource is protected from being deleted"},
	problemOwned:           {"owned", http.StatusConflict, "The resource belongs to another owner"},
	problemConflict:        {"conflict", http.StatusConflict, "The resource has changed meanwhile"},
	problemBusy:            {"busy", http.StatusConflict, "The same is being done already"},
	problemForce:           {"force-required", http.StatusConflict, "This is done only when it is forced"},
	problemUntestable:      {"untestable", http.StatusConflict, "The provider cannot be tested"},
	problemOutranked:       {"outranked", http.StatusConflict, "This server must not overwrite what is published"},
	problemCompacted:       {"compacted", http.StatusGone, "The history that was asked for is gone"},
	problemGap:             {"gap", http.StatusGone, "The deltas that were asked for are gone"},
	problemPrecondition:    {"precondition-failed", http.StatusPreconditionFailed, "The precondition does not hold"},
	problemTooLarge:        {"too-large", http.StatusRequestEntityTooLarge, "The body is too large"},
	problemMediaType: {"unsupported-media-type", http.StatusUnsupportedMediaType,
		"The body has a type that is not read here"},
	problemInvalid:    {"invalid", http.StatusUnprocessableEntity, "A value of the request is not acceptable"},
	problemOverloaded: {"overloaded", http.StatusTooManyRequests, "There is no room at the moment"},
	problemThrottled:  {"throttled", http.StatusTooManyRequests, "Too many requests from this address were refused"},
	problemTooSoon:    {"too-soon", http.StatusTooManyRequests, "This was asked for too often"},
	problemInternal:   {"internal", http.StatusInternalServerError, "The server has failed"},
	problemSealed:     {"sealed", http.StatusInternalServerError, "A stored secret cannot be opened"},
	problemUnpublished: {
		strings.TrimPrefix(snapshot.TypeUnpublished, urnPrefix), http.StatusServiceUnavailable, "Nothing was published yet",
	},
	problemDamaged: {
		strings.TrimPrefix(snapshot.TypeDamaged, urnPrefix), http.StatusServiceUnavailable, "What is published is damaged",
	},
	problemCrowded:     {"crowded", http.StatusServiceUnavailable, "Too much is being read at the same time"},
	problemUnavailable: {"unavailable", http.StatusServiceUnavailable, "This is not available at the moment"},
	problemUnconfirmed: {"unconfirmed", http.StatusServiceUnavailable, "It is not known whether this was done"},
}

const urnPrefix = "urn:ezapi:"

func (k problemKind) facts() problemFacts { return problemTable[k] }

func (f problemFacts) urn() string { return urnPrefix + f.slug }

// The errors of this package. The table below says what becomes of them.
var (
	errForbidden    = errors.New("the caller's role does not allow this")
	errLimited      = errors.New("the caller is limited to a project")
	errThrottled    = errors.New("too many requests from this address were refused")
	errPrecondition = errors.New("the precondition does not hold")
	errAlreadyThere = errors.New("what must not be there is there")
	errNoSuchToken  = errors.New("no key has this token")
	errExporting    = errors.New("other exports are being read")
	errPublished    = errors.New("what is published cannot be read")
)

// errorTable says which error becomes which kind of problem; the first that fits
// counts. The detail is what the client reads. Without one it reads the error's own
// text, which is known to hold no values.
var errorTable = []struct {
	err    error
	kind   problemKind
	detail string
}{
	{ErrUnauthenticated, problemUnauthenticated, "see the documentation of this server for how to authenticate"},
	{errForbidden, problemForbidden, "ask with the credentials of another role"},
	{errLimited, problemForbidden, "this is not for callers that are limited to a project"},
	{errThrottled, problemThrottled, "wait for as long as Retry-After says, then authenticate correctly"},
	{errPrecondition, problemPrecondition, "the resource is not at the revision in If-Match: read it again"},
	{errAlreadyThere, problemPrecondition, "the resource is there already: leave If-None-Match out to make it equal"},

	{errNoSuchToken, problemNotFound, "no key has this token: it was never valid here, or is not any more"},
	{errExporting, problemCrowded, "other exports are being read: ask again after the seconds in Retry-After"},
	{outbox.ErrCrowded, problemCrowded, "the answer is large, and other answers fill the memory that there is for " +
		"them: ask again after the seconds in Retry-After"},
	{errPublished, problemUnavailable, "what is published cannot be read"},
	{errNoArchive, problemNotFound, "the log sink of this server answers no questions"},
	{alerts.ErrNoOutbox, problemNotFound, "the catalog's store of this server keeps no alerts"},
	{upstreams.ErrUntestable, problemUntestable, ""},
	{upstreams.ErrTooSoon, problemTooSoon, "wait for as long as Retry-After says"},
	{logbuf.ErrUnsupported, problemNotFound, "the log store of this server cannot do this"},

	{request.ErrMalformed, problemMalformed, ""},
	{request.ErrTooLarge, problemTooLarge, ""},
	{request.ErrMediaType, problemMediaType, ""},

	{catalog.ErrMalformed, problemMalformed, ""},
	{catalog.ErrNotFound, problemNotFound, "nothing has this id"},
	{catalog.ErrOutside, problemForbidden, "the caller is limited to a project, and may see this and not change it"},
	{catalog.ErrExists, problemExists, "see errors for what is taken"},
	{catalog.ErrReferenced, problemReferenced, "delete or change first what refers to it"},
	{catalog.ErrProtected, problemProtected, "take the label protected away first"},
	{catalog.ErrOwned, problemOwned, "see errors for what is another's; take_over=true takes it over"},
	{catalog.ErrForce, problemForce, "more than half, and more than 10, of a kind would be deleted; " +
		"force=true accepts that"},
	{catalog.ErrPlanChanged, problemPrecondition, "the plan is not the expected one any more: look at the new one"},
	{catalog.ErrTooMany, problemTooLarge, ""},
	{catalog.ErrConflict, problemConflict, "read it again, then try again"},
	{errAhead, problemCompacted, "the catalog has not come that far: it was restored from a backup; start anew"},
	{catalog.ErrCompacted, problemCompacted, "changes this old were pruned: start from what is there now"},
	{catalog.ErrSealed, problemSealed, "the key that sealed it is not among those of this server"},
	{catalog.ErrClosed, problemUnavailable, "the server is shutting down"},
	{catalog.ErrUnavailable, problemUnavailable, "the catalog's database cannot be reached or is too busy, and " +
		"nothing was done: ask again after the seconds in Retry-After"},
	{catalog.ErrUnconfirmed, problemUnconfirmed, "the catalog's database has not confirmed the write, and may have " +
		"done it, or do it yet: read before you send it again"},

	{snapshot.ErrNone, problemUnpublished, "try again in a moment"},
	{snapshot.ErrCorrupt, problemDamaged, "it is being repaired: try again in a moment"},
	{snapshot.ErrForeign, problemForce, "another catalog has published; force=true overwrites what it published"},
	{snapshot.ErrShrinks, problemForce, "more than half of the documents of a kind would be lost; " +
		"force=true accepts that"},
	{snapshot.ErrOutranked, problemOutranked, "a newer version, or a sync key that is not held here, has made it"},
	{snapshot.ErrGap, problemGap, "load the whole snapshot again"},
	{snapshot.ErrStale, problemConflict, "somebody else was faster: try again"},

	{clocks.ErrUnread, problemUnavailable, "the times of some entries are wrong by this server's clock, or missing, " +
		"and the clock of the logs' database was not read yet, which decides: send them again"},
	{logbuf.ErrForeign, problemInternal, "the log store belongs to another catalog: an operator has to name another " +
		"one, or to hand it over"},
	{logbuf.ErrBusy, problemBusy, "wait until it is done, then try again"},
	{logbuf.ErrTooManyQueries, problemCrowded, "as many queries of logs and usage are at work as may be, and others " +
		"wait: ask again after the seconds in Retry-After"},
	{logbuf.ErrUnavailable, problemUnavailable, "the logs' database cannot be reached or is too busy: ask again " +
		"after the seconds in Retry-After"},
	{logbuf.ErrTooMany, problemTooLarge, ""},
	{logbuf.ErrMalformed, problemMalformed, ""},
	{logbuf.ErrFull, problemOverloaded, "the log buffer is full: slow down and send it again"},
	{logbuf.ErrClosed, problemUnavailable, "the server is shutting down"},
	{logbuf.ErrBroken, problemUnavailable, "the log spool's disk has failed: nothing can be promised until a restart"},

	{catalog.ErrInvalid, problemInvalid, seeErrors},
	{logbuf.ErrInvalid, problemInvalid, seeErrors},

	{context.DeadlineExceeded, problemUnavailable, "it took too long"},
	{context.Canceled, problemUnavailable, "the request was given up"},
}

const seeErrors = "see errors"
