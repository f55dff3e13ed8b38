package spark

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/spark/connectpb"
)

const (
	// maxMessage is above the 128 MiB that a Connect server may send by default; Go's own limit is 4 MiB.
	maxMessage = 160 << 20
	// callTimeout bounds the small calls: settings, interrupts, releases.
	callTimeout = 30 * time.Second
)

// clientType is told to the server for its logs.
var clientType = ptr("sluice")

func ptr[T any](v T) *T { return &v }

// bearer shows the engine's token. A server before 4.0 does not look at it, and it opens nothing else: each engine has its
// own. Connect compares the header byte for byte, so "Bearer" is written so.
type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

// RequireTransportSecurity is false because a stock Connect server offers no TLS: its port is bound to loopback or
// lies behind a network boundary.
func (bearer) RequireTransportSecurity() bool { return false }

type engine struct {
	conn *grpc.ClientConn
	rpc  connectpb.SparkConnectServiceClient
	old  atomic.Pointer[roster] // set once the engine has said that it is older than 4.0
}

// Dial implements engines.Driver. The connection is made with the first call.
func (Driver) Dial(_ context.Context, at engines.Endpoint) (engines.Engine, error) {
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage), grpc.ForceCodecV2(newCodec())),
		grpc.WithInitialWindowSize(4 << 20), grpc.WithInitialConnWindowSize(16 << 20),
		grpc.WithNoProxy(),
	}
	if at.Token != "" {
		opts = append(opts, grpc.WithPerRPCCredentials(bearer(at.Token)))
	}
	conn, err := grpc.NewClient("passthrough:///"+at.Address, opts...)
	if err != nil {
		return nil, fmt.Errorf("dial Spark Connect at %s: %w", at.Address, err)
	}
	return &engine{conn: conn, rpc: connectpb.NewSparkConnectServiceClient(conn)}, nil
}

func (e *engine) Close() error {
	if r := e.old.Load(); r != nil {
		r.close()
	}
	return e.conn.Close()
}

// Identify asks for the settings that name the engine, in a session of its own that is released again.
func (e *engine) Identify(ctx context.Context) (engines.Identity, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	s := e.session(uuid.New(), "sluice")
	defer func() { _ = s.Close(ctx) }()
	got, err := s.getOptions(ctx, tagKey, "spark.app.id")
	if err != nil {
		return engines.Identity{}, fmt.Errorf("ask the engine who it is: %w", err)
	}
	v, err := s.rpc.AnalyzePlan(ctx, &connectpb.AnalyzePlanRequest{
		SessionId: s.id, UserContext: s.user, ClientType: clientType,
		Analyze: &connectpb.AnalyzePlanRequest_SparkVersion_{SparkVersion: &connectpb.AnalyzePlanRequest_SparkVersion{}},
	})
	if err != nil {
		return engines.Identity{}, fmt.Errorf("ask the engine for its version: %w", s.translate(err))
	}
	id := engines.Identity{Version: v.GetSparkVersion().GetVersion()}
	if isOld(id.Version) {
		id.MaxSessions = maxOldSessions
		if r := newRoster(touchEvery); !e.old.CompareAndSwap(nil, r) {
			r.close() // it was asked before
		}
	}
	if p := got[tagKey]; p != nil {
		id.Tag = engines.Tag(*p)
	}
	if p := got["spark.app.id"]; p != nil {
		id.AppID = engines.AppID(*p)
	}
	return id, nil
}

func (e *engine) session(id uuid.UUID, user string) *session {
	return &session{rpc: e.rpc, id: id.String(), user: &connectpb.UserContext{UserId: user, UserName: user}}
}

// OpenSession makes the session known to the server by giving it its settings and its current database.
func (e *engine) OpenSession(ctx context.Context, spec engines.SessionSpec) (engines.Session, error) {
	s := e.session(spec.ID, spec.User)
	var err error
	if r := e.old.Load(); r != nil {
		err = r.begin(ctx, s, spec)
	} else {
		err = s.setAll(ctx, spec.Conf)
	}
	if err != nil {
		return nil, fmt.Errorf("open a session: %w", err)
	}
	for _, use := range useStatements(spec.Catalog, spec.Database) {
		if err := s.run(ctx, use); err != nil {
			_ = s.Close(ctx)
			return nil, err
		}
	}
	return s, nil
}

// setAll gives a session its settings. What the server refuses is passed over, because a client's conf holds static
// settings too; they took effect when the engine was started, or not.
func (s *session) setAll(ctx context.Context, conf map[string]string) error {
	pairs := make([]*connectpb.KeyValue, 0, len(conf))
	for k, v := range conf {
		pairs = append(pairs, &connectpb.KeyValue{Key: k, Value: ptr(v)})
	}
	set := &connectpb.ConfigRequest_Set{Pairs: pairs, Silent: ptr(true)}
	_, err := s.config(ctx, &connectpb.ConfigRequest_Operation{OpType: &connectpb.ConfigRequest_Operation_Set{Set: set}})
	return err
}

func useStatements(catalog, database string) []string {
	var use []string
	if catalog != "" {
		// As a string: Spark knows no USE CATALOG, and 4.3 takes a quoted name here for a column.
		use = append(use, "SET CATALOG '"+strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(catalog)+"'")
	}
	if database != "" {
		use = append(use, "USE "+quote(database))
	}
	return use
}

// quote writes an identifier as Spark reads it back; a name that is already quoted or has parts stays as it is.
func quote(name string) string {
	if strings.HasPrefix(name, "`") {
		return name
	}
	parts := strings.Split(name, ".")
	for i, p := range parts {
		parts[i] = "`" + strings.ReplaceAll(p, "`", "``") + "`"
	}
	return strings.Join(parts, ".")
}

type session struct {
	rpc  connectpb.SparkConnectServiceClient
	id   string
	user *connectpb.UserContext
	// server is the server's own id of this session. Sending it back makes a restarted driver refuse us instead of
	// silently opening an empty session.
	server atomic.Pointer[string]
	roster *roster // nil from 4.0 on
}

func (s *session) observed(serverID string) {
	if serverID != "" && s.server.Load() == nil {
		s.server.CompareAndSwap(nil, &serverID)
	}
}

func (s *session) config(ctx context.Context, op *connectpb.ConfigRequest_Operation) (*connectpb.ConfigResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := s.rpc.Config(ctx, &connectpb.ConfigRequest{
		SessionId: s.id, UserContext: s.user, Operation: op, ClientType: clientType,
		ClientObservedServerSideSessionId: s.server.Load(),
	})
	if err != nil {
		return nil, s.translate(err)
	}
	s.observed(resp.ServerSideSessionId)
	return resp, nil
}

func (s *session) getOptions(ctx context.Context, keys ...string) (map[string]*string, error) {
	resp, err := s.config(ctx, &connectpb.ConfigRequest_Operation{OpType: &connectpb.ConfigRequest_Operation_GetOption{
		GetOption: &connectpb.ConfigRequest_GetOption{Keys: keys}}})
	if err != nil {
		return nil, err
	}
	got := make(map[string]*string, len(resp.Pairs))
	for _, p := range resp.Pairs {
		got[p.Key] = p.Value
	}
	return got, nil
}

// Set implements engines.Session; a nil value unsets a key.
func (s *session) Set(ctx context.Context, conf map[string]*string) (map[string]*string, error) {
	keys := make([]string, 0, len(conf))
	set := &connectpb.ConfigRequest_Set{}
	unset := &connectpb.ConfigRequest_Unset{}
	for k, v := range conf {
		keys = append(keys, k)
		if v == nil {
			unset.Keys = append(unset.Keys, k)
		} else {
			set.Pairs = append(set.Pairs, &connectpb.KeyValue{Key: k, Value: v})
		}
	}
	before, err := s.getOptions(ctx, keys...)
	if err != nil {
		return nil, err
	}
	if len(set.Pairs) > 0 {
		if _, err := s.config(ctx, &connectpb.ConfigRequest_Operation{OpType: &connectpb.ConfigRequest_Operation_Set{Set: set}}); err != nil {
			return nil, err
		}
	}
	if len(unset.Keys) > 0 {
		if _, err := s.config(ctx, &connectpb.ConfigRequest_Operation{OpType: &connectpb.ConfigRequest_Operation_Unset{Unset: unset}}); err != nil {
			return nil, err
		}
	}
	return before, nil
}

// TableSchema implements engines.Session. It analyses a named table and never text, because a 3.5 server executes
// commands that it is asked to analyse.
func (s *session) TableSchema(ctx context.Context, parts ...string) ([]engines.TableColumn, error) {
	table := &connectpb.Read_NamedTable{UnparsedIdentifier: engines.QuoteName(parts...)}
	read := &connectpb.Relation{RelType: &connectpb.Relation_Read{Read: &connectpb.Read{ReadType: &connectpb.Read_NamedTable_{NamedTable: table}}}}
	resp, err := s.rpc.AnalyzePlan(ctx, &connectpb.AnalyzePlanRequest{
		SessionId: s.id, UserContext: s.user, ClientType: clientType,
		ClientObservedServerSideSessionId: s.server.Load(),
		Analyze: &connectpb.AnalyzePlanRequest_Schema_{Schema: &connectpb.AnalyzePlanRequest_Schema{
			Plan: &connectpb.Plan{OpType: &connectpb.Plan_Root{Root: read}}}},
	})
	if err != nil {
		return nil, s.translate(err)
	}
	return tableColumns(resp.GetSchema().GetSchema().GetStruct()), nil
}

// Close releases the session and everything that runs in it. A 3.5 server lacks the call; there it is interrupted and
// forgotten in the end.
func (s *session) Close(ctx context.Context) error {
	if s.roster != nil {
		s.roster.remove(s)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := s.rpc.ReleaseSession(ctx, &connectpb.ReleaseSessionRequest{SessionId: s.id, UserContext: s.user, ClientType: clientType})
	if status.Code(err) == codes.Unimplemented {
		_, err = s.rpc.Interrupt(ctx, &connectpb.InterruptRequest{
			SessionId: s.id, UserContext: s.user, ClientType: clientType,
			InterruptType: connectpb.InterruptRequest_INTERRUPT_TYPE_ALL,
		})
	}
	return s.translate(err)
}
