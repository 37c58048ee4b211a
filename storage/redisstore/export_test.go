package redisstore

import "time"

// SetStagingTTL shortens what otherwise takes minutes.
func (p *Publisher) SetStagingTTL(d time.Duration) { p.stagingTTL = d }

// SetBlock shortens how long a read waits.
func (p *Publisher) SetBlock(d time.Duration) { p.block = d }

// SetMaxNodes makes room for fewer nodes.
func (p *Publisher) SetMaxNodes(n int) { p.maxNodes = n }
