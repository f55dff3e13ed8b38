// Package ops is what operators look at: health, readiness and metrics over HTTP.
package ops

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Check is one thing that must be there before work can be accepted.
type Check struct {
	Name string
	See  func(context.Context) error
}

// checkTime bounds one look at everything.
const checkTime = 5 * time.Second

// idleTime is how long a connection may wait for its next request, as in HiveServer2: drivers keep one for each session.
const idleTime = 30 * time.Minute

// Options of the pages.
type Options struct {
	Registry  *prometheus.Registry
	Checks    []Check
	FrontEnds map[string]http.Handler // by gin's patterns
	Admin     Admin                   // nil: there are no pages for administrators
}

// Handler answers /healthz (the process lives), /readyz (stores and clusters were really seen just now), /metrics and, to
// administrators, /debug/pprof. Every other path is asked of the front ends.
func Handler(opt Options) http.Handler {
	gin.SetMode(gin.ReleaseMode)
	r := gin.New()
	r.RedirectTrailingSlash = false
	r.Use(gin.Recovery())
	r.GET("/healthz", func(c *gin.Context) { c.JSON(http.StatusOK, gin.H{"status": "ok"}) })
	r.GET("/readyz", func(c *gin.Context) {
		ctx, cancel := context.WithTimeout(c.Request.Context(), checkTime)
		defer cancel()
		seen, ready := gin.H{}, true
		for _, check := range opt.Checks {
			seen[check.Name] = "ok"
			if err := check.See(ctx); err != nil {
				seen[check.Name], ready = err.Error(), false
			}
		}
		code := http.StatusOK
		if !ready {
			code = http.StatusServiceUnavailable
		}
		c.JSON(code, gin.H{"ready": ready, "checks": seen})
	})
	for path, h := range opt.FrontEnds {
		r.Any(path, gin.WrapH(h))
	}
	r.GET("/metrics", gin.WrapH(promhttp.HandlerFor(opt.Registry, promhttp.HandlerOpts{})))
	if opt.Admin != nil {
		debug(r, opt.Admin)
	}
	return r
}

// Serve answers on the listener until ctx ends.
func Serve(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger) error {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: idleTime, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		bg, cancel := context.WithTimeout(context.WithoutCancel(ctx), checkTime)
		defer cancel()
		_ = srv.Shutdown(bg)
	})
	err := srv.Serve(l)
	if !stop() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
