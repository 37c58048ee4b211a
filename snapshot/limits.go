package snapshot

import "time"

// What bounds a publish, see [Delta] and package storage/redisstore.
const (
	// MaxPartDocs and MaxPartBytes bound the documents that one entry of the stream carries. One
	// document alone may be larger.
	MaxPartDocs  = 500
	MaxPartBytes = 256 << 10

	// MaxParts and MaxChainBytes bound the entries of one publish. What is larger is
	// published whole.
	MaxParts      = 999
	MaxChainBytes = 64 << 20

	// TakeoverAfter is how long an unfinished publish that does not go on keeps
	// others from publishing.
	TakeoverAfter = 2 * time.Second

	// OpenGrace is how long an unfinished publish explains that there are not as many
	// documents as the head says.
	OpenGrace = 10 * time.Second

	// BeatInterval is the time from one beat to the next, of all control planes together.
	BeatInterval = 5 * time.Second

	// MaxBlock is the longest that [Source.Next] keeps one blocking command under way.
	MaxBlock = 30 * time.Second
)
