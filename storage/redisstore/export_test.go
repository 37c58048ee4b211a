package redisstore

import "time"

// SetStagingTTL shortens what otherwise takes minutes.
func (p *Publisher) SetStagingTTL(d time.Duration) { p.stagingTTL = d }
