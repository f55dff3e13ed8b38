package hs2

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"

	"github.com/sluicedata/sluice/gateway/auth"
	"github.com/sluicedata/sluice/gateway/hs2/tcli"
	"github.com/sluicedata/sluice/gateway/session"
)

// handler answers the calls of one connection, or of one HTTP request. They come one after the other.
type handler struct {
	server   *Server
	client   string // its address
	agent    string // what it says that it is, over HTTP
	log      *slog.Logger
	identity *auth.Identity         // whoever the transport proved the client to be; nil before OpenSession without SASL
	target   string                 // whom the client acts for in all it does: doAs, or the SASL authorization identity; or empty
	used     map[uuid.UUID]struct{} // sessions that this connection used; nil where there is no connection
	// sent is called once the answer of the call is written to the client.
	sent func()
	// watch returns a context that ends when the client goes while a call is answered, until stop is called.
	watch func(context.Context) (ctx context.Context, stop func())
}

// fetchSizeKey tells clients how many rows to ask for at once; Hive JDBC 4 refuses a server that does not tell.
const fetchSizeKey = "hive.server2.thrift.resultset.default.fetch.size"

// OpenSession implements tcli.TCLIService.
func (h *handler) OpenSession(ctx context.Context, req *tcli.TOpenSessionReq) (*tcli.TOpenSessionResp, error) {
	resp := &tcli.TOpenSessionResp{
		ServerProtocolVersion: tcli.NegotiateVersion(req),
		Configuration:         map[string]string{fetchSizeKey: "1000"},
	}
	sess, err := h.open(ctx, req, int(resp.ServerProtocolVersion))
	if err != nil {
		resp.Status = h.failed(err)
		return resp, nil
	}
	h.server.use(h, sess.ID)
	resp.Status = success()
	resp.SessionHandle = &tcli.TSessionHandle{SessionId: &tcli.THandleIdentifier{GUID: sess.ID[:], Secret: sess.Secret[:]}}
	return resp, nil
}

func (h *handler) open(ctx context.Context, req *tcli.TOpenSessionReq, protocol int) (*session.Session, error) {
	if h.identity == nil { // without SASL this is where the client says who it is
		if err := h.login(ctx, "", deref(req.Username), deref(req.Password)); err != nil {
			return nil, &session.Failure{Class: "SLUICE_LOGIN", SQLState: "28000", Message: err.Error()}
		}
	}
	conf := readConf(req.Configuration)
	target := h.target
	if target == "" {
		target = conf.settings[proxyKey]
	}
	delete(conf.settings, proxyKey)
	if _, said := conf.settings[session.ClientKey]; !said && h.agent != "" {
		conf.settings[session.ClientKey] = h.agent
	}
	identity, err := h.actFor(ctx, target)
	wanted := session.OpenRequest{
		Identity: identity, FrontEnd: h.frontEnd(), ClientAddr: h.client, Protocol: protocol,
		Conf: conf.settings, Catalog: conf.catalog, Database: conf.database,
	}
	if err != nil {
		h.server.opt.Sessions.Refused(wanted, err)
		return nil, err
	}
	return h.server.opt.Sessions.Open(ctx, wanted)
}

// The front end's names in the store. Sessions over HTTP have no connection that could be gone.
const (
	frontEnd     = "hs2"
	frontEndHTTP = "hs2-http"
)

func (h *handler) frontEnd() string {
	if h.used == nil {
		return frontEndHTTP
	}
	return frontEnd
}

// done is called when the answer of a call is written.
func (h *handler) done() {
	if h.sent != nil {
		h.sent()
		h.sent = nil
	}
}

type clientConf struct {
	settings          map[string]string
	catalog, database string
}

// readConf reads the configuration of OpenSession. JDBC drivers put prefixes before keys, Python clients do not; where
// a key comes both ways, the one with a prefix wins, because a person wrote it into a URL.
func readConf(in map[string]string) clientConf {
	out := clientConf{settings: map[string]string{}}
	for k, v := range in {
		switch {
		case k == "use:catalog":
			out.catalog = v
		case strings.HasPrefix(k, "use:"):
			if v != "default" { // where every session begins; it need not even exist
				out.database = v
			}
		case strings.HasPrefix(k, "set:"):
			out.settings[session.SettingKey(strings.TrimPrefix(k, "set:"))] = v
		case strings.HasPrefix(k, "X-"): // a browser's header that Hue passes on
		default:
			if _, said := out.settings[k]; !said {
				out.settings[k] = v
			}
		}
	}
	return out
}

func (h *handler) session(handle *tcli.TSessionHandle) (*session.Session, error) {
	id, secret, err := handleID(handle.GetSessionId())
	if err != nil || h.identity == nil {
		return nil, invalidSession(handle)
	}
	s, err := h.server.opt.Sessions.Session(id, secret, h.mine)
	if err != nil {
		return nil, invalidSession(handle)
	}
	h.server.use(h, id)
	return s, nil
}

func (h *handler) operation(handle *tcli.TOperationHandle) (*session.Operation, error) {
	id, secret, err := handleID(handle.GetOperationId())
	if err != nil || h.identity == nil {
		return nil, invalidOperation(handle)
	}
	o, err := h.server.opt.Sessions.Operation(id, secret, h.mine)
	if err != nil {
		return nil, invalidOperation(handle)
	}
	return o, nil
}

func handleID(h *tcli.THandleIdentifier) (uuid.UUID, []byte, error) {
	id, err := uuid.FromBytes(h.GetGUID())
	return id, h.GetSecret(), err
}

// CloseSession implements tcli.TCLIService.
func (h *handler) CloseSession(ctx context.Context, req *tcli.TCloseSessionReq) (*tcli.TCloseSessionResp, error) {
	s, err := h.session(req.SessionHandle)
	if err == nil {
		err = h.server.opt.Sessions.Close(ctx, s, "its client closed it")
	}
	return &tcli.TCloseSessionResp{Status: h.status(err)}, nil
}

// ExecuteStatement implements tcli.TCLIService.
func (h *handler) ExecuteStatement(ctx context.Context, req *tcli.TExecuteStatementReq) (*tcli.TExecuteStatementResp, error) {
	s, err := h.session(req.SessionHandle)
	if err != nil {
		return &tcli.TExecuteStatementResp{Status: h.failed(err)}, nil
	}
	overlay := map[string]string{}
	for k, v := range req.ConfOverlay {
		overlay[session.SettingKey(strings.TrimPrefix(k, "set:"))] = v
	}
	text, err := fromKyuubi(req.Statement, overlay)
	if err != nil {
		return &tcli.TExecuteStatementResp{Status: h.failed(err)}, nil
	}
	o, err := s.Execute(withTrace(ctx, overlay, s), session.ExecuteRequest{
		Text: text, Overlay: overlay, Timeout: time.Duration(max(req.QueryTimeout, 0)) * time.Second,
	})
	if err != nil {
		return &tcli.TExecuteStatementResp{Status: h.failed(err)}, nil
	}
	if !req.RunAsync {
		if err := h.await(ctx, o); err != nil {
			_ = o.Close(context.WithoutCancel(ctx))
			return &tcli.TExecuteStatementResp{Status: h.failed(err)}, nil
		}
	}
	return &tcli.TExecuteStatementResp{Status: success(), OperationHandle: operationHandle(o)}, nil
}

// traceKey is where a client without HTTP headers puts its W3C trace context: into the settings.
const traceKey = "traceparent"

func withTrace(ctx context.Context, overlay map[string]string, s *session.Session) context.Context {
	parent, ok := overlay[traceKey]
	delete(overlay, traceKey)
	if !ok {
		parent, ok = s.Setting(traceKey)
	}
	if !ok {
		return ctx
	}
	return otel.GetTextMapPropagator().Extract(ctx, propagation.MapCarrier{traceKey: parent})
}

// await blocks a synchronous call until the operation has rows or has ended. If the client goes meanwhile, nobody will
// ask for the rows any more, so the operation is stopped.
func (h *handler) await(ctx context.Context, o *session.Operation) error {
	ctx, stop := h.watch(ctx)
	defer stop()
	for {
		snap := o.Wait(ctx, time.Minute)
		switch {
		case snap.Failure != nil:
			return snap.Failure
		case snap.State.Terminal():
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
	}
}

// pollStep is how long GetOperationStatus waits at first; the wait grows with the age of the operation, as in Hive 4,
// because Java clients poll without pausing and fetch their log lines between two polls.
const pollStep = 500 * time.Millisecond

// GetOperationStatus implements tcli.TCLIService.
func (h *handler) GetOperationStatus(ctx context.Context, req *tcli.TGetOperationStatusReq) (*tcli.TGetOperationStatusResp, error) {
	o, err := h.operation(req.OperationHandle)
	if err != nil {
		return &tcli.TGetOperationStatusResp{Status: h.failed(err)}, nil
	}
	age := time.Since(o.Snapshot().Created)
	wait := min((age/(10*time.Second)+1)*pollStep, h.server.opt.PollTimeout)
	snap := o.Wait(ctx, wait)
	state := stateOf(snap.State, tcli.TProtocolVersion(o.Session.Protocol))
	resp := &tcli.TGetOperationStatusResp{
		Status: success(), OperationState: &state, HasResultSet: ptr(true),
		OperationStarted: ptr(snap.Created.UnixMilli()),
	}
	if !snap.Ended.IsZero() {
		resp.OperationCompleted = ptr(snap.Ended.UnixMilli())
	}
	if f := snap.Failure; f != nil {
		resp.SqlState, resp.ErrorCode, resp.ErrorMessage = ptr(f.SQLState), ptr(int32(0)), ptr(h.text(f))
	}
	if req.IsSetGetProgressUpdate() && req.GetGetProgressUpdate() {
		resp.ProgressUpdateResponse = progress(snap)
		// Hive JDBC asks again when the rows are read, and Beeline would draw the bar over them.
		if snap.State.Terminal() && cursorOf(o).barDone.Swap(true) {
			resp.ProgressUpdateResponse.Status = tcli.TJobExecutionStatus_NOT_AVAILABLE
		}
	}
	return resp, nil
}

// CancelOperation implements tcli.TCLIService.
func (h *handler) CancelOperation(_ context.Context, req *tcli.TCancelOperationReq) (*tcli.TCancelOperationResp, error) {
	o, err := h.operation(req.OperationHandle)
	if err == nil {
		o.Cancel()
	}
	return &tcli.TCancelOperationResp{Status: h.status(err)}, nil
}

// CloseOperation implements tcli.TCLIService. Of one that has ended, the rows and the record go once the client has its
// answer.
func (h *handler) CloseOperation(ctx context.Context, req *tcli.TCloseOperationReq) (*tcli.TCloseOperationResp, error) {
	o, err := h.operation(req.OperationHandle)
	if err == nil && o.Ended() {
		o.Forget()
		h.sent = func() { _ = o.Close(context.WithoutCancel(ctx)) }
	} else if err == nil {
		err = o.Close(ctx)
	}
	return &tcli.TCloseOperationResp{Status: h.status(err)}, nil
}

// GetQueryId implements tcli.TCLIService, which spells it so; unknown handles have an empty id, as in Hive 4.
func (h *handler) GetQueryId(_ context.Context, req *tcli.TGetQueryIdReq) (*tcli.TGetQueryIdResp, error) {
	resp := &tcli.TGetQueryIdResp{}
	if o, err := h.operation(req.OperationHandle); err == nil {
		resp.QueryId = o.ID.String()
	}
	return resp, nil
}

// SetClientInfo implements tcli.TCLIService.
func (h *handler) SetClientInfo(_ context.Context, req *tcli.TSetClientInfoReq) (*tcli.TSetClientInfoResp, error) {
	_, err := h.session(req.SessionHandle)
	return &tcli.TSetClientInfoResp{Status: h.status(err)}, nil
}

var errNoTokens = &session.Failure{Class: "SLUICE_NOT_SUPPORTED", SQLState: "0A000", Message: "Delegation token is not supported"}

// GetDelegationToken implements tcli.TCLIService.
func (h *handler) GetDelegationToken(context.Context, *tcli.TGetDelegationTokenReq) (*tcli.TGetDelegationTokenResp, error) {
	return &tcli.TGetDelegationTokenResp{Status: h.failed(errNoTokens)}, nil
}

// CancelDelegationToken implements tcli.TCLIService.
func (h *handler) CancelDelegationToken(context.Context, *tcli.TCancelDelegationTokenReq) (*tcli.TCancelDelegationTokenResp, error) {
	return &tcli.TCancelDelegationTokenResp{Status: h.failed(errNoTokens)}, nil
}

// RenewDelegationToken implements tcli.TCLIService.
func (h *handler) RenewDelegationToken(context.Context, *tcli.TRenewDelegationTokenReq) (*tcli.TRenewDelegationTokenResp, error) {
	return &tcli.TRenewDelegationTokenResp{Status: h.failed(errNoTokens)}, nil
}

func ptr[T any](v T) *T { return &v }

func deref(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}
