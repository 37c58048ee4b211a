package bench

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/ez-api/ez-api/logbuf"
)

const (
	historicQueue = 10_000 // entries
	historicBatch = 10     // entries a transaction
)

// historicLog is an access log as the historic design stored it: one GORM model.
// It has the columns of access_logs, so that the same is written.
type historicLog struct {
	TS               time.Time `gorm:"primaryKey;not null" json:"ts"`
	ID               string    `gorm:"primaryKey;type:uuid;not null" json:"id"`
	KeyID            int64     `json:"key_id"`
	ProviderID       int64     `json:"provider_id"`
	LatencyMS        int64     `json:"latency_ms"`
	TTFTMS           int64     `json:"ttft_ms"`
	InputTokens      int64     `json:"input_tokens"`
	CacheReadTokens  int64     `json:"cache_read_tokens"`
	CacheWriteTokens int64     `json:"cache_write_tokens"`
	OutputTokens     int64     `json:"output_tokens"`
	CostNanoUSD      *int64    `json:"cost_nano_usd"`
	PricedRevision   int64     `json:"priced_revision"`
	Status           int       `json:"status"`
	Attempts         int       `json:"attempts"`
	Stream           bool      `json:"stream"`
	RequestID        string    `json:"request_id"`
	Balancer         string    `json:"balancer"`
	Namespace        string    `json:"namespace"`
	Model            string    `json:"model"`
	UpstreamModel    string    `json:"upstream_model"`
	RouteGroup       string    `json:"group"`
	Endpoint         string    `json:"endpoint"`
	Error            string    `json:"error"`
	ClientIP         string    `json:"client_ip"`
	UserAgent        string    `json:"user_agent"`
	Revision         string    `json:"revision"`
}

func newHistoricLog(e *logbuf.Entry) historicLog {
	return historicLog{
		TS: e.Time, ID: e.ID.String(), KeyID: e.KeyID, ProviderID: e.ProviderID, LatencyMS: e.LatencyMS, TTFTMS: e.TTFTMS,
		InputTokens: e.InputTokens, CacheReadTokens: e.CacheReadTokens, CacheWriteTokens: e.CacheWriteTokens,
		OutputTokens: e.OutputTokens,
		CostNanoUSD:  e.CostNanoUSD, PricedRevision: e.PricedRevision, Status: e.Status, Attempts: e.Attempts,
		Stream:    e.Stream,
		RequestID: e.RequestID, Balancer: e.Balancer, Namespace: e.Namespace, Model: e.Model, UpstreamModel: e.UpstreamModel,
		RouteGroup: e.Group, Endpoint: e.Endpoint, Error: e.Error, ClientIP: e.ClientIP, UserAgent: e.UserAgent,
		Revision: e.Revision,
	}
}

func openHistoric(dsn string) (*gorm.DB, error) {
	db, err := gorm.Open(postgres.Open(dsn), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		return nil, fmt.Errorf("the historic design cannot open the database: %w", err)
	}
	return db, db.AutoMigrate(&historicLog{})
}

// writeHistoric stores entries as the historic writer did: ten a transaction.
func writeHistoric(ctx context.Context, db *gorm.DB, entries []logbuf.Entry) error {
	batch := make([]historicLog, 0, historicBatch)
	for i := range entries {
		batch = append(batch, newHistoricLog(&entries[i]))
		if len(batch) == historicBatch || i == len(entries)-1 {
			if err := db.WithContext(ctx).Create(&batch).Error; err != nil {
				return err
			}
			batch = batch[:0]
		}
	}
	return nil
}

// HistoricServer runs the historic design until ctx ends, and prints its URL:
// POST /logs takes one entry, answers 202 and puts it into a channel; when that is
// full the entry is dropped. One goroutine takes ten at a time and stores them.
// GET /stats tells what became of them.
func HistoricServer(ctx context.Context, dsn string) error {
	db, err := openHistoric(dsn)
	if err != nil {
		return err
	}
	queue := make(chan historicLog, historicQueue)
	var accepted, stored, dropped atomic.Int64
	go func() {
		for first := range queue {
			batch := append(make([]historicLog, 0, historicBatch), first)
			for more := true; more && len(batch) < historicBatch; {
				select {
				case e := <-queue:
					batch = append(batch, e)
				case <-time.After(10 * time.Millisecond): // it does not wait for ever for ten
					more = false
				}
			}
			if db.Create(&batch).Error == nil {
				stored.Add(int64(len(batch)))
			} else {
				dropped.Add(int64(len(batch)))
			}
		}
	}()

	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	engine.Use(gin.Recovery())
	engine.POST("/logs", func(c *gin.Context) {
		var e historicLog
		if err := c.ShouldBindJSON(&e); err != nil {
			c.JSON(http.StatusBadRequest, gin.H{"error": err.Error()})
			return
		}
		accepted.Add(1)
		select {
		case queue <- e:
		default:
			dropped.Add(1)
		}
		c.JSON(http.StatusAccepted, gin.H{"status": "queued"})
	})
	engine.GET("/stats", func(c *gin.Context) {
		c.JSON(http.StatusOK, historicStats{accepted.Load(), stored.Load(), dropped.Load()})
	})
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: engine, ReadHeaderTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	fmt.Printf("http://%s\n", listener.Addr())
	if err := server.Serve(listener); ctx.Err() == nil {
		return err
	}
	return nil
}

type historicStats struct{ Accepted, Stored, Dropped int64 }
